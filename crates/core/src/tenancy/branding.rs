//! How a tenant shows itself to its buyers and people: name, logo and colours, in mails and on pages.

use crate::error::{ErrorCode, Fault};
use crate::tenancy::tier::Tier;
use core::fmt;
use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// The most characters of a name.
pub const BRAND_NAME_MAX: usize = 40;
/// The most bytes of a logo's URL.
pub const LOGO_URL_MAX: usize = 2_048;

/// A name of letters, digits, spaces and `& ' ( ) + , - . !`: a stranger reads it in a mail, so it can hold no link and
/// no address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BrandName(String);

impl BrandName {
    /// Reads 1 to 40 characters, without spaces at the ends.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |letter: char| letter.is_alphanumeric() || " &'()+,-.!".contains(letter);
        let length = text.chars().count();
        let fits = (1..=BRAND_NAME_MAX).contains(&length) && text.trim() == text;
        (fits && text.chars().all(allowed)).then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for BrandName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// The `https` URL of a picture: a host by its name, on the usual port, without user and fragment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LogoUrl(String);

impl LogoUrl {
    /// Reads a URL that is written as browsers write it: text that the parser would mend is refused.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > LOGO_URL_MAX
            || text.contains(|letter: char| !letter.is_ascii_graphic() || "\"'<>\\".contains(letter))
        {
            return None;
        }
        let url = Url::parse(text).ok()?;
        let named = matches!(url.host(), Some(Host::Domain(name)) if name.trim_end_matches('.').contains('.'));
        let bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
        let is_whole = url.scheme() == "https" && url.port().is_none() && named && bare && url.as_str() == text;
        is_whole.then(|| Self(text.to_owned()))
    }
}

impl fmt::Display for LogoUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// A colour, written `#rrggbb` in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Color([u8; 3]);

impl Color {
    /// Reads `#` and six hex digits of any case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0_u8; 3];
        hex::decode_to_slice(text.strip_prefix('#')?, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

impl fmt::Display for Color {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "#{}", hex::encode(self.0))
    }
}

/// Text forms of the values above: they are stored as they are written.
macro_rules! as_text {
    ($($value:ident)+) => {$(
        impl TryFrom<String> for $value {
            type Error = &'static str;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::parse(&text).ok_or(concat!("not of the form of a ", stringify!($value)))
            }
        }

        impl From<$value> for String {
            fn from(value: $value) -> Self {
                value.to_string()
            }
        }
    )+};
}

as_text! { BrandName LogoUrl Color }

/// A tenant's own appearance; `None`: the service's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branding {
    /// The name that buyers and people read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<BrandName>,
    /// The logo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logo_url: Option<LogoUrl>,
    /// The colour of buttons and links.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary_color: Option<Color>,
    /// The colour behind the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background_color: Option<Color>,
}

/// The branding that is shown: a tier without branding shows none, and what is stored comes back with the tier.
#[must_use]
pub fn branding_shown(tier: Tier, stored: Option<Branding>) -> Option<Branding> {
    stored.filter(|_| tier.plan().branding)
}

/// Checks whether a tier includes branding.
///
/// # Errors
/// `NOT_IN_TIER`, which another tier would allow.
pub fn check_branding_tier(tier: Tier) -> Result<(), Fault> {
    if tier.plan().branding {
        return Ok(());
    }
    let detail = format!("the tier '{}' does not include branding", tier.plan().name);
    Err(Fault::new(ErrorCode::NotInTier, detail).upgradable().at("branding"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenancy::tier::PLANS;
    use proptest::prelude::*;

    #[test]
    fn a_name_holds_no_link_and_no_markup() {
        for good in ["Ann", "Ann & Söhne (Köln)", "O'Neill, Inc.", "株式会社", "A"] {
            assert_eq!(BrandName::parse(good).map(|name| name.to_string()).as_deref(), Some(good));
        }
        let long = "a".repeat(41);
        for wrong in
            ["", " Ann", "Ann ", "a@b", "http://a", "a/b", "<b>", "a\nb", "a\u{202e}b", "a\u{200b}", "\"", &long]
        {
            assert_eq!(BrandName::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_logo_is_a_whole_https_url_of_a_named_host() {
        for good in ["https://cdn.example/logo.png", "https://a.b.example/x/y.svg?v=2&w=%20"] {
            assert_eq!(LogoUrl::parse(good).map(|url| url.to_string()).as_deref(), Some(good));
        }
        let long = format!("https://a.example/{}", "a".repeat(LOGO_URL_MAX));
        for wrong in [
            "http://a.example/l.png",
            "javascript:alert(1)",
            "data:image/png;base64,AA",
            "//a.example/l",
            "https:/a.example/l",
            "https://a.example",
            "https://A.example/l",
            "https://u@a.example/l",
            "https://u:p@a.example/l",
            "https://a.example:8443/l",
            "https://a.example:443/l",
            "https://127.0.0.1/l",
            "https://[::1]/l",
            "https://0x7f.1/l",
            "https://localhost/l",
            "https://a.example/l#x",
            "https://a.example/\"><script>",
            "https://a.example/a b",
            "https://a.example/../l",
            "https://a.example\\l",
            "https://münchen.example/l",
            &long,
        ] {
            assert_eq!(LogoUrl::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_color_is_six_hex_digits() {
        assert_eq!(Color::parse("#00FFaa").map(|color| color.to_string()).as_deref(), Some("#00ffaa"));
        for wrong in ["", "#", "00ffaa", "#0fa", "#00ffaa0", "#00ffag", "red", "#00ffaa;"] {
            assert_eq!(Color::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn stored_branding_reads_back_and_nothing_else_does() {
        let branding = Branding {
            name: BrandName::parse("Ann"),
            logo_url: LogoUrl::parse("https://a.example/l.png"),
            primary_color: Color::parse("#112233"),
            background_color: None,
        };
        let text = serde_json::to_string(&branding).expect("JSON");
        assert_eq!(text, r##"{"name":"Ann","logo_url":"https://a.example/l.png","primary_color":"#112233"}"##);
        assert_eq!(serde_json::from_str::<Branding>(&text).expect("read"), branding);
        assert_eq!(serde_json::from_str::<Branding>("{}").expect("read"), Branding::default());
        for wrong in [r#"{"name":"<b>"}"#, r#"{"logo_url":"http://a.example/"}"#, r#"{"primary_color":"red"}"#] {
            assert!(serde_json::from_str::<Branding>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_tier_without_branding_shows_none_and_names_a_larger_one() {
        for plan in PLANS {
            let stored = Some(Branding { name: BrandName::parse("Ann"), ..Branding::default() });
            assert_eq!(branding_shown(plan.tier, stored.clone()).is_some(), plan.branding);
            match check_branding_tier(plan.tier) {
                Ok(()) => assert!(plan.branding),
                Err(fault) => assert!(!plan.branding && fault.upgrade && fault.code == ErrorCode::NotInTier),
            }
        }
        assert_eq!(PLANS.iter().filter(|plan| plan.branding).count(), 2, "pro and enterprise");
    }

    proptest! {
        #[test]
        fn what_is_read_is_harmless_in_markup(text in "\\PC{0,60}") {
            for read in [
                BrandName::parse(&text).map(|value| value.to_string()),
                LogoUrl::parse(&text).map(|value| value.to_string()),
                Color::parse(&text).map(|value| value.to_string()),
            ].into_iter().flatten() {
                prop_assert!(!read.contains(|letter: char| "<>\"\\".contains(letter) || letter.is_control()));
            }
        }
    }
}

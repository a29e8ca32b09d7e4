//! Addresses that a tenant gives and the service calls: `https` URLs of public hosts. They must not lead into a private
//! network (server-side request forgery), so a host is a name of the public DNS: no IP address in any spelling, no single
//! label, and none of the names that are kept for private use. A public name may still point to a private address; a
//! Worker cannot pin the address that `fetch` connects to.

use url::{Host, Position, Url};

/// The most characters of an address.
pub const PUBLIC_URL_MAX: usize = 2_048;
/// The most characters of a host's name (RFC 1035, section 2.3.4).
pub const HOST_MAX: usize = 253;
/// Names that are not of the public DNS: RFC 6761, RFC 6762, RFC 8375, and ICANN's `internal`.
const PRIVATE_ENDS: [&str; 5] = ["localhost", "local", "localdomain", "internal", "home.arpa"];

/// An address of a public host, on port 443.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicUrl(Url);

impl PublicUrl {
    /// Reads an `https` URL without user, password and fragment. Text that the parser would mend is refused, so that what a
    /// person reads is what is called.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_plain = |letter: char| letter.is_ascii_graphic() && !"\"'<>\\^`{|}".contains(letter);
        let after = text.strip_prefix("https://")?;
        if text.len() > PUBLIC_URL_MAX || after.starts_with('/') || !text.chars().all(is_plain) {
            return None;
        }
        // The parser drops an empty user.
        let authority = after.split(['/', '?', '#']).next().unwrap_or_default();
        let url = Url::parse(text).ok()?;
        let is_named = matches!(url.host(), Some(Host::Domain(name)) if is_public_host(name));
        let is_whole = !authority.contains(['@', '%']) && url.port().is_none() && url.fragment().is_none();
        (is_named && is_whole).then_some(Self(url))
    }

    /// The address as it is called.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The host's name, in lower case.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// Whether the address has a query.
    #[must_use]
    pub fn has_query(&self) -> bool {
        self.0.query().is_some()
    }

    /// Whether the address is of this origin, as `https://pay.example`.
    #[must_use]
    pub fn is_at(&self, origin: &str) -> bool {
        let of = Url::parse(origin).ok();
        of.is_some_and(|of| of[Position::BeforeHost..Position::AfterHost].eq_ignore_ascii_case(self.host()))
    }
}

/// Whether a text is a name of the public DNS, in lower case: two labels or more of letters, digits and hyphens.
#[must_use]
pub fn is_public_host(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_private = PRIVATE_ENDS
        .iter()
        .any(|end| name.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')));
    // The last label of an IPv4 address is a number in any spelling.
    let ends_in_number = name.rsplit('.').next().is_some_and(|last| last.starts_with(|c: char| c.is_ascii_digit()));
    name.len() <= HOST_MAX && name.contains('.') && name.split('.').all(is_label) && !is_private && !ends_in_number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_host_is_called_by_its_name() {
        for good in [
            "https://idp.example",
            "https://idp.example/",
            "https://IDP.example/a/b?c=d&e=%20",
            "https://xn--bcher-kva.example/x",
            "https://a-1.b2.example:443/x",
            "https://internal.example/x",
            "https://local.host.example",
        ] {
            let read = PublicUrl::parse(good).unwrap_or_else(|| panic!("{good}"));
            assert_eq!(read.host(), read.host().to_lowercase());
        }
    }

    /// Texts that are no address of a public host, by what is wrong with them.
    const WRONG: &[(&str, &[&str])] = &[
        ("no URL", &["", "idp.example", "//idp.example/", "https:/idp.example/", "https:///idp.example/", "https://"]),
        (
            "another scheme",
            &["http://idp.example/", "HTTPS://idp.example/", "ftp://idp.example/", "javascript:alert(1)"],
        ),
        ("what the parser mends", &["https:idp.example/", "https:\\\\idp.example\\", "https://idp\n.example/"]),
        ("space", &[" https://idp.example/", "https://idp.example/ ", "https://idp.example/\t"]),
        ("user", &["https://user@idp.example/", "https://user:word@idp.example/", "https://idp.example@127.0.0.1/"]),
        ("empty user", &["https://@idp.example/", "https://:@idp.example/"]),
        ("port", &["https://idp.example:8443/", "https://idp.example:80/", "https://idp.example:22/"]),
        ("fragment", &["https://idp.example/#x", "https://idp.example/#"]),
        ("single label", &["https://localhost/", "https://LOCALHOST/", "https://internal/", "https://idp/"]),
        (
            "reserved end",
            &[
                "https://a.localhost/",
                "https://printer.local/",
                "https://PRINTER.Local/",
                "https://a.localdomain/",
                "https://metadata.google.internal/",
                "https://home.arpa/",
                "https://router.home.arpa/",
            ],
        ),
        (
            "dot at the end",
            &["https://localhost./", "https://idp.example./", "https://127.0.0.1./", "https://a.local./"],
        ),
        (
            "dotted IPv4",
            &["https://127.0.0.1/", "https://169.254.169.254/latest", "https://8.8.8.8/", "https://1.2.3/"],
        ),
        ("short IPv4", &["https://127.1/", "https://127.0.1/"]),
        ("decimal IPv4", &["https://2130706433/", "https://0/"]),
        ("hex IPv4", &["https://0x7f000001/", "https://0X7F000001/", "https://0x7f.1/", "https://0x7f.0x0.0x0.0x1/"]),
        ("octal IPv4", &["https://0177.0.0.1/", "https://017700000001/", "https://0177.1/"]),
        ("mixed IPv4", &["https://0x7f.0.0.01/", "https://127.0x1/"]),
        ("IPv6", &["https://[::1]/", "https://[::]/", "https://[fd00::1]/", "https://[2606:4700:4700::1111]/"]),
        ("mapped IPv6", &["https://[::ffff:127.0.0.1]/", "https://[::ffff:7f00:1]/", "https://[64:ff9b::7f00:1]/"]),
        ("IPv6 with a zone", &["https://[fe80::1%25eth0]/", "https://[fe80::1%eth0]/"]),
        ("digits of other scripts", &["https://①②⑦.⓪.⓪.①/", "https://１２７.0.0.1/", "https://127。0。0。1/"]),
        ("escapes", &["https://%31%32%37.0.0.1/", "https://127%2e0%2e0%2e1/", "https://idp%2eexample/"]),
        ("international", &["https://bücher.example/", "https://ѕhop.example/", "https://idp．example/"]),
        ("no label", &["https://a_b.example/", "https://-a.example/", "https://a-.example/", "https://a..example/"]),
        ("empty label", &["https://.example/", "https://./"]),
    ];

    #[test]
    fn nothing_leads_into_a_private_network() {
        for (what, all) in WRONG {
            for wrong in *all {
                assert_eq!(PublicUrl::parse(wrong), None, "{what}: {wrong}");
            }
        }
        let long = format!("https://idp.example/{}", "a".repeat(PUBLIC_URL_MAX));
        let label = format!("https://{}.example/", "a".repeat(64));
        let name = format!("https://{}example/", "a.".repeat(125));
        for wrong in [long, label, name] {
            assert_eq!(PublicUrl::parse(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn our_own_host_is_known() {
        let url = PublicUrl::parse("https://Pay.example/x").expect("a URL");
        let with_port = PublicUrl::parse("https://pay.example:443/").expect("a URL");
        assert!(with_port.is_at("https://pay.example/") && with_port.is_at("https://PAY.example"));
        assert!(url.is_at("https://pay.example") && !url.is_at("https://a.pay.example") && !url.is_at("pay.example"));
    }

    #[test]
    fn a_domain_has_labels_and_is_not_private() {
        for good in ["a.example", "x--y.co", "a.b.c.d.example"] {
            assert!(is_public_host(good), "{good}");
        }
        for wrong in ["", ".", "a", "A.example", "a.example.", "local", "a.local", "a.b.home.arpa", "1.2.3.4", "a.1"] {
            assert!(!is_public_host(wrong), "{wrong}");
        }
    }
}

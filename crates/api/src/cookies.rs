//! Cookies: the session's, those that bind a code, or a sign-in by another service, to the browser that asked for it, and that
//! of a browser in which a person has signed in.
//!
//! The prefix `__Host-` (RFC 6265bis, section 4.1.3.2) keeps other hosts of the domain from setting them. `SameSite=Lax`,
//! since `Strict` would lose the session on the way back from a payment page.

use x402_core::people::secret::Secret;

/// A cookie of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieName {
    /// The session.
    Session,
    /// The browser that asked for a mail.
    SignIn,
    /// The browser that was sent to another service.
    Oauth,
    /// A browser in which a person has signed in ([`x402_core::people::known`]).
    Known,
}

impl CookieName {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "__Host-session",
            Self::SignIn => "__Host-sign-in",
            Self::Oauth => "__Host-oauth",
            Self::Known => "__Host-known",
        }
    }

    /// The value of `Set-Cookie` that sets the cookie, for so many milliseconds.
    #[must_use]
    pub fn set(self, secret: &Secret, keep_ms: u64) -> String {
        self.written(&secret.text(), keep_ms)
    }

    /// The value of `Set-Cookie` that removes the cookie.
    #[must_use]
    pub fn removal(self) -> String {
        self.written("", 0)
    }

    fn written(self, value: &str, keep_ms: u64) -> String {
        let (name, seconds) = (self.as_str(), keep_ms / 1_000);
        format!("{name}={value}; Max-Age={seconds}; Path=/; Secure; HttpOnly; SameSite=Lax")
    }
}

/// The cookies of ours in a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cookies {
    /// The session's secret.
    pub session: Option<Secret>,
    /// The secret of the browser that asked for a mail.
    pub sign_in: Option<Secret>,
    /// The secret of the browser that was sent to another service.
    pub oauth: Option<Secret>,
    /// That of a browser in which a person has signed in.
    pub known: Option<Secret>,
    /// Whether there is a cookie of ours, readable or not.
    pub has_any: bool,
}

impl Cookies {
    /// Reads the header `Cookie`. A name that comes twice has no value: a browser holds one cookie of a `__Host-` name, so
    /// another host of the domain has set the second.
    ///
    /// Only space and tab surround a pair (RFC 6265, section 4.2.1). A cookie whose name begins with other white space, as
    /// U+2000, lacks the protection of the prefix: it is another name.
    #[must_use]
    pub fn read(header: &str) -> Self {
        let mut cookies = Self::default();
        let mut is_seen = [false; 4];
        let pairs = header.split(';').filter_map(|pair| pair.trim_matches([' ', '\t']).split_once('='));
        for (name, value) in pairs {
            let [session, sign_in, oauth, known] = &mut is_seen;
            let (place, is_seen) = if name == CookieName::Session.as_str() {
                (&mut cookies.session, session)
            } else if name == CookieName::SignIn.as_str() {
                (&mut cookies.sign_in, sign_in)
            } else if name == CookieName::Oauth.as_str() {
                (&mut cookies.oauth, oauth)
            } else if name == CookieName::Known.as_str() {
                (&mut cookies.known, known)
            } else {
                continue;
            };
            cookies.has_any = true;
            *place = if *is_seen { None } else { Secret::parse(value) };
            *is_seen = true;
        }
        cookies
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [CookieName; 4] = [CookieName::Session, CookieName::SignIn, CookieName::Oauth, CookieName::Known];

    #[test]
    fn a_cookie_is_read_as_it_was_set() {
        let (one, two) = (Secret::new([1; 32]), Secret::new([2; 32]));
        let set = CookieName::Session.set(&one, 1_209_600_000);
        assert_eq!(
            set,
            format!("__Host-session={}; Max-Age=1209600; Path=/; Secure; HttpOnly; SameSite=Lax", "01".repeat(32))
        );
        assert_eq!(CookieName::SignIn.removal(), "__Host-sign-in=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Lax");
        let header = format!("a=b; __Host-sign-in={};__Host-session={}", two.text(), one.text());
        let read = Cookies::read(&header);
        assert_eq!((read.session, read.sign_in, read.has_any), (Some(one), Some(two), true));
    }

    #[test]
    fn other_cookies_are_none_of_ours() {
        let secret = Secret::new([1; 32]).text();
        for header in ["", "a=b", "__Host-session", &format!("session={secret}"), &format!("__host-session={secret}")] {
            let read = Cookies::read(header);
            assert!(read.session.is_none() && !read.has_any, "{header}");
        }
        let read = Cookies::read("__Host-session=abc");
        assert!(read.session.is_none() && read.has_any);
    }

    #[test]
    fn a_name_after_other_white_space_is_another_name() {
        let (thief, own) = (Secret::new([1; 32]), Secret::new([2; 32]));
        for space in ["\u{2000}", "\u{a0}", "\u{85}", "\u{3000}", "\u{b}", "\u{c}", "\r", "\n", "\u{feff}"] {
            for name in NAMES.map(CookieName::as_str) {
                let header = format!("{space}{name}={}; {name}={}", thief.text(), own.text());
                let read = Cookies::read(&header);
                assert_eq!(read.session.or(read.sign_in).or(read.oauth).or(read.known), Some(own), "{header:?}");
                assert!(!Cookies::read(&format!("{space}{name}={}", thief.text())).has_any);
            }
        }
        let read = Cookies::read(&format!("\t __Host-session={} \t; a=b", own.text()));
        assert_eq!(read.session, Some(own), "space and tab surround a pair");
    }

    #[test]
    fn a_name_that_comes_twice_has_no_value() {
        let (one, two) = (Secret::new([1; 32]).text(), Secret::new([2; 32]).text());
        for name in NAMES.map(CookieName::as_str) {
            for values in [[&*one, &*two], [&*one, &*one], ["", &*one], [&*one, ""]] {
                let header = values.map(|value| format!("{name}={value}")).join("; ");
                let read = Cookies::read(&format!("{header}; {name}={two}"));
                assert_eq!(
                    (read.session, read.sign_in, read.oauth.or(read.known), read.has_any),
                    (None, None, None, true),
                    "{header}"
                );
                let read = Cookies::read(&header);
                assert_eq!(
                    (read.session, read.sign_in, read.oauth.or(read.known), read.has_any),
                    (None, None, None, true),
                    "{header}"
                );
            }
        }
    }
}

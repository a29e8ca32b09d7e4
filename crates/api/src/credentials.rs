//! The credentials of a request: one key, in the path or in a header.

use x402_core::error::{ErrorCode, Fault};
use x402_core::tenancy::admission::invalid_key;
use x402_core::tenancy::key;
use x402_core::tenancy::key::{Caller, KeyKind};

/// The texts in the places where a request may carry a key; not checked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Credentials<'a> {
    /// The key in the path, under `/facilitator/k/`.
    pub path: Option<&'a str>,
    /// The header `Authorization`, with its scheme.
    pub authorization: Option<&'a str>,
    /// The header `x-api-key`: counts without `Authorization`.
    pub api_key: Option<&'a str>,
    /// The header `x-secret-key`: counts without the two above.
    pub secret_key: Option<&'a str>,
}

impl Credentials<'_> {
    /// Whether the request carries no credential at all.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.path.is_none() && self.authorization.is_none() && self.header_keys().all(|key| key.is_none())
    }

    /// The headers that hold only a key. An empty one, such as from an unset variable, counts as absent.
    fn header_keys(&self) -> impl Iterator<Item = Option<&str>> {
        [self.api_key, self.secret_key].into_iter().map(|key| key.filter(|key| !key.trim().is_empty()))
    }

    /// The tenant and key that the credentials name, checked without I/O. A key in the path must be of the kind `url`,
    /// one in a header of the kind `bearer`; the same key may come in several places.
    ///
    /// # Errors
    /// `INVALID_API_KEY` where there is none, where it is not genuine, and where two of them differ.
    pub fn caller(&self, peppers: &[[u8; 32]]) -> Result<Caller, Fault> {
        let bearer = self.authorization.map(bearer).transpose()?;
        let mut given = [self.path, bearer].into_iter().chain(self.header_keys()).flatten().map(str::trim);
        let first = given.next().ok_or_else(invalid_key)?;
        if given.any(|other| other != first) {
            return Err(Fault::new(ErrorCode::InvalidApiKey, "the request carries two different API keys: send one"));
        }
        let kind = if self.path.is_some() { KeyKind::Url } else { KeyKind::Bearer };
        key::read(first, kind, peppers).ok_or_else(invalid_key)
    }
}

/// The key of an `Authorization` header.
fn bearer(authorization: &str) -> Result<&str, Fault> {
    let (scheme, key) = authorization.split_once(' ').ok_or_else(invalid_key)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(key) } else { Err(invalid_key()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use x402_chain::id::TenantId;
    use x402_chain::network::Environment;

    const PEPPERS: [[u8; 32]; 1] = [[1; 32]];

    fn issue(kind: KeyKind, tenant: u8) -> String {
        key::issue(TenantId([tenant; 12]), (kind, Environment::Test), [9; 24], &PEPPERS).expect("a pepper is given")
    }

    fn tenant(given: &Credentials<'_>) -> Option<u8> {
        given
            .caller(&PEPPERS)
            .map_err(|fault| assert_eq!(fault.code, ErrorCode::InvalidApiKey))
            .ok()
            .map(|it| it.tenant.0[0])
    }

    #[test]
    fn a_key_may_come_in_any_of_three_headers() {
        let key = issue(KeyKind::Bearer, 1);
        let authorization = format!("bearer  {key}");
        let none = Credentials::default();
        for given in [
            Credentials { authorization: Some(&authorization), ..none },
            Credentials { api_key: Some(&key), ..none },
            Credentials { secret_key: Some(&key), ..none },
            Credentials { authorization: Some(&authorization), api_key: Some(&key), secret_key: Some(&key), ..none },
        ] {
            assert_eq!(tenant(&given), Some(1), "{given:?}");
        }
        assert!(none.is_none());
        let unset = Credentials { api_key: Some(""), secret_key: Some(" "), ..none };
        assert!(unset.is_none());
        assert_eq!(tenant(&Credentials { authorization: Some(&authorization), ..unset }), Some(1));
        assert_eq!(tenant(&none), None);
    }

    #[test]
    fn two_different_keys_are_refused_wherever_they_stand() {
        let (one, two) = (issue(KeyKind::Bearer, 1), issue(KeyKind::Bearer, 2));
        let authorization = format!("Bearer {one}");
        let none = Credentials::default();
        for given in [
            Credentials { authorization: Some(&authorization), api_key: Some(&two), ..none },
            Credentials { authorization: Some(&authorization), secret_key: Some("other"), ..none },
            Credentials { api_key: Some(&one), secret_key: Some(&two), ..none },
            Credentials { authorization: Some("Basic eDp5"), api_key: Some(&one), ..none },
            Credentials { authorization: Some(""), api_key: Some(&one), ..none },
        ] {
            assert_eq!(tenant(&given), None, "{given:?}");
        }
    }

    #[test]
    fn a_key_counts_only_in_the_place_of_its_kind() {
        let (bearer, url) = (issue(KeyKind::Bearer, 1), issue(KeyKind::Url, 1));
        let authorization = format!("Bearer {url}");
        let none = Credentials::default();
        assert_eq!(tenant(&Credentials { path: Some(&url), ..none }), Some(1));
        assert_eq!(tenant(&Credentials { path: Some(&url), secret_key: Some(&url), ..none }), Some(1));
        for given in [
            Credentials { path: Some(&bearer), ..none },
            Credentials { path: Some(""), ..none },
            Credentials { path: Some(&url), api_key: Some(&bearer), ..none },
            Credentials { authorization: Some(&authorization), ..none },
            Credentials { api_key: Some(&url), ..none },
            Credentials { secret_key: Some(&url), ..none },
        ] {
            assert_eq!(tenant(&given), None, "{given:?}");
        }
    }
}

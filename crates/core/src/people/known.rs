//! Browsers in which a person has signed in. What strangers ask for does not bound them; the cookie opens nothing.
//!
//! The cookie is 16 random bytes and the first 16 bytes of an HMAC over them and the address, so that nothing is stored of it
//! and nobody makes one without a pepper.

use super::secret::Secret;

/// How long a browser is known after its last sign-in: 180 days.
pub const KNOWN_MS: u64 = 180 * 24 * 60 * 60 * 1_000;

/// The cookie of a browser in which the person with this address signs in. `None` only where the platform's HMAC takes no key
/// of 32 bytes.
#[must_use]
pub fn known_browser(random: [u8; 16], email: &str, pepper: &[u8; 32]) -> Option<Secret> {
    let mac = Secret::derived(pepper, "x402 known browser", &format!("{}{email}", hex::encode(random)))?;
    let mut bytes = [0_u8; 32];
    let made = random.into_iter().chain(mac.bytes().iter().copied());
    bytes.iter_mut().zip(made).for_each(|(byte, made)| *byte = made);
    Some(Secret::new(bytes))
}

/// Whether a cookie is that of a browser in which the person with this address has signed in, under one of the peppers.
#[must_use]
pub fn is_known(cookie: &Secret, email: &str, peppers: &[[u8; 32]]) -> bool {
    let mut random = [0_u8; 16];
    random.iter_mut().zip(cookie.bytes()).for_each(|(byte, given)| *byte = *given);
    peppers.iter().filter_map(|pepper| known_browser(random, email, pepper)).any(|made| made == *cookie)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_is_known_for_its_person_alone() {
        let (old, new) = ([1; 32], [2; 32]);
        let cookie = known_browser([7; 16], "ann@example.test", &old).expect("made");
        assert!(is_known(&cookie, "ann@example.test", &[new, old]));
        assert!(!is_known(&cookie, "bob@example.test", &[new, old]) && !is_known(&cookie, "ann@example.test", &[new]));
        assert_ne!(cookie, known_browser([8; 16], "ann@example.test", &old).expect("made"));
        for forged in [[0; 32], [7; 32]] {
            assert!(!is_known(&Secret::new(forged), "ann@example.test", &[old]));
        }
    }
}

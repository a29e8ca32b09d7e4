//! The signature of Stripe's webhooks (<https://docs.stripe.com/webhooks/signature>). Other than Standard Webhooks, the whole text
//! of the secret is the key, and the signature is hex.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use x402_chain::time::UnixMillis;

/// How far the signature's time may be from ours, seconds.
const TOLERANCE_S: u64 = 300;
/// The most signatures that are compared: two secrets are in force while one replaces another.
const SIGNATURES_MAX: usize = 8;

/// Whether a body was signed by one of the secrets within five minutes. `header` is `Stripe-Signature`: `t=` and the seconds
/// since 1970, and any number of `v1=` with HMAC-SHA256 over `t.body`; other schemes do not count. Compared in constant time.
#[must_use]
pub fn is_signed(header: &str, body: &[u8], secrets: &[String], now: UnixMillis) -> bool {
    let parts = || header.split(',').filter_map(|part| part.trim().split_once('='));
    let Some((_, timestamp)) = parts().find(|(name, _)| *name == "t") else { return false };
    let Ok(sent) = timestamp.parse::<u64>() else { return false };
    if sent.abs_diff(now.0 / 1_000) > TOLERANCE_S {
        return false;
    }
    let given = parts().filter(|(name, _)| *name == "v1").take(SIGNATURES_MAX);
    let given: Vec<Vec<u8>> = given.filter_map(|(_, text)| hex::decode(text).ok()).collect();
    secrets.iter().any(|secret| {
        let Ok(mut mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(secret.as_bytes()) else { return false };
        for part in [timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        given.iter().any(|tag| mac.clone().verify_slice(tag).is_ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_test_secret";
    const BODY: &[u8] = br#"{"id":"evt_1"}"#;
    const NOW: UnixMillis = UnixMillis(1_795_910_400_000);

    fn tag(secret: &str, timestamp: &str) -> String {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(secret.as_bytes()).expect("a key");
        mac.update(timestamp.as_bytes());
        mac.update(b".");
        mac.update(BODY);
        hex::encode(mac.finalize().into_bytes())
    }

    #[track_caller]
    fn check(header: &str, want: bool) {
        assert_eq!(is_signed(header, BODY, &[SECRET.to_owned()], NOW), want, "{header}");
    }

    #[test]
    fn any_v1_counts_and_nothing_else() {
        let (at, good) = ("1795910400", tag(SECRET, "1795910400"));
        check(&format!("t={at},v1={good}"), true);
        check(&format!("t={at},v1=00,v1={good},v0=11"), true);
        check(&format!("t={at}, v1={good}"), true);
        check(&format!("t={at},v0={good}"), false);
        check(&format!("t={at},v1={}", tag("whsec_other", at)), false);
        check(&format!("t={at},v1={}", &good[..62]), false);
        for wrong in ["", "t=", "v1=", &format!("v1={good}"), &format!("t={at}"), &format!("t=x,v1={good}")] {
            check(wrong, false);
        }
    }

    #[test]
    fn a_signature_holds_for_five_minutes() {
        let of = |at: u64| format!("t={at},v1={}", tag(SECRET, &at.to_string()));
        for (at, want) in [(-301, false), (-300, true), (300, true), (301, false)] {
            check(&of(1_795_910_400_u64.checked_add_signed(at).expect("a time")), want);
        }
    }

    #[test]
    fn each_secret_in_force_counts() {
        let at = "1795910400";
        let header = format!("t={at},v1={}", tag("whsec_old", at));
        let secrets = ["whsec_new".to_owned(), "whsec_old".to_owned()];
        assert!(is_signed(&header, BODY, &secrets, NOW));
        assert!(!is_signed(&header, BODY, &[], NOW));
    }
}

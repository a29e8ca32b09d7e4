//! Where operators are alerted.

use super::Setting;
use super::provider::is_address;
use sha2::{Digest, Sha256};

const ALERT_URL: &str = "OPERATOR_ALERT_URL";
const MAIL: &str = "OPERATOR_MAIL";
const METRICS_TOKEN: &str = "METRICS_TOKEN";

/// The row of `OPERATOR_ALERT_URL`.
pub(super) const ALERT_URL_ROW: Setting = Setting {
    name: ALERT_URL,
    secret: true,
    required: false,
    default: "none: operators read `/v1/admin/alerts`",
    meaning: "A Slack-compatible webhook to which operators' alerts are posted as `{\"text\": …}`: an `https` URL (`http` on \
              loopback).",
};
/// The row of `OPERATOR_MAIL`.
pub(super) const MAIL_ROW: Setting = Setting {
    name: MAIL,
    secret: false,
    required: false,
    default: "none: operators get no mails",
    meaning: "The mail address to which operators' alerts are sent, where `MAIL_BACKEND` is set.",
};

/// The row of `METRICS_TOKEN`.
pub(super) const METRICS_ROW: Setting = Setting {
    name: METRICS_TOKEN,
    secret: true,
    required: false,
    default: "none: `/metrics` answers 503",
    meaning: "The bearer token with which Prometheus reads `/metrics`; at least 32 characters.",
};

/// The least length of the token of metrics, in characters.
const TOKEN_MIN: usize = 32;
/// The most bytes of an address (RFC 5321, section 4.5.3.1.3, without the angle brackets).
const ADDRESS_MAX: usize = 254;

/// Where operators are alerted.
#[derive(Default)]
pub(super) struct OperatorSettings {
    pub(super) alert_url: Option<String>,
    pub(super) mail: Option<String>,
    /// The SHA-256 of the token of metrics.
    pub(super) metrics_token: Option<[u8; 32]>,
}

impl OperatorSettings {
    /// Reads them.
    pub(super) fn read(get: &impl Fn(&str) -> Option<String>, wrong: &mut impl FnMut(&str, &'static str)) -> Self {
        let (alert_url, mail) = (get(ALERT_URL), get(MAIL));
        if alert_url.as_deref().is_some_and(|url| !is_address(url) || url.contains(['@', '#'])) {
            wrong(ALERT_URL, "must be an https URL (http on loopback), without user, password and fragment");
        }
        let is_mail = |text: &str| {
            let parts = text.split_once('@').is_some_and(|(name, host)| !name.is_empty() && host.contains('.'));
            parts && text.len() <= ADDRESS_MAX && text.matches('@').count() == 1 && !text.contains(char::is_whitespace)
        };
        if mail.as_deref().is_some_and(|text| !is_mail(text)) {
            wrong(MAIL, "must be one mail address, as name@example.com");
        }
        let token = get(METRICS_TOKEN);
        if token.as_deref().is_some_and(|text| text.chars().count() < TOKEN_MIN) {
            wrong(METRICS_TOKEN, "must have at least 32 characters");
        }
        Self { alert_url, mail, metrics_token: token.map(|text| Sha256::digest(text.as_bytes()).into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &'static str, value: &str, is_right: bool) {
        let get = |each: &str| (each == name).then(|| value.to_owned());
        let mut found = Vec::new();
        OperatorSettings::read(&get, &mut |name: &str, _| found.push(name.to_owned()));
        assert_eq!(found.is_empty(), is_right, "{name} {value}");
    }

    #[test]
    fn a_token_of_metrics_is_long() {
        check(METRICS_TOKEN, &"t".repeat(TOKEN_MIN), true);
        check(METRICS_TOKEN, &"t".repeat(TOKEN_MIN.saturating_sub(1)), false);
    }

    #[test]
    fn an_address_is_one_that_can_be_reached() {
        check(ALERT_URL, "https://hooks.slack.example/services/T/B/x", true);
        check(ALERT_URL, "http://127.0.0.1:9/x", true);
        for wrong in
            ["http://hooks.slack.example/x", "hooks.slack.example", "https://a:b@hooks.example/", "https://a.b/#x"]
        {
            check(ALERT_URL, wrong, false);
        }
        check(MAIL, "ops@pay.example", true);
        for wrong in ["ops", "ops@", "@pay.example", "a b@pay.example", "a@pay.example,b@pay.example", "ops@localhost"]
        {
            check(MAIL, wrong, false);
        }
    }
}

//! Where errors are reported.

pub mod dsn;
pub mod secrets;

use super::{Setting, Settings};
use crate::sentry::limits::parse_share;
use dsn::SentryDsn;

const DSN: &str = "SENTRY_DSN";
const ENVIRONMENT: &str = "SENTRY_ENVIRONMENT";
const SAMPLE_RATE: &str = "SENTRY_SAMPLE_RATE";
const ENVIRONMENT_DEFAULT: &str = "production";
const SAMPLE_RATE_DEFAULT: &str = "1";
/// The most characters of an environment's name, as Sentry takes it.
const ENVIRONMENT_MAX: usize = 64;

/// The rows about Sentry.
pub(super) const ROWS: [Setting; 3] = [
    Setting {
        name: DSN,
        secret: true,
        required: false,
        default: "none: no errors are sent",
        meaning: "The DSN of a project at Sentry, or at a service with its protocol, to which errors are sent: \
                  `https://<key>@<host>/<project>` (`http` on loopback).",
    },
    Setting {
        name: ENVIRONMENT,
        secret: false,
        required: false,
        default: ENVIRONMENT_DEFAULT,
        meaning: "The environment that errors name at Sentry: letters, digits, `-`, `_` and `.`.",
    },
    Setting {
        name: SAMPLE_RATE,
        secret: false,
        required: false,
        default: SAMPLE_RATE_DEFAULT,
        meaning: "The share of errors that is sent, from `0` to `1` with at most three decimals; panics are always sent.",
    },
];

/// Where errors are reported.
pub struct SentrySettings {
    /// The project.
    pub dsn: SentryDsn,
    /// The environment that events name.
    pub environment: String,
    /// How many of a thousand errors are sent.
    pub sample_per_mille: u16,
}

/// Reads them; `None` without a DSN.
pub(super) fn read(
    get: &impl Fn(&str) -> Option<String>,
    wrong: &mut impl FnMut(&str, &'static str),
) -> Option<SentrySettings> {
    let text = get(DSN);
    let dsn = text.as_deref().and_then(SentryDsn::parse);
    if text.is_some() && dsn.is_none() {
        wrong(DSN, "must be https://<key>@<host>/<project> (http on loopback), of letters and digits");
    }
    let environment = get(ENVIRONMENT).unwrap_or_else(|| ENVIRONMENT_DEFAULT.to_owned());
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if environment.len() > ENVIRONMENT_MAX || !environment.bytes().all(is_name) {
        wrong(ENVIRONMENT, "must be at most 64 letters, digits, '-', '_' and '.'");
    }
    let sample_per_mille = parse_share(get(SAMPLE_RATE).as_deref().unwrap_or(SAMPLE_RATE_DEFAULT));
    if sample_per_mille.is_none() {
        wrong(SAMPLE_RATE, "must be a number from 0 to 1 with at most three decimals");
    }
    Some(SentrySettings { dsn: dsn?, environment, sample_per_mille: sample_per_mille? })
}

impl Settings {
    /// Where errors are reported; `None`: nowhere.
    #[must_use]
    pub const fn sentry(&self) -> Option<&SentrySettings> {
        self.sentry.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_with(name: &str, value: &str) -> (Option<SentrySettings>, Vec<String>) {
        let mut mistakes = Vec::new();
        let get = |each: &str| match each {
            _ if each == name => Some(value.to_owned()),
            DSN => Some("https://0a1b@sentry.example/42".to_owned()),
            _ => None,
        };
        let read = read(&get, &mut |name: &str, _| mistakes.push(name.to_owned()));
        (read, mistakes)
    }

    #[test]
    fn mistakes_are_named() {
        for (name, value, is_right) in [
            (DSN, "https://0a1b@sentry.example/42", true),
            (DSN, "https://sentry.example/42", false),
            (ENVIRONMENT, "staging", true),
            (ENVIRONMENT, "sta ging", false),
            (ENVIRONMENT, &"e".repeat(65), false),
            (SAMPLE_RATE, "0.25", true),
            (SAMPLE_RATE, "2", false),
        ] {
            let (read, mistakes) = read_with(name, value);
            assert_eq!(
                (read.is_some() || name == ENVIRONMENT, mistakes.is_empty()),
                (is_right || name == ENVIRONMENT, is_right),
                "{name} {value}"
            );
        }
        let (read, _) = read_with(SAMPLE_RATE, "0.25");
        assert_eq!(read.map(|read| (read.environment, read.sample_per_mille)), Some(("production".to_owned(), 250)));
    }
}

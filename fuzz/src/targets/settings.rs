//! The operator's settings.

use crate::properties::text;
use std::collections::BTreeMap;
use x402_chain::address::{Family, Xpub};
use x402_chain::signer::{EvmSigner, Signer, SvmSigner};
use x402_core::sentry::limits::parse_share;
use x402_core::settings::Settings;
use x402_core::settings::provider;
use x402_core::settings::sentry::dsn::SentryDsn;

/// Values of settings that are long enough to be secrets.
const SECRET_MIN: usize = 8;

/// Lines of `NAME=value`.
pub(crate) fn settings(input: &[u8]) -> bool {
    let Some(lines) = text(input) else { return false };
    let pairs: BTreeMap<&str, &str> = lines.lines().filter_map(|line| line.split_once('=')).collect();
    match Settings::read(|name| pairs.get(name).map(|value| (*value).to_owned())) {
        Ok(settings) => {
            assert_eq!(format!("{settings:?}"), "Settings(…)");
            for key in [pairs.get("ADMIN_KEY").copied().unwrap_or_default(), "", "x"] {
                assert_eq!(settings.is_admin_key(key), key.len() > 1);
                let token = pairs.get("METRICS_TOKEN").map(|token| token.trim()).filter(|token| !token.is_empty());
                assert_eq!(Settings::is_metrics_token(&settings, key), token.map(|token| token == key));
            }
            true
        }
        Err(mistakes) => {
            let shown: String = mistakes.iter().map(|mistake| format!("{mistake}\n")).collect();
            assert!(!mistakes.is_empty() && mistakes.len() <= 80, "{} mistakes", mistakes.len());
            let is_shown =
                |value: &&str| value.len() >= SECRET_MIN && shown.contains(*value) && !pairs.contains_key(*value);
            let names = |value: &&str| {
                value
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_uppercase() || b" ,_-:".contains(&byte))
            };
            assert_eq!(pairs.values().copied().find(|value| is_shown(value) && !names(value)), None, "{shown}");
            false
        }
    }
}

pub(crate) fn extended_key(input: &[u8]) -> bool {
    let Some(given) = text(input) else { return false };
    let Some(xpub) = Xpub::parse(given) else { return false };
    assert_eq!(format!("{xpub:?}"), "Xpub(…)");
    assert!(given.starts_with("xpub") && xpub.address(0) != xpub.address(1));
    assert!(xpub.address(0).is_some() && xpub.address(u32::MAX).is_none());
    true
}

pub(crate) fn signer(input: &[u8]) -> bool {
    let Some(given) = text(input) else { return false };
    let found = [Family::Evm, Family::Svm].into_iter().filter_map(|family| Signer::parse(family, given));
    let mut count = 0;
    for signer in found {
        assert_eq!(signer.evm().is_some(), EvmSigner::parse(given).is_some());
        assert_eq!(signer.svm().is_some(), SvmSigner::parse(given).is_some());
        assert!(!format!("{signer:?}").contains(given), "a key is shown");
        count += 1;
    }
    assert!(count <= 1, "a key of two families");
    count == 1
}

pub(crate) fn provider(input: &[u8]) -> bool {
    let Some(address) = text(input) else { return false };
    let access = provider::provider_access(address);
    let host = provider::host(address);
    assert!(!host.contains(['@', '/', '?', '#']) && !host.contains(char::is_whitespace), "{host}");
    if let Some(header) = &access.authorization {
        assert!(header.starts_with("Basic ") && header.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '));
        assert!(!access.url.contains('@'), "a password is left in the address");
    }
    !host.is_empty()
}

/// The share of events that are sent.
pub(crate) fn sentry_share(input: &[u8]) -> bool {
    let Some(share) = text(input).and_then(parse_share) else { return false };
    assert!(share <= 1_000 && input.len() <= 5, "{share}");
    true
}

/// The address of a Sentry project.
pub(crate) fn sentry_dsn(input: &[u8]) -> bool {
    let Some(dsn) = text(input).and_then(SentryDsn::parse) else { return false };
    let url = dsn.envelope_url();
    assert!(["https://", "http://"].iter().any(|scheme| url.starts_with(scheme)), "{url}");
    assert!(url.ends_with("/envelope/") && !url.contains(['?', '#', '@']), "{url}");
    assert!(url.chars().chain(dsn.authorization().chars()).all(|one| matches!(one, ' '..='~')), "{url}");
    true
}

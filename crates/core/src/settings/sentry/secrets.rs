//! The secrets of this deployment by their values: whatever form one has, no event holds it.

use crate::settings::SETTINGS;
use crate::settings::provider::host;
use x402_chain::network::{NETWORKS, rpc_setting};

/// The least length of a value that is looked for: a shorter one would stand in innocent words.
const LENGTH_MIN: usize = 8;
/// The least length of a part of a URL that may be a key.
const PART_MIN: usize = 16;

/// The values of all secret settings, and the parts of URLs that may be keys; the longest first.
#[must_use]
pub fn secret_values(get: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let own = SETTINGS.iter().filter(|setting| setting.secret).map(|setting| setting.name.to_owned());
    let names = own.chain(NETWORKS.iter().map(rpc_setting));
    let mut values: Vec<String> = names.filter_map(|name| get(&name)).flat_map(|value| values_in(&value)).collect();
    values.sort_unstable_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
    values.dedup();
    values
}

/// What is secret in one setting's value.
fn values_in(value: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in core::iter::once(value).chain(value.split(',')).map(str::trim) {
        found.push(part);
        found.extend(part.strip_prefix("0x"));
        if part.contains("://") {
            let host = host(part);
            let parts = part.split(['/', '@', ':', '?', '&', '=']);
            found.extend(parts.filter(|text| text.len() >= PART_MIN && !host.contains(text) && *text != host));
        }
    }
    found.into_iter().filter(|text| text.len() >= LENGTH_MIN).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_secret_setting_is_looked_for() {
        let secret = |name: &str| format!("the-secret-of-{name}");
        let values = secret_values(|name| Some(secret(name)));
        for setting in SETTINGS.iter().filter(|setting| setting.name != "RPC_<CHAIN>") {
            assert_eq!(values.contains(&secret(setting.name)), setting.secret, "{}", setting.name);
        }
        for network in NETWORKS {
            assert!(values.contains(&secret(&rpc_setting(network))), "{}", network.key);
        }
    }

    #[test]
    fn lists_and_urls_are_taken_apart() {
        let value =
            "https://user-of-the-node:a-long-password-1@base.node.example/v2/key0123456789abcdef,https://b.example";
        let values = secret_values(|name| (name == "RPC_BASE").then(|| value.to_owned()));
        for part in [value, "https://b.example", "key0123456789abcdef", "a-long-password-1"] {
            assert!(values.iter().any(|value| value == part), "{part}: {values:?}");
        }
        assert!(!values.iter().any(|value| value == "base.node.example"), "hosts are labels: {values:?}");
        let hex = format!("0x{}", "ab".repeat(32));
        let values = secret_values(|name| (name == "EVM_SIGNERS_LIVE").then(|| hex.clone()));
        assert_eq!(values, [hex.clone(), "ab".repeat(32)]);
    }
}

//! The sanctions list: the addresses on the US Treasury's SDN list, with the date of the list. If it is absent or
//! stale, each answer says so, and no payer counts as screened.

use serde::Deserialize;
use std::collections::BTreeSet;
use x402_chain::address::{Address, Family};
use x402_chain::collect::set_of;
use x402_chain::time::{DAY_MS, UnixMillis};

/// A list older than this is stale: the Treasury publishes several times a week, so it may lack an address
/// (docs/spec/chains.md#sanctions).
pub(crate) const STALE_AFTER_DAYS: u64 = 7;

/// The list that is built in, as `npm run sanctions` writes it.
const BUILTIN: &str = include_str!("../data/sanctions.json");

#[derive(Deserialize)]
struct SanctionsFile {
    list_date: String,
    evm: Vec<String>,
    solana: Vec<String>,
}

/// The listed addresses. EVM ones are compared as bytes, Solana ones in their exact case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SanctionsList {
    addresses: BTreeSet<Address>,
    date: UnixMillis,
}

/// Whether the list can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListFreshness {
    /// As new as it should be.
    Current,
    /// Older than [`STALE_AFTER_DAYS`].
    Stale {
        /// Whole days since the list was published.
        days: u64,
    },
    /// No list could be read: nobody is screened, and each answer says so.
    Absent,
}

impl SanctionsList {
    /// The list that is built in.
    #[must_use]
    pub fn builtin() -> Option<Self> {
        Self::parse(BUILTIN)
    }

    /// Reads a list. One invalid address makes the whole list unreadable, since a list that lacks it would let a listed
    /// payer pass.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let file: SanctionsFile = serde_json::from_str(text).ok()?;
        let date = UnixMillis::parse(&format!("{}T00:00:00Z", file.list_date))?;
        let evm = file.evm.iter().map(|text| Address::parse(Family::Evm, text));
        let solana = file.solana.iter().map(|text| Address::parse(Family::Svm, text));
        let addresses = set_of(evm.chain(solana).collect::<Option<Vec<Address>>>()?);
        (!addresses.is_empty()).then_some(Self { addresses, date })
    }

    /// Whether an address is on the list.
    #[must_use]
    pub(crate) fn contains(&self, address: &Address) -> bool {
        self.addresses.contains(address)
    }

    /// When the Treasury published it.
    #[must_use]
    pub const fn date(&self) -> UnixMillis {
        self.date
    }

    /// How many whole days old it is.
    #[must_use]
    pub(crate) const fn age_days(&self, now: UnixMillis) -> u64 {
        now.since(self.date) / DAY_MS
    }

    /// Whether it is older than [`STALE_AFTER_DAYS`].
    #[must_use]
    pub(crate) const fn is_stale(&self, now: UnixMillis) -> bool {
        self.age_days(now) > STALE_AFTER_DAYS
    }
}

/// Whether a list can be relied on, for health.
#[must_use]
pub fn list_freshness(list: Option<&SanctionsList>, now: UnixMillis) -> ListFreshness {
    match list {
        None => ListFreshness::Absent,
        Some(list) if list.is_stale(now) => ListFreshness::Stale { days: list.age_days(now) },
        Some(_) => ListFreshness::Current,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = "0x098b716b8aaf21512996dc57eb0615e2383e2f96";

    #[test]
    fn the_built_in_list_names_whom_it_lists() {
        let list = SanctionsList::builtin().expect("a readable list");
        let file: SanctionsFile = serde_json::from_str(BUILTIN).expect("JSON");
        assert_eq!(list.addresses.len(), file.evm.len() + file.solana.len());
        assert!(list.contains(&Address::parse(Family::Evm, LISTED).expect("an address")));
        for text in &file.solana {
            assert!(list.contains(&Address::parse(Family::Svm, text).expect("an address")), "{text}");
            let folded = Address::parse(Family::Svm, &text.to_lowercase());
            assert!(folded.is_none_or(|address| !list.contains(&address)), "{text}");
        }
    }

    #[test]
    fn a_list_with_one_bad_address_is_no_list() {
        let file = |evm: &str| format!(r#"{{"list_date":"2026-08-20","evm":["{LISTED}"{evm}],"solana":[]}}"#);
        assert!(SanctionsList::parse(&file("")).is_some());
        assert!(SanctionsList::parse(&file(r#","0x12""#)).is_none());
        assert!(SanctionsList::parse(r#"{"list_date":"2026-08-20","evm":[],"solana":[]}"#).is_none());
        assert!(SanctionsList::parse("").is_none());
    }

    #[test]
    fn a_list_ages() {
        let list = SanctionsList::parse(&format!(r#"{{"list_date":"2026-11-01","evm":["{LISTED}"],"solana":[]}}"#));
        let at = |day: &str| UnixMillis::parse(&format!("{day}T12:00:00Z")).expect("a time");
        assert_eq!(list_freshness(list.as_ref(), at("2026-11-08")), ListFreshness::Current);
        assert_eq!(list_freshness(list.as_ref(), at("2026-11-09")), ListFreshness::Stale { days: 8 });
        assert_eq!(list_freshness(None, at("2026-11-09")), ListFreshness::Absent);
    }
}

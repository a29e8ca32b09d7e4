//! How a tenant is rebuilt: a ledger gives the directory what it knows, or takes back what the directory and the months know.

use crate::settlement::restored::KeptSettlement;
use crate::tenancy::admission::ClosedPeriod;
use crate::tenancy::tenant::Tenant;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use x402_chain::id::{KeyId, SettlementId, VerificationId};
use x402_chain::time::UnixMillis;

/// What an empty ledger is asked while it is rebuilt. It serves nobody before it has finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestoreMessage {
    /// Say how far it has come.
    Begin,
    /// Store what comes next.
    Take(RestoredPart),
    /// Load the tenant, and serve. Holds the directory's copies of usage, that of the current period too.
    Finish(Vec<ClosedPeriod>),
}

/// A part of what a ledger takes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoredPart {
    /// Where the part begins. A ledger that has come elsewhere stores nothing.
    pub from: RestorePlace,
    /// Where the next one begins.
    pub to: RestorePlace,
    /// Settlements of the directory.
    pub settlements: Vec<KeptSettlement>,
    /// Records of the months and the archive.
    pub records: Vec<KeptRecord>,
}

/// A record as a ledger takes it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptRecord {
    /// The verification.
    pub id: VerificationId,
    /// Counts its changes.
    pub revision: i64,
    /// The answer, as JSON.
    pub body: String,
    /// The logs that it has claimed ([`crate::verification::claims::units_text`]).
    pub units: Option<String>,
}

/// How far a ledger has come: the body of [`super::LedgerReply::Restoring`]. Each list is read from its newest member on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestorePlace {
    /// It holds its tenant: there is nothing to take back.
    Held,
    /// Settlements with smaller ids come next.
    Settlements(Option<SettlementId>),
    /// Records with smaller ids come next.
    Records(Option<VerificationId>),
    /// It has all of them.
    Ready,
}

impl RestorePlace {
    /// Where an empty ledger begins.
    pub const FIRST: Self = Self::Settlements(None);
}

/// What a ledger knows of its tenant: the body of [`super::LedgerReply::Copied`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerCopy {
    /// Its copy of the tenant.
    pub tenant: Tenant,
    /// When each key was last used.
    pub last_used: BTreeMap<KeyId, UnixMillis>,
    /// The usage of the periods that it knows, the current one included.
    pub usage: Vec<ClosedPeriod>,
    /// Settlements after the id that was asked about, the oldest first.
    pub settlements: Vec<KeptSettlement>,
    /// The last of these; `None` where none follows.
    pub next: Option<SettlementId>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::ledger::LedgerMessage;

    #[test]
    fn messages_keep_their_text() {
        let part = r#"{"restore":{"take":{"from":{"settlements":null},"to":{"records":"ver_01KB0000000000000000000000"},"settlements":[{"body":"{}","course":null,"revision":1}],"records":[{"id":"ver_01KB0000000000000000000000","revision":0,"body":"{}","units":"3 5"}]}}}"#;
        let finish = r#"{"restore":{"finish":[{"period":"2026-11","used":3,"requests":4}]}}"#;
        let copy = r#"{"copy":{"after":"stl_01KB0000000000000000000000"}}"#;
        for text in [r#"{"restore":"begin"}"#, part, finish, copy] {
            let message: LedgerMessage = serde_json::from_str(text).expect("a message");
            assert!(!message.needs_tenant());
            assert_eq!(serde_json::to_string(&message).expect("JSON"), text);
        }
        for (place, text) in [(RestorePlace::Held, "\"held\""), (RestorePlace::FIRST, "{\"settlements\":null}")] {
            assert_eq!(serde_json::to_string(&place).expect("JSON"), text);
        }
    }
}

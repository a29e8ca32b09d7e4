//! A settlement as its seller reads it.

use crate::error::Fault;
use crate::event::EventKind;
use crate::traceparent::TraceParent;
use serde::{Deserialize, Serialize};
use x402_chain::id::{RequestId, SettlementId};
use x402_chain::network;
use x402_chain::network::Network;
use x402_chain::reason::Reason;
use x402_chain::time::UnixMillis;

/// The status of a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum SettlementStatus {
    /// Reserved, or sent and not yet in a block.
    Pending,
    /// In a block, with the transfer that was signed.
    Completed,
    /// Its transaction moved nothing, or was never mined; a new attempt may follow.
    Failed,
}

impl SettlementStatus {
    /// The name in JSON: `pending`, `completed`, `failed`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    /// The event that a settlement has reached this status.
    #[must_use]
    pub const fn event(self) -> EventKind {
        match self {
            Self::Pending => EventKind::SettlementPending,
            Self::Completed => EventKind::SettlementSucceeded,
            Self::Failed => EventKind::SettlementFailed,
        }
    }
}

/// One transaction that was sent for a settlement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct SettlementAttempt {
    /// The transaction's hash, or on Solana its signature.
    pub transaction: String,
    /// When it was signed, RFC 3339.
    pub at: String,
}

/// One x402 payment on its way to the chain, as `GET /v1/settlements/{id}` answers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Settlement {
    /// The settlement's id, `stl_…`.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(with = "String"))]
    pub id: SettlementId,
    /// `pending`, `completed` or `failed`.
    pub status: SettlementStatus,
    /// Why it failed; `null` unless it has.
    pub reason: Option<Reason>,
    /// The network's CAIP-2 id.
    pub network: String,
    /// The transaction that counts, or was sent last.
    pub transaction: Option<String>,
    /// The address whose tokens move.
    pub payer: String,
    /// The address that is paid (`payTo`).
    pub pay_to: String,
    /// The amount in atomic units, decimal digits.
    pub amount: String,
    /// The token's contract or mint.
    pub asset: String,
    /// When it was reserved, RFC 3339.
    pub created_at: String,
    /// When it was completed or failed, RFC 3339.
    pub completed_at: Option<String>,
    /// Every transaction that was sent; listed once the settlement is completed or has failed.
    pub attempts: Vec<SettlementAttempt>,
    /// The request that its success was handed over to; `null` if it was not.
    #[serde(default)]
    pub handed_over: Option<HandedOver>,
    /// The request that reserved its last attempt as a part of its trace, in the form of the header `traceparent` (W3C Trace
    /// Context); absent where an older build has reserved it. Webhooks about the settlement belong to the same trace.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(with = "String"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<TraceParent>,
}

impl Settlement {
    /// The network of a stored settlement.
    ///
    /// # Errors
    /// `INTERNAL` where the registry lacks it: a later build may have written it.
    pub fn registered_network(&self) -> Result<&'static Network, Fault> {
        let unknown = || Fault::internal(format!("a settlement's network '{}' is not in the registry", self.network));
        network::by_caip2(&self.network).ok_or_else(unknown)
    }

    /// When a stored settlement was reserved first.
    ///
    /// # Errors
    /// `INTERNAL` where `created_at` is no time.
    pub fn reserved_first_at(&self) -> Result<UnixMillis, Fault> {
        let unread = || Fault::internal(format!("a settlement's created_at '{}' is no time", self.created_at));
        UnixMillis::parse(&self.created_at).ok_or_else(unread)
    }
}

/// A success that was given to a request: goods may be handed over for it, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct HandedOver {
    /// When the success was handed over, RFC 3339.
    pub at: String,
    /// The request that got it, the last one where it was repeated under an `Idempotency-Key`; `null` in records of
    /// older builds.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(with = "Option<String>"))]
    pub request_id: Option<RequestId>,
}

/// Which settlements are listed; an absent member does not filter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettlementFilter {
    /// The network's CAIP-2 id.
    pub network: Option<String>,
    /// The payer's address, as answers write it.
    pub payer: Option<String>,
    /// The id of the authorization: network, asset, payer and nonce (EVM).
    pub authorization: Option<String>,
    /// Its transaction; several settlements may share one.
    pub transaction: Option<String>,
    /// Whether its success was handed over; `false` lists only those that are pending or completed.
    pub handed_over: Option<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_wrongly_of_a_settlement_is_an_error() {
        let text = r#"{"id":"stl_01KB0000000000000000000000","status":"completed","reason":null,
            "network":"eip155:8453","transaction":"0x1","payer":"0xP","pay_to":"0xR","amount":"1","asset":"0xA",
            "created_at":"2026-11-29T00:00:00.000Z","completed_at":null,"attempts":[]}"#;
        let good: Settlement = serde_json::from_str(text).expect("a settlement");
        assert_eq!(good.registered_network().map(|network| network.key), Ok("base"));
        assert_eq!(good.reserved_first_at(), Ok(UnixMillis(1_795_910_400_000)));
        for network in ["", "base", "eip155:0"] {
            let wrong = Settlement { network: network.to_owned(), ..good.clone() };
            assert!(wrong.registered_network().is_err_and(|fault| fault.cause().is_some()), "{network}");
        }
        for created_at in ["", "yesterday", "1970"] {
            let wrong = Settlement { created_at: created_at.to_owned(), ..good.clone() };
            assert!(wrong.reserved_first_at().is_err_and(|fault| fault.cause().is_some()), "{created_at}");
        }
    }
}

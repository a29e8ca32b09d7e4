//! What a Settler is asked, and what it replies.

use super::{MessageVersion, VersionedReply};
use crate::settlement::{Flight, SettlementReport};
use serde::{Deserialize, Serialize};
use x402_chain::address::Address;
use x402_chain::id::SettlementId;
use x402_chain::time::UnixMillis;

/// What a Settler is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettlerMessage {
    /// Settle, or go on waiting. [`SettlerReply::Report`].
    Settle(Box<Flight>),
    /// Never launch this attempt, unless it is known already. [`SettlerReply::Attempt`].
    Refuse {
        /// The settlement.
        settlement: SettlementId,
        /// How many attempts were reserved before this one.
        attempt: usize,
    },
    /// Name the payers for whom nothing is launched now. [`SettlerReply::Held`].
    Held,
}

/// What a Settler replies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettlerReply {
    /// How the flight stands.
    Report(Box<SettlementReport>),
    /// What became of an attempt that is never to be launched.
    Attempt(RefuseOutcome),
    /// The payers for whom nothing is launched now.
    Held(Vec<HeldPayer>),
    /// The message was not carried out; the code of the fault ([`crate::error::ErrorCode`]), for the log.
    Failed(String),
}

/// What a Settler knows of an attempt that it is asked never to launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefuseOutcome {
    /// The Settler did not know it, and will never launch it.
    Refused,
    /// The Settler has launched it, or is about to.
    Known,
}

/// A payer whose settlement has reverted of late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldPayer {
    /// Who.
    pub payer: Address,
    /// Until when nothing is launched for them.
    pub until: UnixMillis,
}

impl SettlerReply {
    /// The HTTP status and the body of a reply, for a caller of a version.
    ///
    /// # Errors
    /// None that our own types can raise.
    pub fn encode(&self, version: MessageVersion) -> Result<(u16, String), serde_json::Error> {
        Ok(match (version, self) {
            (MessageVersion::V2, reply) => (200, serde_json::to_string(&VersionedReply::own(reply))?),
            (MessageVersion::V1, Self::Report(report)) => (200, serde_json::to_string(report)?),
            (MessageVersion::V1, Self::Attempt(state)) => (200, serde_json::to_string(state)?),
            (MessageVersion::V1, Self::Held(held)) => (200, serde_json::to_string(held)?),
            (MessageVersion::V1, Self::Failed(code)) => (503, code.clone()),
        })
    }

    /// Reads the reply to a message, of this version or the one before.
    ///
    /// # Errors
    /// Where it is neither.
    pub fn read(message: &SettlerMessage, status: u16, body: &str) -> Result<Self, serde_json::Error> {
        if status != 200 {
            return Ok(Self::Failed(body.to_owned()));
        }
        let error = match serde_json::from_str::<VersionedReply<Self>>(body) {
            Ok(versioned) => return Ok(versioned.reply),
            Err(error) => error,
        };
        let previous = match message {
            SettlerMessage::Settle(_) => serde_json::from_str(body).map(Self::Report),
            SettlerMessage::Refuse { .. } => serde_json::from_str(body).map(Self::Attempt),
            SettlerMessage::Held => serde_json::from_str(body).map(Self::Held),
        };
        previous.map_err(|_| error)
    }
}

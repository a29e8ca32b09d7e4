//! The messages to a Settler and its replies.

use super::{MessageVersion, VersionedReply};
use crate::settlement::{Flight, SettlementReport};
use serde::{Deserialize, Serialize};
use x402_chain::address::Address;
use x402_chain::id::SettlementId;
use x402_chain::time::UnixMillis;

/// A message to a Settler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettlerMessage {
    /// Launch a flight, or wait for one that was launched. [`SettlerReply::Report`].
    Settle(Box<Flight>),
    /// Never launch this attempt, unless it is known already. [`SettlerReply::Attempt`].
    Refuse {
        /// The settlement.
        settlement: SettlementId,
        /// How many attempts were reserved before this one.
        attempt: usize,
    },
    /// List the payers for whom nothing is launched now. [`SettlerReply::Held`].
    Held,
}

/// A Settler's reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettlerReply {
    /// The flight's status.
    Report(Box<SettlementReport>),
    /// Whether an attempt could be marked as never to be launched.
    Attempt(RefuseOutcome),
    /// The payers for whom nothing is launched now.
    Held(Vec<HeldPayer>),
    /// The message was not carried out; the code of the fault ([`crate::error::ErrorCode`]), for the log.
    Failed(String),
}

/// The result of ordering a Settler never to launch an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefuseOutcome {
    /// The Settler did not know it, and will never launch it.
    Refused,
    /// The Settler has launched it, or is about to.
    Known,
}

/// A payer for whom nothing is launched, since settlements of theirs have reverted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldPayer {
    /// The payer's address.
    pub payer: Address,
    /// When launches are allowed again.
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

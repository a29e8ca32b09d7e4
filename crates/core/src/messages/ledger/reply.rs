//! What a ledger's reply means. Most are complete answers for the HTTP caller, which the Worker passes on without
//! reading them. So the meaning stands in one header, which is absent where the answer is all there is to say.

use super::LedgerMessage;
use crate::messages::{MessageVersion, VersionedReply};
use crate::tenancy::admission::RateWindows;
use serde::{Deserialize, Serialize};
use x402_chain::id::SettlementId;
use x402_chain::time::UnixMillis;

/// What a ledger's reply means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LedgerReply {
    /// A complete answer for the HTTP caller.
    Answer,
    /// A complete answer with a status of 400 or more.
    Problem,
    /// A complete answer to a caller that the ledger refused before it judged the request: the isolate remembers it.
    Refused(RefusedCaller),
    /// A complete answer, of any status, that was not recorded under the request's `Idempotency-Key`.
    Unrecorded,
    /// A complete answer that hands over the success of this settlement.
    Success(SettlementId),
    /// A settlement is reserved or on its way: the Worker calls the Settler next. The body is a
    /// [`crate::settlement::payment::ReservedSettlement`].
    Settle,
    /// Nothing is recorded or counted: the Worker asks the chain, and sends the message again. No body.
    ChainNeeded,
    /// Which addresses may be paid. The body is a list of [`crate::tenancy::payee::PayeeAnswer`], one for each that was asked for.
    Payees,
    /// This ledger holds no such record: the directory may. No body.
    NoRecord,
    /// The directory has no such tenant. No body.
    NoTenant,
    /// Something is left to erase: the Worker sends the message again. No body.
    Erasing,
    /// How far a ledger that is rebuilt has come. The body is a [`super::rebuild::RestorePlace`].
    Restoring,
    /// What a ledger knows. The body is a [`super::rebuild::LedgerCopy`].
    Copied,
    /// The message was carried out. No body.
    Done,
}

/// What an isolate remembers of a caller that the ledger has refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusedCaller {
    /// Its rates are used up.
    Limited {
        /// When the next request is allowed.
        until: UnixMillis,
        /// The sentence for the caller.
        detail: String,
        /// Whether another tier would allow the request.
        upgrade: bool,
        /// Its rate windows, for the headers.
        rates: RateWindows,
    },
    /// Another refusal: the next request asks the ledger before the chain.
    AskFirst,
}

/// A header of a reply: name and value.
pub type ReplyHeader = (&'static str, String);

impl LedgerReply {
    /// The header of version 2; absent from an [`Self::Answer`] and a [`Self::Problem`].
    const HEADER: &'static str = "x-ledger-reply";
    /// The headers of version 1, each for one reply.
    const REFUSED_V1: &'static str = "x-ledger-remember";
    const UNRECORDED_V1: &'static str = "x-ledger-unrecorded";
    const SUCCESS_V1: &'static str = "x-ledger-handed-over";

    /// The header that says what was found about a payment, or the code of a problem, for the log: where the message asks
    /// for it.
    pub const OUTCOME: &'static str = "x-ledger-outcome";

    /// The headers that are for the Worker alone: no caller gets them, nor [`Self::OUTCOME`].
    pub const INTERNAL_HEADERS: [&'static str; 4] =
        [Self::HEADER, Self::REFUSED_V1, Self::UNRECORDED_V1, Self::SUCCESS_V1];

    /// The HTTP status, in every version that of version 1: a reply that has lost its header is no answer for the
    /// client. That of a complete answer is its own, `answer`.
    #[must_use]
    pub const fn status(&self, answer: u16) -> u16 {
        match self {
            Self::Settle | Self::Erasing | Self::Restoring | Self::Copied => 202,
            Self::NoRecord => 404,
            Self::NoTenant => 401,
            Self::ChainNeeded | Self::Done => 204,
            Self::Payees => 200,
            Self::Answer | Self::Problem | Self::Refused(_) | Self::Unrecorded | Self::Success(_) => answer,
        }
    }

    /// The header that says what the reply means to a caller of a version, if it needs one.
    ///
    /// # Errors
    /// None that these types can raise.
    pub fn header(&self, version: MessageVersion) -> Result<Option<ReplyHeader>, serde_json::Error> {
        Ok(match (version, self) {
            (_, Self::Answer | Self::Problem) => None,
            (MessageVersion::V2, reply) => Some((Self::HEADER, serde_json::to_string(&VersionedReply::own(reply))?)),
            (MessageVersion::V1, Self::Refused(refused)) => Some((Self::REFUSED_V1, serde_json::to_string(refused)?)),
            (MessageVersion::V1, Self::Unrecorded) => Some((Self::UNRECORDED_V1, "true".to_owned())),
            (MessageVersion::V1, Self::Success(id)) => Some((Self::SUCCESS_V1, id.to_string())),
            (
                MessageVersion::V1,
                Self::Settle
                | Self::ChainNeeded
                | Self::Payees
                | Self::NoRecord
                | Self::NoTenant
                | Self::Erasing
                | Self::Restoring
                | Self::Copied
                | Self::Done,
            ) => None,
        })
    }

    /// Reads what the reply to a message means, of this version or the one before.
    ///
    /// # Errors
    /// Where a later build replied with what this one does not know.
    pub fn read(
        message: &LedgerMessage,
        status: u16,
        header: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, serde_json::Error> {
        match header(Self::HEADER) {
            Some(text) => serde_json::from_str(&text).map(|versioned: VersionedReply<Self>| versioned.reply),
            None => Ok(Self::read_v1(message, status, header)),
        }
    }

    /// Reads a reply of version 1, or an answer of version 2, which has no header.
    fn read_v1(message: &LedgerMessage, status: u16, header: impl Fn(&str) -> Option<String>) -> Self {
        let success = |text: String| SettlementId::parse(&text).map(Self::Success);
        let refused = |text: String| serde_json::from_str(&text).ok().map(Self::Refused);
        let is_keyed = matches!(message, LedgerMessage::Verify(request) if request.idempotency.is_some());
        match (message, status) {
            (LedgerMessage::Payment(_), 202) => Self::Settle,
            (LedgerMessage::Verify(_) | LedgerMessage::Payment(_), 204) => Self::ChainNeeded,
            (_, 204) => Self::Done,
            (LedgerMessage::Record { .. }, 404) => Self::NoRecord,
            (LedgerMessage::Flush, 401) => Self::NoTenant,
            (LedgerMessage::Payees { .. }, 200) => Self::Payees,
            _ if is_keyed && header(Self::UNRECORDED_V1).is_some() => Self::Unrecorded,
            (LedgerMessage::Payment(_) | LedgerMessage::Deliver(_), 200) => {
                header(Self::SUCCESS_V1).and_then(success).unwrap_or(Self::Answer)
            }
            (LedgerMessage::Verify(_) | LedgerMessage::Payment(_), 400..) => {
                header(Self::REFUSED_V1).and_then(refused).unwrap_or(Self::Problem)
            }
            (_, 400..) => Self::Problem,
            (_, _) => Self::Answer,
        }
    }
}

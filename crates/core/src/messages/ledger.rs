//! The messages to a tenant's ledger. [`LedgerReply`] says what its replies mean.

pub mod rebuild;
mod reply;

use crate::settlement::SettlementReport;
use crate::settlement::payment::{PaymentAction, PaymentRequest, SettlementFinding};
use crate::settlement::status::SettlementFilter;
use crate::tenancy::access::{Access, KeyScope};
use crate::tenancy::admission::{KeyUse, PresentedKey};
use crate::tenancy::key::KeyHash;
use crate::tenancy::payee::PayeeQuery;
use crate::tenancy::tenant::Scope;
use crate::verification::decision::VerificationRequest;
use rebuild::RestoreMessage;
pub use reply::{LedgerReply, RefusedCaller, ReplyHeader};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use x402_chain::id::{RequestId, SettlementId, TenantId, VerificationId};
use x402_chain::network::Environment;

/// A message with the ledger that it is for and its HTTP request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEnvelope {
    /// The tenant whose ledger it is for.
    pub tenant: TenantId,
    /// The environment of that ledger.
    pub environment: Environment,
    /// The id of the HTTP request, as in `X-Request-Id`; a new one where none is served.
    pub request_id: RequestId,
    /// The origin of links in a problem; empty where no HTTP request is served.
    pub origin: String,
    /// The path for `instance` in a problem, without a key; empty where no HTTP request is served.
    pub path: String,
    /// The access of the request's route. `None`: no request stands behind the message, or a build of version 1 sent
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// The address that the request comes from, where it presents a key: the ledger checks the key's networks by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<IpAddr>,
    /// Whether the request begins an export, which the ledger counts. A ledger of the build before counts none.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub counted: bool,
    /// Whether the caller takes [`LedgerReply::OUTCOME`] from the reply; the build before would pass it on.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub logs_outcome: bool,
    /// The message.
    // The member's name in version 1.
    #[serde(rename = "ask")]
    pub message: LedgerMessage,
}

impl LedgerEnvelope {
    /// The envelope of a message behind which no HTTP request stands: from a timed job, a settler's report, a check of
    /// health.
    #[must_use]
    pub const fn without_request(
        tenant: TenantId,
        environment: Environment,
        request_id: RequestId,
        message: LedgerMessage,
    ) -> Self {
        Self {
            tenant,
            environment,
            request_id,
            origin: String::new(),
            path: String::new(),
            access: None,
            from: None,
            counted: false,
            logs_outcome: false,
            message,
        }
    }

    /// The scope that the route requires of the key.
    fn key_scope(&self) -> KeyScope {
        self.access.and_then(Access::key_scope).unwrap_or_else(|| self.message.scope_without_access())
    }

    /// How the request uses its key.
    #[must_use]
    pub fn key_use(&self) -> KeyUse {
        KeyUse { scope: self.key_scope(), from: self.from }
    }

    /// A key of the message, with how the request uses it.
    #[must_use]
    pub fn present(&self, hash: &KeyHash) -> PresentedKey {
        PresentedKey { hash: *hash, used: self.key_use() }
    }
}

/// A message to a ledger. The reply is a complete answer for the HTTP caller ([`LedgerReply::Answer`],
/// [`LedgerReply::Problem`] and others), or the one that is named here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LedgerMessage {
    /// Judge and record a verification. [`LedgerReply::ChainNeeded`] where the chain was not asked yet, and nothing is
    /// recorded.
    Verify(Box<VerificationRequest>),
    /// Judge and record an x402 payment. [`LedgerReply::ChainNeeded`] where the Worker must find out more;
    /// [`LedgerReply::Settle`] where the settler must act.
    Payment(Box<PaymentRequest>),
    /// Apply a settler's report on a settlement. [`LedgerReply::Done`].
    Settled(Box<SettlementReport>),
    /// Give the waiting request the settler's result.
    Deliver(Box<DeliverMessage>),
    /// The caller has disconnected before the answer: its lease or success is open again. [`LedgerReply::Done`].
    Reopen(ReopenMessage),
    /// Give the seller a success by hand.
    HandOver {
        /// The key that asks.
        key: KeyHash,
        /// The settlement.
        id: SettlementId,
    },
    /// Read one settlement.
    Settlement {
        /// The key that asks.
        key: KeyHash,
        /// The settlement.
        id: SettlementId,
    },
    /// List settlements, a page at a time.
    Settlements {
        /// The key that asks.
        key: KeyHash,
        /// Which settlements are listed.
        filter: SettlementFilter,
        /// Which page of the list.
        page: PageQuery,
    },
    /// Read the account.
    Account {
        /// The key that asks.
        key: KeyHash,
        /// Which answer about it.
        view: AccountView,
        /// Chains that the registry check has switched off, by our keys.
        off: Vec<String>,
    },
    /// Say which addresses may stand in requirements. [`LedgerReply::Payees`].
    Payees {
        /// The key that asks.
        key: KeyHash,
        /// The requirements.
        wanted: Vec<PayeeQuery>,
        /// Chains that the registry check has switched off, by our keys.
        off: Vec<String>,
    },
    /// Read one verification's record. [`LedgerReply::NoRecord`] where the ledger does not hold it.
    Record {
        /// The key that asks.
        key: KeyHash,
        /// The verification.
        id: VerificationId,
    },
    /// Check that a key may list records, and ship them first. [`LedgerReply::Done`].
    List {
        /// The key that asks.
        key: KeyHash,
    },
    /// Load the directory's copy of the tenant. [`LedgerReply::Done`].
    Reload {
        /// The version that the copy must have at least.
        version: u64,
    },
    /// Ship everything, and enter the current period. [`LedgerReply::Done`], or [`LedgerReply::NoTenant`].
    Flush,
    /// Erase what the seller of a deleted tenant has written. [`LedgerReply::Done`], or [`LedgerReply::Erasing`]: send it
    /// again. A ledger of the build before refuses it.
    Erase,
    /// Take back what the directory and the months know, where the ledger is empty. [`LedgerReply::Restoring`]. A ledger of the
    /// build before refuses it.
    Restore(Box<RestoreMessage>),
    /// Say what is known of the tenant, and a page of settlements. [`LedgerReply::Copied`], or [`LedgerReply::NoTenant`]. A ledger
    /// of the build before refuses it.
    Copy {
        /// The last settlement of the page before.
        after: Option<SettlementId>,
    },
    /// Do nothing: `/v1/health` measures the reply. [`LedgerReply::Done`].
    Ping,
    /// Write one row (the benchmark's build only). [`LedgerReply::Done`].
    #[cfg(x402_bench)]
    BenchRow {
        /// The row's primary key.
        id: String,
    },
}

impl LedgerMessage {
    /// Whether events may come of it, or a change of the tenant: then whoever streams events reads again.
    #[must_use]
    pub const fn makes_news(&self) -> bool {
        matches!(
            self,
            Self::Verify(_)
                | Self::Payment(_)
                | Self::Settled(_)
                | Self::Deliver(_)
                | Self::Reopen(_)
                | Self::HandOver { .. }
                | Self::Reload { .. }
        )
    }

    /// The key that asks to read; `None` where no key does.
    #[must_use]
    pub const fn reading_key(&self) -> Option<&KeyHash> {
        if let Self::List { key } | Self::Account { key, .. } = self { Some(key) } else { None }
    }

    /// Whether the ledger loads its tenant before it replies.
    #[must_use]
    pub const fn needs_tenant(&self) -> bool {
        match self {
            Self::Ping | Self::Erase | Self::Reload { .. } | Self::Restore(_) | Self::Copy { .. } => false,
            #[cfg(x402_bench)]
            Self::BenchRow { .. } => false,
            Self::Verify(_)
            | Self::Payment(_)
            | Self::Settled(_)
            | Self::Deliver(_)
            | Self::Reopen(_)
            | Self::HandOver { .. }
            | Self::Settlement { .. }
            | Self::Settlements { .. }
            | Self::Account { .. }
            | Self::Payees { .. }
            | Self::Record { .. }
            | Self::List { .. }
            | Self::Flush => true,
        }
    }

    /// The scope that a message of version 1, which names no access, requires of its key: that of its route.
    const fn scope_without_access(&self) -> KeyScope {
        match self {
            Self::Account { .. } => KeyScope::Any,
            Self::HandOver { .. } => KeyScope::Only(Scope::Settle),
            Self::Payment(asked) if matches!(asked.verb, PaymentAction::Settle) => KeyScope::Only(Scope::Settle),
            Self::Verify(_)
            | Self::Payment(_)
            | Self::Settled(_)
            | Self::Deliver(_)
            | Self::Reopen(_)
            | Self::Settlement { .. }
            | Self::Settlements { .. }
            | Self::Payees { .. }
            | Self::Record { .. }
            | Self::List { .. }
            | Self::Reload { .. }
            | Self::Flush
            | Self::Erase
            | Self::Restore(_)
            | Self::Copy { .. }
            | Self::Ping => KeyScope::Only(Scope::Verify),
            #[cfg(x402_bench)]
            Self::BenchRow { .. } => KeyScope::Only(Scope::Verify),
        }
    }
}

/// The settler's result, for the request that waited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliverMessage {
    /// The settlement's id.
    pub settlement: SettlementId,
    /// The network as the request wrote it: the answer echoes it.
    pub network_text: String,
    /// The settler's result, and the checks of the payment.
    pub found: SettlementFinding,
    /// Whether the request asks for our additions in the body of a success.
    #[serde(default)]
    pub explain: bool,
}

/// Which delivery to open: the settlement's, or where the answer was lost that of the authorization.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReopenMessage {
    /// The settlement, where the request learned of it.
    pub settlement: Option<SettlementId>,
    /// The payment's authorization, as [`crate::settlement::payment::authorization_id`] writes it.
    pub authorization: Option<String>,
}

/// Which view of the account a route answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountView {
    /// The answer of `GET /v1/usage`.
    Usage,
    /// The answer of `GET /v1/supported-chains`.
    Chains,
    /// The answer of `GET /v1/whoami`.
    Whoami,
}

/// Which page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageQuery {
    /// Entries of the page, 1 to 100.
    pub limit: u32,
    /// The id of the last entry of the page before; only older ones follow.
    pub before: Option<String>,
}

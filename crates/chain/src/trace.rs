//! What a chain says about one transaction, the same for every family and
//! every recipient. It needs no tenant and can be shared.

use crate::address::{Address, TxId};
use crate::amount::Amount;
use crate::time::UnixSeconds;
use alloy_primitives::B256;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most seconds that a block may be ahead of our clock: 15 minutes, which exceeds the worst drift of consensus
/// clients and clocks. Beyond it the node is wrong, not the payer (docs/spec/chains.md#evm-34).
pub(crate) const BLOCK_AHEAD_S_MAX: u64 = 900;

/// The most parties whose code and blacklist entry are read: two calls each in the same batch, so at most 16 more
/// items.
pub const PARTIES_MAX: usize = 8;

/// The most entries of each list that does not move the asset (other tokens, zero-value transfers, memos, hidden
/// amounts); the rest is dropped. Authorizations are all kept.
pub(crate) const DETAILS_MAX: usize = 64;

/// One transaction as its chain reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// The transaction asked for.
    pub tx: TxId,
    /// Whether the chain holds it.
    pub found: TransactionState,
}

/// Whether a chain holds a transaction, as one node reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransactionState {
    /// The node does not know it.
    Unknown,
    /// Known, and in no block that the node's head has reached.
    Pending,
    /// In a block that the node holds to be canonical.
    Mined(Box<MinedTransaction>),
}

/// How certain it is that a block stays in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Depth {
    /// In a block, with fewer confirmations than the chain's number.
    #[serde(rename = "seen")]
    Included,
    /// With the chain's usual number of confirmations.
    Confirmed,
    /// Final by the chain's own rule.
    Finalized,
}

/// The block that holds a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Height, or slot on Solana.
    pub number: u64,
    /// Hash, lower-case hex; `None` on Solana, whose transactions do not name it.
    pub hash: Option<String>,
    /// The block's time; `None` where the node does not report it.
    pub time: Option<UnixSeconds>,
}

/// Where a movement stands in the transaction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferLocation {
    /// The log's index in its block (EVM).
    LogIndex(u64),
    /// The token account (Solana).
    TokenAccount(Address),
}

/// A movement of the registered asset, above zero. On EVM both ends are named;
/// on Solana a balance that grew names only `to`, one that shrank only `from`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Transfer {
    /// Where in the transaction the movement is recorded.
    pub place: TransferLocation,
    /// Its number among the registered contract's logs of this transaction, from 0 (EVM; 0 on
    /// Solana). A log's index in its block changes when the transaction moves to another block,
    /// this does not: claims are kept by it.
    #[serde(default)]
    pub ordinal: u64,
    /// The sender's address; `None` where the chain does not name it (Solana credits).
    pub from: Option<Address>,
    /// The recipient's address; `None` where the chain does not name it (Solana debits).
    pub to: Option<Address>,
    /// The amount, in the asset's atomic units.
    pub amount: Amount,
}

/// A movement of another token: a bridged form, a counterfeit, anything. A refusal
/// names it; it never counts as payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignTransfer {
    /// The token's contract (EVM) or mint (Solana).
    pub asset: Address,
    /// Its name, where the registry knows it as a form people mistake for USDC.
    pub name: Option<String>,
    /// The sender's address; `None` where the chain does not name it (Solana credits).
    pub from: Option<Address>,
    /// The recipient's address; `None` where the chain does not name it (Solana debits).
    pub to: Option<Address>,
    /// The amount, in the token's own atomic units; its decimals are not known.
    pub amount: Amount,
}

/// A transfer of zero by the registered contract: anybody can make one in any address's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZeroTransfer {
    /// The sender that the log names.
    pub from: Address,
    /// The recipient that the log names.
    pub to: Address,
}

/// A transfer whose amount is encrypted (Token-2022 confidential transfer).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfidentialTransfer {
    /// The mint, where the transaction names it.
    pub mint: Option<Address>,
    /// The owner of the account that received, where the transaction names it.
    pub to: Option<Address>,
}

/// An authorization that the transaction used up (EIP-3009 `AuthorizationUsed`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsedAuthorization {
    /// The address that signed the authorization.
    pub authorizer: Address,
    /// The authorization's nonce, 32 bytes.
    pub nonce: B256,
    /// The [`Transfer::ordinal`] of the one transfer from its authorizer that stands next to
    /// it among the registered contract's logs; `None` where none does, or several do.
    #[serde(default)]
    pub transfer: Option<u64>,
}

/// A transaction in a canonical block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MinedTransaction {
    /// Why it failed, briefly; `None` where it was executed.
    pub failure: Option<String>,
    /// The block that holds it.
    pub block: Block,
    /// The node's head when it was asked, same unit as the block's number.
    pub head: u64,
    /// How certain it is that its block stays in the chain.
    pub depth: Depth,
    /// Whether the node does not report what is final, on a chain where nodes do: then `depth` depends on confirmations
    /// alone, and another node may know better.
    #[serde(default)]
    pub finality_unknown: bool,
    /// The account that sent it and paid its fee; not the payer.
    pub submitter: Option<Address>,
    /// All movements of the registered asset, in the order of the chain.
    pub transfers: Vec<Transfer>,
    /// Movements of other tokens.
    pub foreign: Vec<ForeignTransfer>,
    /// Transfers of amount zero, at most [`DETAILS_MAX`].
    pub zero: Vec<ZeroTransfer>,
    /// Transfers of a hidden amount.
    pub confidential: Vec<ConfidentialTransfer>,
    /// Memos that are UTF-8 text, from instructions (Solana).
    pub memos: Vec<String>,
    /// Authorizations used up by the registered contract (EVM).
    pub authorizations: Vec<UsedAuthorization>,
}

impl MinedTransaction {
    /// The blocks from the transaction's own to the head, both included; 0 where the head is below it.
    #[must_use]
    pub const fn confirmations(&self) -> u64 {
        if self.head < self.block.number { 0 } else { self.head.saturating_sub(self.block.number).saturating_add(1) }
    }

    /// The largest single movement of the registered asset.
    #[must_use]
    pub fn largest(&self) -> Amount {
        self.transfers.iter().map(|transfer| transfer.amount).max().unwrap_or(Amount::ZERO)
    }
}

impl Trace {
    /// The mined transaction, where it is in a block.
    #[must_use]
    pub const fn mined(&self) -> Option<&MinedTransaction> {
        match &self.found {
            TransactionState::Mined(mined) => Some(mined),
            TransactionState::Unknown | TransactionState::Pending => None,
        }
    }

    /// Whether two nodes report the same: status, block hash and number, the asset's movements, and whose
    /// authorizations they were. Gas and head differ between honest nodes (docs/spec/chains.md#evm-29).
    #[must_use]
    pub fn agrees(&self, other: &Self) -> bool {
        self.tx == other.tx
            && match (&self.found, &other.found) {
                (TransactionState::Unknown, TransactionState::Unknown)
                | (TransactionState::Pending, TransactionState::Pending) => true,
                (TransactionState::Mined(a), TransactionState::Mined(b)) => {
                    a.failure.is_some() == b.failure.is_some()
                        && a.block.hash == b.block.hash
                        && a.block.number == b.block.number
                        && a.transfers == b.transfers
                        && a.authorizations == b.authorizations
                }
                (TransactionState::Unknown | TransactionState::Pending | TransactionState::Mined(_), _) => false,
            }
    }
}

/// A party whose code and blacklist entry are read beside the transaction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Party {
    /// The address of the party.
    pub address: Address,
    /// The token account that moved (Solana), whose state shows a freeze.
    pub account: Option<Address>,
}

/// What kind of account holds an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CodeKind {
    /// There is no code: an ordinary account.
    None,
    /// An EIP-7702 delegation (`0xef0100…`).
    Delegated,
    /// There is contract code.
    Contract,
}

/// The facts about a party; `None` where one could not be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartyFacts {
    /// Whether the token's issuer has blocked it.
    pub blocked: Option<bool>,
    /// What kind of account it is.
    pub code: Option<CodeKind>,
}

/// Code and blacklist entries of the parties that were read. A party that is absent was not read.
pub type Screening = BTreeMap<Address, PartyFacts>;

//! A seller's question about one transaction, parsed once from the request.

use super::answer::Finality;
use alloy_primitives::B256;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use x402_chain::address::{Address, TxId};
use x402_chain::amount::Amount;
use x402_chain::network;
use x402_chain::network::Network;

/// The most bytes of a seller's reference.
pub const REFERENCE_BYTES_MAX: usize = 256;
/// The greatest age where the request names none: a day.
pub const MAX_AGE_SECONDS_DEFAULT: u64 = 86_400;
/// Ten years of 365 days: 10 × 365 × 86,400.
pub const MAX_AGE_SECONDS_MAX: u64 = 315_360_000;

/// One question: "has this transaction paid me?"
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The chain that the transaction is on.
    #[serde(serialize_with = "write_network", deserialize_with = "read_network")]
    pub network: &'static Network,
    /// The transaction's hash, or on Solana its first signature.
    pub tx: TxId,
    /// The least that must have arrived.
    pub expected: Option<Amount>,
    /// The address that must have been paid; `None`: the tenant's default for the chain.
    pub recipient: Option<Address>,
    /// The address that must have paid; only what certainly came from it counts.
    pub payer: Option<Address>,
    /// The memo that the transaction must carry (Solana).
    pub memo: Option<String>,
    /// The EIP-3009 nonce whose transfer alone is judged (EVM).
    pub authorization_nonce: Option<B256>,
    /// The seller's own name for what is paid for.
    pub reference: Option<String>,
    /// The least finality of the transaction's block.
    pub finality: Finality,
    /// The greatest age of the transaction's block, seconds.
    pub max_age_s: u64,
    /// Whether to bind the payment to the reference.
    pub claim: bool,
}

fn write_network<S: Serializer>(network: &&'static Network, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(network.key)
}

fn read_network<'de, D: Deserializer<'de>>(from: D) -> Result<&'static Network, D::Error> {
    let key = String::deserialize(from)?;
    network::by_key(&key).ok_or_else(|| serde::de::Error::custom("not a chain of the registry"))
}

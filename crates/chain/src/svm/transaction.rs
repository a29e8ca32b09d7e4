//! `getTransaction`'s answer: only what the rules read, everything else is ignored. Any `version` is accepted, since no
//! rule depends on the message's form (docs/spec/chains.md#svm-1).

use crate::address::{Address, Family};
use crate::facts::Undecided;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TransactionResult {
    pub(super) slot: u64,
    pub(super) block_time: Option<i64>,
    pub(super) meta: Option<TransactionMeta>,
    transaction: TransactionBody,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TransactionMeta {
    /// Variants are text or objects; only whether it is null counts.
    pub(super) err: Option<Value>,
    pub(super) pre_token_balances: Option<Vec<TokenBalance>>,
    pub(super) post_token_balances: Option<Vec<TokenBalance>>,
    #[serde(default)]
    pub(super) inner_instructions: Option<Vec<InnerInstructions>>,
    loaded_addresses: Option<LoadedAddresses>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TokenBalance {
    pub(super) account_index: usize,
    pub(super) mint: String,
    pub(super) owner: Option<String>,
    pub(super) ui_token_amount: UiAmount,
}

#[derive(Deserialize)]
pub(super) struct UiAmount {
    /// Atomic units. `uiAmount` is a float and never read (#svm-8).
    pub(super) amount: String,
}

#[derive(Deserialize)]
pub(super) struct InnerInstructions {
    pub(super) instructions: Vec<InstructionJson>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct InstructionJson {
    pub(super) program_id_index: Option<usize>,
    pub(super) program_id: Option<String>,
    #[serde(default)]
    pub(super) accounts: Vec<Value>,
    pub(super) data: Option<String>,
    pub(super) parsed: Option<Value>,
}

#[derive(Default, Deserialize)]
struct LoadedAddresses {
    #[serde(default)]
    writable: Vec<String>,
    #[serde(default)]
    readonly: Vec<String>,
}

#[derive(Deserialize)]
struct TransactionBody {
    signatures: Vec<String>,
    message: MessageJson,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageJson {
    account_keys: Vec<AccountKeyJson>,
    #[serde(default)]
    instructions: Vec<InstructionJson>,
}

/// A key as `json` writes it, or as `jsonParsed` does.
#[derive(Deserialize)]
#[serde(untagged)]
enum AccountKeyJson {
    Text(String),
    Object { pubkey: String },
}

impl TransactionResult {
    /// The first signature, which is the transaction's id.
    pub(super) fn signature(&self) -> Option<&str> {
        self.transaction.signatures.first().map(String::as_str)
    }

    pub(super) fn instructions(&self) -> &[InstructionJson] {
        &self.transaction.message.instructions
    }

    /// All account keys in the order of their indexes: the message's, then those
    /// that lookup tables loaded (#svm-19). `jsonParsed` lists these among the message's.
    pub(super) fn keys(&self) -> Result<Vec<Address>, Undecided> {
        let message = &self.transaction.message.account_keys;
        let parsed = message.iter().any(|key| matches!(key, AccountKeyJson::Object { .. }));
        let own = message.iter().map(|key| match key {
            AccountKeyJson::Text(text) | AccountKeyJson::Object { pubkey: text } => text,
        });
        let loaded = self.meta.as_ref().and_then(|meta| meta.loaded_addresses.as_ref()).filter(|_| !parsed);
        let looked_up = loaded.into_iter().flat_map(|loaded| loaded.writable.iter().chain(&loaded.readonly));
        let read = |text: &String| {
            Address::parse(Family::Svm, text).ok_or_else(|| Undecided::malformed("malformed_transaction"))
        };
        own.chain(looked_up).map(read).collect()
    }
}

//! The registry check: whether the token at the registered address is the one that the registry's row describes. Pure;
//! what follows from a report (a chain is switched off) is decided elsewhere.
//!
//! Tokens are upgradable proxies (docs/spec/chains.md#evm-22), so the check is repeated.

use crate::address::{Address, Family};
use crate::evm::calls::prefixed_hex;
use crate::evm::token::{DOMAIN_SEPARATORCall, decimalsCall, nameCall, versionCall};
use crate::evm::{abi, calls};
use crate::facts::{Call, ErrorClass, Facts, RpcReply};
use crate::network::{Network, domain_separator};
use crate::svm::programs;
use alloy_primitives::Address as Address20;
use alloy_sol_types::SolCall;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use borsh::BorshDeserialize;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

/// The most base64 characters of an answer that are decoded: a mint is 82 bytes, 112 characters.
const MINT_CHARS_MAX: usize = 1_024;

/// The result of checking one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegistryCheckOutcome {
    /// Everything was read and agrees with the row.
    Passed,
    /// Something was read that differs from the row.
    Differs,
    /// Nothing differs, but not everything could be read.
    Unreachable,
}

impl RegistryCheckOutcome {
    /// Every outcome.
    pub const ALL: [Self; 3] = [Self::Passed, Self::Differs, Self::Unreachable];

    /// The name in the directory and in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Differs => "differs",
            Self::Unreachable => "unreachable",
        }
    }

    /// The outcome of this name; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.name() == text)
    }
}

/// One difference from the row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub struct Difference {
    /// The member that differs: `chain_id`, `name`, `version`, `decimals`, `domain_separator`,
    /// `genesis_hash`, `owner`, `mint`.
    pub what: &'static str,
    /// The value in the registry's row.
    pub expected: String,
    /// The value that the chain answered.
    pub found: String,
}

/// What one node of a chain reports about the chain's row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub struct RegistryCheckReport {
    /// The short key of the checked chain.
    pub chain: &'static str,
    /// Whether the chain agrees with the row.
    pub outcome: RegistryCheckOutcome,
    /// The differences; empty unless the outcome is [`RegistryCheckOutcome::Differs`].
    pub differences: Vec<Difference>,
    /// The token's name as read (EVM).
    pub name: Option<String>,
    /// The version of its EIP-712 domain as read (EVM).
    pub version: Option<String>,
    /// The token's decimals, as the chain answered.
    pub decimals: Option<String>,
    /// Its EIP-712 separator as read (EVM), lower-case hex.
    pub separator: Option<String>,
}

/// The calls that a check needs, all in one round.
#[must_use]
pub fn check_calls(network: &Network) -> Vec<Call> {
    match network.asset.address {
        Address::Evm(asset) => {
            let views =
                [nameCall::SELECTOR, versionCall::SELECTOR, decimalsCall::SELECTOR, DOMAIN_SEPARATORCall::SELECTOR]
                    .map(|selector| view_call(asset, selector));
            [calls::chain_id_call()].into_iter().chain(views).collect()
        }
        Address::Svm(_) if network.local => vec![mint_account_call(network)],
        Address::Svm(_) => vec![mint_account_call(network), genesis_hash_call()],
    }
}

/// Compares the answers to [`check_calls`] with the row. Never an error: what a
/// node did not answer, or not in a readable form, makes the outcome
/// [`RegistryCheckOutcome::Unreachable`] unless something else differs.
#[must_use]
pub fn check_against_row(network: &Network, facts: &Facts) -> RegistryCheckReport {
    let mut check = RegistryCheck { has_unanswered: false, differences: Vec::new() };
    let blank = RegistryCheckReport {
        chain: network.key,
        outcome: RegistryCheckOutcome::Unreachable,
        differences: Vec::new(),
        name: None,
        version: None,
        decimals: None,
        separator: None,
    };
    let read = match network.family {
        Family::Evm => check.evm(network, facts, blank),
        Family::Svm => check.svm(network, facts, blank),
    };
    let outcome = match (check.differences.is_empty(), check.has_unanswered) {
        (false, _) => RegistryCheckOutcome::Differs,
        (true, true) => RegistryCheckOutcome::Unreachable,
        (true, false) => RegistryCheckOutcome::Passed,
    };
    RegistryCheckReport { outcome, differences: check.differences, ..read }
}

/// A call of a function without arguments.
fn view_call(asset: Address20, selector: [u8; 4]) -> Call {
    calls::view_call(asset, prefixed_hex(&selector))
}

fn mint_account_call(network: &Network) -> Call {
    let options = json!({ "encoding": "base64", "commitment": "confirmed" });
    Call::new("getAccountInfo", &json!([network.asset.address, options]))
}

fn genesis_hash_call() -> Call {
    Call::new("getGenesisHash", &json!([]))
}

/// The answer to one call.
enum ViewResult<T> {
    /// The chain answered with this value.
    Value(T),
    /// The chain answered that there is no such value.
    Absent,
    /// The node did not answer, or its answer is malformed.
    Unanswered,
}

impl<T> From<Option<T>> for ViewResult<T> {
    fn from(answer: Option<T>) -> Self {
        answer.map_or(Self::Unanswered, Self::Value)
    }
}

impl<T> ViewResult<T> {
    fn value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent | Self::Unanswered => None,
        }
    }
}

struct RegistryCheck {
    has_unanswered: bool,
    differences: Vec<Difference>,
}

impl RegistryCheck {
    fn evm(&mut self, network: &Network, facts: &Facts, blank: RegistryCheckReport) -> RegistryCheckReport {
        let (Address::Evm(asset), Some(chain_id)) = (network.asset.address, network.chain_id) else {
            self.has_unanswered = true;
            return blank;
        };
        let text = |selector| view_result(facts, &view_call(asset, selector), abi::string);
        let name = self.note_answer(text(nameCall::SELECTOR));
        let version = self.note_answer(text(versionCall::SELECTOR));
        let decimals = self.note_answer(view_result(facts, &view_call(asset, decimalsCall::SELECTOR), abi::number));
        let separator =
            self.note_answer(view_result(facts, &view_call(asset, DOMAIN_SEPARATORCall::SELECTOR), abi::word));
        let node_chain =
            self.note_answer(answered_text(facts, &calls::chain_id_call()).and_then(|text| hex_number(&text)).into());
        self.compare("chain_id", &chain_id.to_string(), node_chain.value().map(u64::to_string));
        self.compare_decimals(network, &decimals);
        let (row_name, row_version) = network.asset.eip712.unwrap_or_default();
        self.compare("name", row_name, name.value().cloned());
        self.compare("version", row_version, version.value().cloned());
        let expected = network.asset.separator.map(|separator| prefixed_hex(&separator)).unwrap_or_default();
        // The separator of a token that does not report one follows from its name and version.
        let recomputed = || {
            let (name, version) = name.value().zip(version.value())?;
            Some(prefixed_hex(domain_separator(name, version, chain_id, asset).as_slice()))
        };
        match &separator {
            ViewResult::Value(found) => self.compare("domain_separator", &expected, Some(prefixed_hex(found))),
            ViewResult::Absent => self.compare("domain_separator", &expected, recomputed().or_else(absent_text)),
            ViewResult::Unanswered => {}
        }
        RegistryCheckReport {
            name: name.value().map(|text| shown(text)),
            version: version.value().map(|text| shown(text)),
            decimals: decimals.value().map(u64::to_string),
            separator: separator.value().map(|found| prefixed_hex(found)),
            ..blank
        }
    }

    fn svm(&mut self, network: &Network, facts: &Facts, blank: RegistryCheckReport) -> RegistryCheckReport {
        if !network.local {
            let reference = network.caip2.strip_prefix("solana:").unwrap_or(network.caip2);
            let genesis: ViewResult<String> = self.note_answer(answered_text(facts, &genesis_hash_call()).into());
            // CAIP-2 keeps the first 32 characters of the genesis hash.
            let named = genesis.value().map(|hash| hash.chars().take(reference.len()).collect());
            self.compare("genesis_hash", reference, named);
        }
        let account =
            answered_value(facts, &mint_account_call(network)).map_or(ViewResult::Unanswered, read_mint_account);
        let account = self.note_answer(account);
        let decimals = match &account {
            ViewResult::Unanswered => return blank,
            ViewResult::Absent => {
                self.compare("mint", "an account", absent_text());
                return blank;
            }
            ViewResult::Value(account) => {
                // A mint of Token-2022 may charge fees or hide amounts.
                self.compare("owner", programs::TOKEN, Some(account.owner.clone()));
                match Mint::try_from_slice(&account.data) {
                    Ok(mint) if mint.is_initialized => ViewResult::Value(u64::from(mint.decimals)),
                    Ok(_) | Err(_) => ViewResult::Absent,
                }
            }
        };
        self.compare_decimals(network, &decimals);
        RegistryCheckReport { decimals: decimals.value().map(u64::to_string), ..blank }
    }

    fn note_answer<T>(&mut self, answer: ViewResult<T>) -> ViewResult<T> {
        self.has_unanswered |= matches!(answer, ViewResult::Unanswered);
        answer
    }

    fn compare_decimals(&mut self, network: &Network, answer: &ViewResult<u64>) {
        let found = match answer {
            ViewResult::Value(found) => Some(found.to_string()),
            ViewResult::Absent => absent_text(),
            ViewResult::Unanswered => None,
        };
        self.compare("decimals", &network.asset.decimals.to_string(), found);
    }

    /// Notes a difference, where there was an answer to compare.
    fn compare(&mut self, what: &'static str, expected: &str, found: Option<String>) {
        if let Some(found) = found.filter(|found| found != expected) {
            self.differences.push(Difference { what, expected: expected.to_owned(), found: shown(&found) });
        }
    }
}

/// The most characters of a text of a chain that a report repeats.
const SHOWN_MAX: usize = 200;

/// A text of a chain, as a report repeats it: it may be of any length.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN_MAX).collect()
}

/// The text in a report for a value that the chain does not have.
#[expect(clippy::unnecessary_wraps, reason = "it stands where an answer may")]
fn absent_text() -> Option<String> {
    Some("nothing".to_owned())
}

fn answered_value<'a>(facts: &'a Facts, call: &Call) -> Option<&'a RawValue> {
    match facts.get(call)? {
        RpcReply::Value(value) => Some(value),
        RpcReply::Error(_) => None,
    }
}

/// An answer that is text.
fn answered_text(facts: &Facts, call: &Call) -> Option<String> {
    serde_json::from_str(answered_value(facts, call)?.get()).ok()
}

fn is_bytes(text: &str) -> bool {
    text.strip_prefix("0x").is_some_and(|digits| hex::decode(digits).is_ok())
}

/// The answer of a view function. A revert, or the empty answer of an address without code or of a fallback, means that
/// there is no such value.
fn view_result<T>(facts: &Facts, call: &Call, read: fn(&str) -> Option<T>) -> ViewResult<T> {
    match facts.get(call) {
        Some(RpcReply::Error(error)) if error.class == ErrorClass::Revert => ViewResult::Absent,
        Some(RpcReply::Error(_)) | None => ViewResult::Unanswered,
        // A gateway's refusal may be text too; only bytes come from the contract.
        Some(RpcReply::Value(_)) => match answered_text(facts, call).filter(|text| is_bytes(text)) {
            Some(text) => read(&text).map_or(ViewResult::Absent, ViewResult::Value),
            None => ViewResult::Unanswered,
        },
    }
}

fn hex_number(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// An account's owner and data.
struct MintAccount {
    owner: String,
    data: Vec<u8>,
}

/// Reads the answer to `getAccountInfo` in base64.
fn read_mint_account(value: &RawValue) -> ViewResult<MintAccount> {
    #[derive(Deserialize)]
    struct AccountInfoResult<'a> {
        #[serde(borrow)]
        value: &'a RawValue,
    }
    #[derive(Deserialize)]
    struct AccountInfoValue {
        owner: String,
        data: (String, String),
    }
    let content = serde_json::from_str::<AccountInfoResult<'_>>(value.get())
        .and_then(|wire| serde_json::from_str::<Option<AccountInfoValue>>(wire.value.get()));
    match content {
        Ok(None) => ViewResult::Absent,
        Ok(Some(AccountInfoValue { owner, data: (text, encoding) }))
            if encoding == "base64" && text.len() <= MINT_CHARS_MAX =>
        {
            STANDARD.decode(text).map_or(ViewResult::Unanswered, |data| ViewResult::Value(MintAccount { owner, data }))
        }
        Ok(Some(_)) | Err(_) => ViewResult::Unanswered,
    }
}

/// A mint of the Token program: 82 bytes, the decimals at byte 44
/// (`spl_token::state::Mint`; its options have a tag of four bytes and always
/// their room).
#[derive(BorshDeserialize)]
#[cfg_attr(test, derive(borsh::BorshSerialize))]
struct Mint {
    _authority: (u32, [u8; 32]),
    _supply: u64,
    decimals: u8,
    is_initialized: bool,
    _freeze_authority: (u32, [u8; 32]),
}

#[cfg(test)]
mod tests;

//! The registry check: whether the token that a chain holds at the registered
//! address is the one our row describes. Pure, as all of `chain`; what follows
//! from a report (a chain stays off) is decided elsewhere.
//!
//! Tokens are upgradable proxies (docs/spec/chains.md#evm-22), so it is run again and again.

use crate::address::{Address, Family};
use crate::evm::{abi, question};
use crate::facts::{Call, ErrorClass, Facts, Reply};
use crate::network::{Network, domain_separator};
use alloy_primitives::Address as Address20;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use borsh::BorshDeserialize;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

/// `name()`.
const NAME: &str = "0x06fdde03";
/// `version()` (EIP-3009 tokens).
const VERSION: &str = "0x54fd4d50";
/// `decimals()`.
const DECIMALS: &str = "0x313ce567";
/// `DOMAIN_SEPARATOR()` (EIP-2612).
const SEPARATOR: &str = "0x3644e515";

/// The SPL Token program; Token-2022 mints may charge fees or hide amounts.
const TOKEN_PROGRAM: &str = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA";

/// Bytes of base64 in an answer that are decoded: a mint is 82 bytes, 112 characters.
const MINT_CHARS_MAX: usize = 1_024;

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Everything was read and agrees with the row.
    Passed,
    /// Something was read and does not.
    Differs,
    /// Nothing differs, but not everything could be read.
    Unreachable,
}

/// One thing that is not as the row says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub struct Difference {
    /// Which: `chain_id`, `name`, `version`, `decimals`, `domain_separator`,
    /// `genesis_hash`, `owner`, `mint`.
    pub what: &'static str,
    /// What the row says.
    pub expected: String,
    /// What the chain says.
    pub found: String,
}

/// What one node of a chain says about the chain's row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub struct Report {
    /// The row's key.
    pub chain: &'static str,
    /// What it came to.
    pub outcome: Outcome,
    /// What is not as the row says; empty unless the outcome is [`Outcome::Differs`].
    pub differences: Vec<Difference>,
    /// The token's name as read (EVM).
    pub name: Option<String>,
    /// The version of its EIP-712 domain as read (EVM).
    pub version: Option<String>,
    /// Its decimals as read.
    pub decimals: Option<String>,
    /// Its EIP-712 separator as read (EVM), lower-case hex.
    pub separator: Option<String>,
}

/// The calls that a check needs, all in one round.
#[must_use]
pub fn check_calls(network: &Network) -> Vec<Call> {
    match network.asset.address {
        Address::Evm(asset) => {
            let views = [NAME, VERSION, DECIMALS, SEPARATOR].map(|selector| view(asset, selector));
            [question::chain_id()].into_iter().chain(views).collect()
        }
        Address::Svm(_) if network.local => vec![mint_account(network)],
        Address::Svm(_) => vec![mint_account(network), genesis_hash()],
    }
}

/// Compares the answers to [`check_calls`] with the row. Never an error: what a
/// node did not answer, or not in a readable form, makes the outcome
/// [`Outcome::Unreachable`] unless something else differs.
#[must_use]
pub fn check(network: &Network, facts: &Facts) -> Report {
    let mut check = Check { unheard: false, differences: Vec::new() };
    let blank = Report {
        chain: network.key,
        outcome: Outcome::Unreachable,
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
    let outcome = match (check.differences.is_empty(), check.unheard) {
        (false, _) => Outcome::Differs,
        (true, true) => Outcome::Unreachable,
        (true, false) => Outcome::Passed,
    };
    Report { outcome, differences: check.differences, ..read }
}

fn view(asset: Address20, selector: &str) -> Call {
    question::view(asset, selector.to_owned())
}

fn mint_account(network: &Network) -> Call {
    let options = json!({ "encoding": "base64", "commitment": "confirmed" });
    Call::new("getAccountInfo", &json!([network.asset.address, options]))
}

fn genesis_hash() -> Call {
    Call::new("getGenesisHash", &json!([]))
}

/// What came of one question.
enum Heard<T> {
    /// The chain said this.
    Said(T),
    /// The chain answered, and there is no such thing.
    Nothing,
    /// The node did not answer, or not so that it could be understood.
    Unheard,
}

impl<T> From<Option<T>> for Heard<T> {
    fn from(said: Option<T>) -> Self {
        said.map_or(Self::Unheard, Self::Said)
    }
}

impl<T> Heard<T> {
    fn said(&self) -> Option<&T> {
        match self {
            Self::Said(value) => Some(value),
            Self::Nothing | Self::Unheard => None,
        }
    }
}

struct Check {
    unheard: bool,
    differences: Vec<Difference>,
}

impl Check {
    fn evm(&mut self, network: &Network, facts: &Facts, blank: Report) -> Report {
        let (Address::Evm(asset), Some(chain_id)) = (network.asset.address, network.chain_id) else {
            self.unheard = true;
            return blank;
        };
        let text = |selector| viewed(facts, &view(asset, selector), abi::string);
        let name = self.heard(text(NAME));
        let version = self.heard(text(VERSION));
        let decimals = self.heard(viewed(facts, &view(asset, DECIMALS), abi::number));
        let separator = self.heard(viewed(facts, &view(asset, SEPARATOR), abi::word));
        let node_chain = self.heard(text_of(facts, &question::chain_id()).and_then(|text| quantity(&text)).into());
        self.compare("chain_id", &chain_id.to_string(), node_chain.said().map(u64::to_string));
        self.compare_decimals(network, &decimals);
        let (row_name, row_version) = network.asset.eip712.unwrap_or_default();
        self.compare("name", row_name, name.said().cloned());
        self.compare("version", row_version, version.said().cloned());
        let expected = network.asset.separator.map(hex0x).unwrap_or_default();
        // A token that does not tell its separator has the one of its name and version.
        let recomputed = || {
            let (name, version) = name.said().zip(version.said())?;
            Some(hex0x(domain_separator(name, version, chain_id, asset).0))
        };
        match &separator {
            Heard::Said(found) => self.compare("domain_separator", &expected, Some(hex0x(*found))),
            Heard::Nothing => self.compare("domain_separator", &expected, recomputed().or_else(nothing)),
            Heard::Unheard => {}
        }
        Report {
            name: name.said().cloned(),
            version: version.said().cloned(),
            decimals: decimals.said().map(u64::to_string),
            separator: separator.said().map(|found| hex0x(*found)),
            ..blank
        }
    }

    fn svm(&mut self, network: &Network, facts: &Facts, blank: Report) -> Report {
        if !network.local {
            let reference = network.caip2.strip_prefix("solana:").unwrap_or(network.caip2);
            let genesis: Heard<String> = self.heard(text_of(facts, &genesis_hash()).into());
            // CAIP-2 keeps the first 32 characters of the genesis hash.
            let named = genesis.said().map(|hash| hash.chars().take(reference.len()).collect());
            self.compare("genesis_hash", reference, named);
        }
        let account = answer(facts, &mint_account(network)).map_or(Heard::Unheard, account);
        let account = self.heard(account);
        let decimals = match &account {
            Heard::Unheard => return blank,
            Heard::Nothing => {
                self.compare("mint", "an account", nothing());
                return blank;
            }
            Heard::Said(account) => {
                self.compare("owner", TOKEN_PROGRAM, Some(account.owner.clone()));
                match Mint::try_from_slice(&account.data) {
                    Ok(mint) if mint.is_initialized => Heard::Said(u64::from(mint.decimals)),
                    Ok(_) | Err(_) => Heard::Nothing,
                }
            }
        };
        self.compare_decimals(network, &decimals);
        Report { decimals: decimals.said().map(u64::to_string), ..blank }
    }

    fn heard<T>(&mut self, heard: Heard<T>) -> Heard<T> {
        self.unheard |= matches!(heard, Heard::Unheard);
        heard
    }

    fn compare_decimals(&mut self, network: &Network, heard: &Heard<u64>) {
        let found = match heard {
            Heard::Said(found) => Some(found.to_string()),
            Heard::Nothing => nothing(),
            Heard::Unheard => None,
        };
        self.compare("decimals", &network.asset.decimals.to_string(), found);
    }

    /// Notes a difference, where there was an answer to compare.
    fn compare(&mut self, what: &'static str, expected: &str, found: Option<String>) {
        if let Some(found) = found.filter(|found| found != expected) {
            self.differences.push(Difference { what, expected: expected.to_owned(), found });
        }
    }
}

/// How a report writes that the chain has no such thing.
#[expect(clippy::unnecessary_wraps, reason = "it stands where an answer may")]
fn nothing() -> Option<String> {
    Some("nothing".to_owned())
}

fn hex0x(bytes: [u8; 32]) -> String {
    format!("0x{}", hex::encode(bytes))
}

fn answer<'a>(facts: &'a Facts, call: &Call) -> Option<&'a RawValue> {
    match facts.get(call)? {
        Reply::Value(value) => Some(value),
        Reply::Error(_) => None,
    }
}

/// An answer that is a text.
fn text_of(facts: &Facts, call: &Call) -> Option<String> {
    serde_json::from_str(answer(facts, call)?.get()).ok()
}

fn is_bytes(text: &str) -> bool {
    text.strip_prefix("0x").is_some_and(|digits| hex::decode(digits).is_ok())
}

/// What a view function says. A revert, and the empty answer of an address
/// without code or of a fallback, are the contract's: there is no such thing.
fn viewed<T>(facts: &Facts, call: &Call, read: fn(&str) -> Option<T>) -> Heard<T> {
    match facts.get(call) {
        Some(Reply::Error(error)) if error.class == ErrorClass::Revert => Heard::Nothing,
        Some(Reply::Error(_)) | None => Heard::Unheard,
        // A gateway's refusal may be a text too; only bytes are the contract's.
        Some(Reply::Value(_)) => match text_of(facts, call).filter(|text| is_bytes(text)) {
            Some(text) => read(&text).map_or(Heard::Nothing, Heard::Said),
            None => Heard::Unheard,
        },
    }
}

fn quantity(text: &str) -> Option<u64> {
    u64::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

/// An account's owner and data.
struct Account {
    owner: String,
    data: Vec<u8>,
}

/// Reads the answer to `getAccountInfo` in base64.
fn account(value: &RawValue) -> Heard<Account> {
    #[derive(Deserialize)]
    struct Wire<'a> {
        #[serde(borrow)]
        value: &'a RawValue,
    }
    #[derive(Deserialize)]
    struct Content {
        owner: String,
        data: (String, String),
    }
    let content = serde_json::from_str::<Wire<'_>>(value.get())
        .and_then(|wire| serde_json::from_str::<Option<Content>>(wire.value.get()));
    match content {
        Ok(None) => Heard::Nothing,
        Ok(Some(Content { owner, data: (text, encoding) })) if encoding == "base64" && text.len() <= MINT_CHARS_MAX => {
            STANDARD.decode(text).map_or(Heard::Unheard, |data| Heard::Said(Account { owner, data }))
        }
        Ok(Some(_)) | Err(_) => Heard::Unheard,
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

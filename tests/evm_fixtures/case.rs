//! One recording as a node, and a plain reading of what a trace says.

use alloy_primitives::address;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::sync::LazyLock;
use x402_chain::address::{Address, Family, TxId};
use x402_chain::amount::Amount;
use x402_chain::facts::{Call, Facts, MalformedAnswer, RpcReply, Undecided};
use x402_chain::network;
use x402_chain::network::{Asset, BridgedToken, Network};
use x402_chain::reader;
use x402_chain::time::UnixSeconds;
use x402_chain::trace::{MinedTransaction, Trace, TransactionState, Transfer, TransferLocation};

/// Below the package, where cargo runs tests; a path compiled in would outlive a copy of the checkout.
const FOLDER: &str = "tests/fixtures/evm";

/// After every recording.
pub(crate) const NOW: UnixSeconds = UnixSeconds(1_795_000_000);

/// The manifest's rows that have a receipt, `null` included.
pub(crate) static CASES: LazyLock<Vec<Case>> =
    LazyLock::new(|| manifest().iter().filter(|row| row["files"]["receipt"].is_string()).map(Case::new).collect());

/// The chains of the recordings that are not in our registry: no token of
/// theirs is registered, and the one that moved is named.
pub(crate) const BSC: &[BridgedToken] = &[bridged(address!("8ac76a51cc950d9822d68b83fe1ad97b32cd580d"))];
pub(crate) const GNOSIS: &[BridgedToken] = &[bridged(address!("ddafbb505ad214d7b80b1f830fccc89b60fb7a83"))];
pub(crate) const SCROLL: &[BridgedToken] = &[bridged(address!("06efdbff2a14a7c8e15944d1f4a48f9f95f663a4"))];

pub(crate) const fn bridged(address: alloy_primitives::Address) -> BridgedToken {
    BridgedToken { address: Address::Evm(address), name: "bridged USDC" }
}

pub(crate) fn network(key: &str) -> Network {
    let unregistered = |key, chain_id, bridged| {
        let base = *network::by_key("base").unwrap();
        let asset = Asset {
            address: Address::Evm(address!("4020000000000000000000000000000000000001")),
            text: "0x4020000000000000000000000000000000000001",
            ..base.asset
        };
        Network { key, chain_id: Some(chain_id), asset, bridged, ..base }
    };
    match key {
        "bsc" => unregistered("bsc", 56, BSC),
        "gnosis" => unregistered("gnosis", 100, GNOSIS),
        "scroll" => unregistered("scroll", 534_352, SCROLL),
        registered => *network::by_key(registered).expect(registered),
    }
}

pub(crate) fn manifest() -> Vec<Value> {
    serde_json::from_str(&text("manifest.json")).unwrap()
}

/// The text of a fixture, which must be there.
pub(crate) fn text(file: &str) -> String {
    let path = format!("{FOLDER}/{file}");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A recorded answer: its `result`, or the whole where it has no envelope.
pub(crate) fn recorded(file: &Value) -> Value {
    let whole: Value = serde_json::from_str(&text(file.as_str().unwrap())).unwrap();
    whole.get("result").cloned().unwrap_or(whole)
}

/// One row, as a node that answers all that the reader asks.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) id: String,
    pub(crate) network: Network,
    pub(crate) tx: TxId,
    pub(crate) receipt: Value,
    pub(crate) block: Value,
    pub(crate) transaction: Value,
    pub(crate) expected: Value,
}

impl Case {
    pub(crate) fn new(row: &Value) -> Self {
        let receipt = recorded(&row["files"]["receipt"]);
        let block =
            if row["files"]["block"].is_string() { recorded(&row["files"]["block"]) } else { block_of(&receipt) };
        Self {
            id: row["id"].as_str().unwrap().to_owned(),
            network: network(row["chain"].as_str().unwrap()),
            tx: TxId::parse(Family::Evm, row["tx_hash"].as_str().unwrap()).unwrap(),
            receipt,
            block,
            transaction: Value::Null,
            expected: row["expected"].clone(),
        }
    }

    pub(crate) fn with(&self, receipt: Value) -> Self {
        Self { receipt, ..self.clone() }
    }

    pub(crate) fn answer(&self, call: &Call) -> Value {
        match call.method {
            "eth_getTransactionReceipt" => self.receipt.clone(),
            "eth_getTransactionByHash" => self.transaction.clone(),
            "eth_chainId" => json!(format!("{:#x}", self.network.chain_id.unwrap())),
            // The block's own height: one confirmation, and final by the tag.
            "eth_blockNumber" if self.block.is_null() => json!("0x1"),
            "eth_blockNumber" => self.block["number"].clone(),
            "eth_getBlockByNumber" => self.block.clone(),
            other => panic!("{other}"),
        }
    }

    pub(crate) fn trace(&self) -> Result<Trace, MalformedAnswer> {
        self.trace_by(|call| reply(&self.answer(call)))
    }

    /// Asks until the reader has all it wants, in at most two rounds.
    pub(crate) fn trace_by(&self, answer: impl Fn(&Call) -> RpcReply) -> Result<Trace, MalformedAnswer> {
        let mut facts = Facts::new();
        for _ in 0..3 {
            match reader::trace(&self.network, &self.tx, &facts, NOW) {
                Ok(trace) => return Ok(trace),
                Err(Undecided::Malformed(nonsense)) => return Err(nonsense),
                Err(Undecided::Missing(calls)) => {
                    for call in calls {
                        let reply = answer(&call);
                        facts.insert(call, reply);
                    }
                }
            }
        }
        panic!("{}: a third round", self.id);
    }

    pub(crate) fn recipient(&self) -> Address {
        // Where the row names none, nobody was paid.
        let named = self.expected["recipient"].as_str().unwrap_or("0x000000000000000000000000000000000000dead");
        Address::parse(Family::Evm, named).unwrap()
    }

    pub(crate) fn transfers(&self) -> Vec<Transfer> {
        self.trace().ok().as_ref().and_then(Trace::mined).map(|mined| mined.transfers.clone()).unwrap_or_default()
    }

    pub(crate) fn logs(&self) -> Vec<Value> {
        self.receipt["logs"].as_array().cloned().unwrap_or_default()
    }

    pub(crate) fn with_logs(&self, logs: Vec<Value>) -> Self {
        let mut receipt = self.receipt.clone();
        receipt["logs"] = json!(logs);
        self.with(receipt)
    }
}

pub(crate) fn block_of(receipt: &Value) -> Value {
    if receipt.is_null() {
        return Value::Null;
    }
    json!({ "number": receipt["blockNumber"], "hash": receipt["blockHash"], "timestamp": "0x65000000" })
}

pub(crate) fn reply(value: &Value) -> RpcReply {
    RpcReply::Value(RawValue::from_string(value.to_string()).unwrap())
}

/// What a recipient got and gave, in a plain reading of a trace.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) gross_in: Amount,
    pub(crate) gross_out: Amount,
    pub(crate) logs: Vec<u64>,
    pub(crate) payers: Vec<Address>,
}

/// The sum of two amounts; tests stay within 256 bits.
pub(crate) fn plus(one: Amount, other: Amount) -> Amount {
    Amount(one.0.checked_add(other.0).unwrap())
}

impl Sum {
    pub(crate) fn of(mined: &MinedTransaction, recipient: Address) -> Self {
        let mut sum = Self::default();
        for transfer in &mined.transfers {
            if transfer.from == Some(recipient) {
                sum.gross_out = plus(sum.gross_out, transfer.amount);
            }
            if transfer.to == Some(recipient) && transfer.from != Some(recipient) {
                sum.gross_in = plus(sum.gross_in, transfer.amount);
                sum.payers.extend(transfer.from);
                if let TransferLocation::LogIndex(index) = transfer.place {
                    sum.logs.push(index);
                }
            }
        }
        sum.payers.sort();
        sum.payers.dedup();
        sum
    }

    pub(crate) fn net(&self) -> Amount {
        self.gross_in.saturating_minus(self.gross_out)
    }
}

/// Our code for what a trace says to a recipient; `None` where it was paid.
pub(crate) fn code(trace: &Result<Trace, MalformedAnswer>, recipient: Address) -> Option<&'static str> {
    let mined = match trace.as_ref().map(|trace| &trace.found) {
        Err(_) => return Some("CHAIN_UNAVAILABLE"),
        Ok(TransactionState::Unknown) => return Some("TX_NOT_FOUND"),
        Ok(TransactionState::Pending) => return Some("TX_PENDING"),
        Ok(TransactionState::Mined(mined)) => mined,
    };
    let sum = Sum::of(mined, recipient);
    let named = mined.foreign.iter().any(|foreign| foreign.to == Some(recipient) && foreign.name.is_some());
    if mined.failure.is_some() {
        Some("TX_FAILED")
    } else if recipient.is_zero() {
        Some("INVALID_RECIPIENT")
    } else if !sum.net().is_zero() {
        None
    } else if !sum.gross_in.is_zero() {
        Some("RECIPIENT_FORWARDED")
    } else if named {
        Some("WRONG_ASSET")
    } else {
        Some("NO_MATCHING_TRANSFER")
    }
}

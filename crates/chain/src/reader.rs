//! The operations that every chain family supports, dispatched by family. Pure: replies come in as [`Facts`], and a
//! rule that lacks one returns the missing calls.

use crate::address::{Address, Family, TxId};
use crate::facts::{Call, Facts, Undecided};
use crate::network::{CostCap, Network};
use crate::time::UnixSeconds;
use crate::trace::{Party, PartyFacts, Trace};
use crate::{evm, facts, svm};

/// The least lamports with which a fee payer is used: rent keeps 890,880 in an account without data, and a transaction
/// of two signatures costs 20,000 at the registry's caps.
const LAMPORTS_MIN: u128 = 1_000_000;

/// Reads everything about one transaction that could matter to any recipient.
///
/// # Errors
/// [`Undecided::Missing`] names the calls that are still to be made, in one
/// round; [`Undecided::Malformed`] says that the node's answer is malformed.
pub fn trace(network: &Network, tx: &TxId, facts: &Facts, now: UnixSeconds) -> Result<Trace, Undecided> {
    match network.family {
        Family::Evm => evm::trace(network, tx, facts, now),
        Family::Svm => svm::trace(network, tx, facts, now),
    }
}

/// The parties of the registered asset's transfers, as far as the facts name them: `first` before all others, at most
/// [`PARTIES_MAX`](crate::trace::PARTIES_MAX). Empty while the facts name none; never an error.
#[must_use]
pub fn parties(network: &Network, tx: &TxId, facts: &Facts, first: Option<&Address>) -> Vec<Party> {
    match network.family {
        Family::Evm => evm::parties(network, tx, facts, first),
        Family::Svm => svm::parties(network, tx, facts, first),
    }
}

/// The calls that read a party's code and whether the issuer has blocked it. Where one fails, that property stays
/// unknown.
#[must_use]
pub fn party_calls(network: &Network, party: &Party) -> Vec<Call> {
    match network.family {
        Family::Evm => evm::party_calls(network, party),
        Family::Svm => svm::party_calls(network, party),
    }
}

/// The facts in the answers to [`party_calls`]; unknown where there is none.
#[must_use]
pub fn read_party(network: &Network, party: &Party, facts: &Facts) -> PartyFacts {
    match network.family {
        Family::Evm => evm::read_party(network, party, facts),
        Family::Svm => svm::read_party(network, party, facts),
    }
}

/// The call for an address's balance of the chain's own coin.
#[must_use]
pub fn native_balance_call(address: &Address) -> Call {
    match address {
        Address::Evm(address) => evm::tx::native_balance_call(address),
        Address::Svm(_) => {
            let options = serde_json::json!({"encoding": "base64", "commitment": "confirmed"});
            Call::new("getAccountInfo", &serde_json::json!([address, options]))
        }
    }
}

/// The node's answer to [`native_balance_call`], wei or lamports; `None` where it gave none.
#[must_use]
pub fn read_native_balance(network: &Network, facts: &Facts, call: &Call) -> Option<u128> {
    #[derive(serde::Deserialize)]
    struct LamportsResult {
        // Required: without it the answer shows nothing.
        #[serde(deserialize_with = "serde::Deserialize::deserialize")]
        value: Option<LamportsAccount>,
    }
    #[derive(serde::Deserialize)]
    struct LamportsAccount {
        lamports: u64,
    }
    match network.family {
        Family::Evm => evm::tx::read_wei(facts, call),
        Family::Svm => {
            let Some(facts::RpcReply::Value(value)) = facts.get(call) else { return None };
            let info: LamportsResult = serde_json::from_str(value.get()).ok()?;
            // An account that does not exist has a balance of zero.
            Some(info.value.map_or(0, |account| account.lamports.into()))
        }
    }
}

/// The least balance with which a signer is used, in the coin's smallest unit: on EVM the cost of the most expensive
/// transaction that the chain's caps allow; on Solana that of some transactions, above the account's rent. Zero where
/// nothing is settled.
#[must_use]
pub fn min_native_balance(network: &Network) -> u128 {
    let Some(settle) = network.settle else { return 0 };
    match settle.cost {
        CostCap::Evm(_) => settle.worst_cost(),
        CostCap::Svm(_) => LAMPORTS_MIN,
    }
}

/// The call for a chain's newest block.
#[must_use]
pub fn head_call(network: &Network) -> Call {
    match network.family {
        Family::Evm => evm::calls::head_block_call(),
        Family::Svm => Call::new("getSlot", &serde_json::json!([{"commitment": "confirmed"}])),
    }
}

/// The newest block, as `0x` hex or a number; `None` for anything else.
#[must_use]
pub fn read_head(facts: &Facts, call: &Call) -> Option<u64> {
    let Some(facts::RpcReply::Value(value)) = facts.get(call) else { return None };
    let text = value.get().trim_matches('"');
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::by_key;
    use serde_json::json;
    use serde_json::value::to_raw_value;

    #[test]
    fn what_a_key_holds_is_read_for_either_family() {
        let read_back = |key: &str, address: Address, value: serde_json::Value| {
            let (network, call, mut facts) =
                (by_key(key).expect("registered"), native_balance_call(&address), Facts::new());
            facts.insert(call.clone(), facts::RpcReply::Value(to_raw_value(&value).expect("JSON")));
            (read_native_balance(network, &facts, &call), min_native_balance(network))
        };
        let evm = Address::Evm([1; 20].into());
        // 200,000 gas at 5 gwei.
        assert_eq!(read_back("base", evm, json!("0x10")), (Some(16), 1_000_000_000_000_000));
        let svm = Address::Svm([1; 32]);
        assert_eq!(
            read_back("solana", svm, json!({"context": {"slot": 1}, "value": {"lamports": 17}})),
            (Some(17), LAMPORTS_MIN)
        );
        assert_eq!(read_back("solana", svm, json!({"context": {"slot": 1}, "value": null})).0, Some(0));
        for nonsense in [json!(null), json!({}), json!("x")] {
            assert_eq!(read_back("solana", svm, nonsense.clone()).0, None);
            assert_eq!(read_back("base", evm, nonsense).0, None);
        }
    }
}

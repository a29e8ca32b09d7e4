//! Gas that is paid in the token: the fee's logs are no movement of money.

use super::*;
use crate::trace::Transfer;

const CELO_USDC: &str = "0xceba9300f2b948710d2653dd7b07f33a8b32118c";
const SENDER: &str = "0x5555555555555555555555555555555555555555";
const ZERO: &str = "0x0000000000000000000000000000000000000000";

/// A node of Celo with a transaction that [`SENDER`] sent.
fn celo(logs: Vec<Value>) -> Node {
    let of_celo = |mut log: Value| {
        log["address"] = json!(CELO_USDC);
        log
    };
    let mut receipt = receipt(logs.into_iter().map(of_celo).collect());
    receipt["from"] = json!(SENDER);
    Node::with(receipt).says(&calls::chain_id_call(), json!("0xa4ec"))
}

fn found_on(key: &str, node: &Node) -> Result<MinedTransaction, Undecided> {
    let network = network::by_key(key).expect("registered");
    match trace(network, &tx(), &node.facts(), NOW)?.found {
        TransactionState::Mined(mined) => Ok(*mined),
        other @ (TransactionState::Unknown | TransactionState::Pending) => panic!("{other:?}"),
    }
}

/// Who earns the tip, and who earns the base fee.
const VAULT: &str = "0x4200000000000000000000000000000000000011";
const HANDLER: &str = "0xcd437749e43a154c07f3553504c68fbfd56b8778";

/// The logs with those of a fee of `tip` and 400 around them: 20,000 are reserved and come back.
fn with_fee(tip: u64, inner: Vec<Value>) -> Vec<Value> {
    let at = |after: usize| u64::try_from(inner.len().saturating_add(after)).expect("few");
    let fee = [
        (0, SENDER, ZERO, 20_000),
        (at(1), ZERO, SENDER, 20_000),
        (at(2), SENDER, VAULT, tip),
        (at(3), SENDER, HANDLER, 400),
    ];
    let logs: Vec<Value> = fee.map(|(index, from, to, value)| log(index, from, to, value)).into_iter().collect();
    [logs, inner].concat()
}

fn moves(mined: &MinedTransaction) -> Vec<(Address, Address, String)> {
    let ends = |line: &Transfer| (line.from.expect("named"), line.to.expect("named"), line.amount.to_string());
    mined.transfers.iter().map(ends).collect()
}

#[test]
fn the_fee_of_a_transaction_is_not_its_movement() {
    let payment = (address(PAYER), address(SENDER), "500000".to_owned());
    for tip in [0, 200] {
        let mined = found_on("celo", &celo(with_fee(tip, vec![log(1, PAYER, SENDER, 500_000)]))).expect("evidence");
        assert_eq!(moves(&mined), std::slice::from_ref(&payment));
        assert_eq!(mined.zero, [], "a tip of nothing is no poison");
        // A log keeps its number among the token's logs: claims are kept by it.
        assert_eq!(mined.transfers[0].ordinal, 1);
    }
    // A reserve that comes back in part is one too.
    let logs = vec![log(0, SENDER, ZERO, 20_000), log(1, PAYER, SENDER, 500_000), log(2, ZERO, SENDER, 19_400)];
    assert_eq!(moves(&found_on("celo", &celo(logs)).expect("evidence")), [payment]);
}

#[test]
fn what_the_sender_pays_is_no_fee() {
    let paid = |from: &str, value: u64| (address(from), address(PAY_TO), value.to_string());
    let found = |logs: Vec<Value>| moves(&found_on("celo", &celo(logs)).expect("evidence"));
    assert_eq!(found(with_fee(200, vec![log(1, SENDER, PAY_TO, 7)])), [paid(SENDER, 7)]);
    // The last two logs, but no reserve before them, another one, or one that is less than they.
    for (reserved, returned) in [(0, 20), (19, 20), (14, 14)] {
        let last = [log(2, SENDER, PAY_TO, 7), log(3, SENDER, PAY_TO, 8)];
        let first = [log(0, SENDER, ZERO, reserved), log(1, ZERO, SENDER, returned)];
        assert_eq!(found(first.into_iter().chain(last).collect()), [paid(SENDER, 7), paid(SENDER, 8)]);
    }
    // Somebody else's, and one that is not among the last two.
    let mut logs = with_fee(200, vec![]);
    logs.push(log(4, PAYER, PAY_TO, 9));
    assert!(found(logs).contains(&paid(PAYER, 9)));
}

#[test]
fn what_others_mint_and_burn_still_counts() {
    let logs = vec![log(0, ZERO, PAY_TO, 7), log(1, PAYER, ZERO, 5)];
    assert_eq!(found_on("celo", &celo(logs)).expect("evidence").transfers.len(), 2);
    // Where gas is the chain's own coin, the sender's are no fee either.
    let mut sent = receipt(vec![log(0, ZERO, PAYER, 7), log(1, PAYER, ZERO, 5)]);
    sent["from"] = json!(PAYER);
    assert_eq!(Node::with(sent).mined().transfers.len(), 2);
}

#[test]
fn a_payer_who_sends_his_own_authorization_is_paired_with_its_transfer_and_not_with_the_fee() {
    let used = |index: u64| {
        let mut used = log(index, SENDER, SENDER, 0);
        let event = format!("0x{}", hex::encode(log::AUTHORIZATION_USED));
        used["topics"] = json!([event, topic(SENDER), OTHER]);
        used["data"] = json!("0x");
        used
    };
    let logs = with_fee(200, vec![used(1), log(2, SENDER, PAY_TO, 500_000)]);
    let mined = found_on("celo", &celo(logs)).expect("evidence");
    assert_eq!(mined.authorizations.iter().map(|used| used.transfer).collect::<Vec<_>>(), [Some(2)]);
}

#[test]
fn without_a_sender_nobody_can_say_what_the_fee_is() {
    let mut node = celo(vec![log(0, PAYER, PAY_TO, 7)]);
    let mut unsigned = receipt(vec![]);
    unsigned["from"] = Value::Null;
    node = node.says(&calls::receipt_call(hash(TX)), unsigned.clone());
    let nonsense = found_on("celo", &node).expect_err("no evidence");
    assert_eq!(nonsense, Undecided::malformed("receipt_without_sender"));
    assert_eq!(Node::with(unsigned).mined().submitter, None, "other chains need none");
}

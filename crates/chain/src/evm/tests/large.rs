//! Receipts too large to read, pieced together from events.

use super::*;

/// A node whose receipt of our payment is too large to be read.
fn large(logs: Vec<Value>) -> Node {
    let transaction = json!({"hash": TX, "blockHash": BLOCK, "blockNumber": "0x64", "from": PAYER, "input": "0x"});
    let Address::Evm(asset) = address(USDC) else { panic!("a contract") };
    let mut node = Node::new()
        .says(&calls::transaction_call(hash(TX)), transaction)
        .says(&calls::events_call(hash(BLOCK), asset), json!(logs));
    node.0.retain(|(asked, _)| *asked != calls::receipt_call(hash(TX)));
    node.0.push((calls::receipt_call(hash(TX)), Err(ErrorClass::TooLarge)));
    node
}

#[test]
fn a_receipt_too_large_to_read_is_pieced_together_from_the_contracts_events() {
    let mut of_another = log(2, PAYER, PAY_TO, 900);
    of_another["transactionHash"] = json!(OTHER);
    let node = large(vec![of_another, log(3, PAYER, PAY_TO, 7)]);
    let mined = node.mined();
    assert_eq!(mined.failure, None);
    assert_eq!(mined.submitter, Some(address(PAYER)));
    let amounts: Vec<_> = mined.transfers.iter().map(|transfer| transfer.amount).collect();
    assert_eq!(amounts, [crate::amount::Amount::atomic(7)]);
    assert_eq!(
        calls::events_call(hash(BLOCK), quantity::address(USDC).unwrap()).params.as_ref(),
        format!(r#"[{{"address":"{USDC}","blockHash":"{BLOCK}"}}]"#)
    );
}

#[test]
fn what_stands_for_a_large_receipt_must_agree_with_the_chain() {
    let mut elsewhere = log(3, PAYER, PAY_TO, 7);
    elsewhere["blockHash"] = json!(OTHER);
    large(vec![elsewhere]).check("log_of_another_block");
    large(vec![log(3, PAYER, PAY_TO, 7), log(3, PAYER, PAY_TO, 7)]).check("duplicate_log");
    large(vec![]).says(&calls::transaction_call(hash(TX)), Value::Null).check("receipt_without_transaction");
    let other = json!({"hash": OTHER, "blockHash": BLOCK, "blockNumber": "0x64", "from": PAYER});
    large(vec![]).says(&calls::transaction_call(hash(TX)), other).check("transaction_of_another_hash");
    let moved = json!({"number": "0x64", "hash": OTHER, "timestamp": "0x69152000"});
    large(vec![log(3, PAYER, PAY_TO, 7)]).says(&calls::block_call(100), moved).check("receipt_not_canonical");
    let pending = json!({"hash": TX, "blockHash": null, "blockNumber": null, "from": PAYER});
    assert_eq!(large(vec![]).says(&calls::transaction_call(hash(TX)), pending).found(), Ok(TransactionState::Pending));
    assert_eq!(large(vec![]).mined().transfers, []);
}

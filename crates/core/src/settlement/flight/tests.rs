use super::*;
use serde_json::json;
use x402_chain::evm::tx::ContractCall;
use x402_chain::id::{SettlementId, TenantId};
use x402_chain::network::{Environment, by_key};
use x402_chain::time::UnixSeconds;
use x402_chain::trace::{Block, Depth, TransferLocation, UsedAuthorization};

const NONCE: B256 = B256::repeat_byte(7);
const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

fn address(byte: u8) -> Address {
    Address::Evm([byte; 20].into())
}

fn id(byte: u8) -> TxId {
    TxId::Evm([byte; 32].into())
}

/// A payment of 7 from 1 to 2.
pub(in crate::settlement) fn flight() -> Flight {
    Flight {
        settlement: SettlementId::new(UnixMillis(1), [1; 10]),
        attempt: 2,
        tenant: TenantId([1; 12]),
        environment: Environment::Test,
        network: "base".to_owned(),
        signer: address(5),
        held: None,
        cargo: FlightPayload::Evm(ContractCall { to: [9; 20].into(), data: vec![1].into(), gas_limit: 100_000 }),
        payer: address(1),
        pay_to: address(2),
        amount: Amount::atomic(7),
        nonce: Some(NONCE),
        valid_before: None,
        price: None,
        max_fee_wei: None,
        free: false,
    }
}

#[test]
fn a_transaction_is_charged_once() {
    let mut sent = FlightVersions::first(version(1, VersionKind::Transfer, NodeAcceptance::Taken));
    let spent = |total| TransactionCost { total, l1_fee: 3 };
    assert_eq!(sent.note_cost(spent(70)), Some(spent(70)));
    // Its block leaves the chain, and it is found again.
    sent.reopened = true;
    assert_eq!(sent.note_cost(spent(70)), None);
    // Another version, dearer and then cheaper, and one under a second nonce.
    assert_eq!((sent.note_cost(spent(90)), sent.note_cost(spent(80))), (Some(spent(20)), None));
    assert_eq!(sent.note_cost(spent(150)), Some(spent(60)));
    // A flight that an older build stored was charged at each of its ends.
    let old: FlightVersions = serde_json::from_value(json!({"versions": []})).expect("reads");
    assert_eq!(old.charged, None);
}

fn version(byte: u8, kind: VersionKind, handed: NodeAcceptance) -> FlightVersion {
    let price = Some(GasPrice { max_wei: 80, tip_wei: 8 });
    FlightVersion { raw: "0x".to_owned(), id: id(byte), price, until: None, at: NOW, kind, handed }
}

fn transfer(ordinal: u64, from: u8, to: u8, amount: u64) -> Transfer {
    let (from, to) = (Some(address(from)), Some(address(to)));
    Transfer { place: TransferLocation::LogIndex(ordinal), ordinal, from, to, amount: Amount::atomic(amount) }
}

fn used(authorizer: u8, nonce: u8, transfer: Option<u64>) -> UsedAuthorization {
    UsedAuthorization { authorizer: address(authorizer), nonce: B256::repeat_byte(nonce), transfer }
}

fn mined(failure: Option<&str>, transfers: Vec<Transfer>, authorizations: Vec<UsedAuthorization>) -> Trace {
    let block = Block { number: 1, hash: None, time: None };
    let found = TransactionState::Mined(Box::new(MinedTransaction {
        failure: failure.map(str::to_owned),
        block,
        head: 1,
        depth: Depth::Included,
        finality_unknown: false,
        submitter: None,
        transfers,
        foreign: Vec::new(),
        zero: Vec::new(),
        confidential: Vec::new(),
        memos: Vec::new(),
        authorizations,
    }));
    Trace { tx: id(1), found }
}

fn units_of(transfers: Vec<Transfer>, authorizations: Vec<UsedAuthorization>) -> Vec<u64> {
    matching_units(mined(None, transfers, authorizations).mined().expect("mined"), &flight().expected_transfer())
}

#[test]
fn a_payment_is_the_transfer_that_stands_with_its_authorization() {
    let twice = || vec![transfer(1, 1, 2, 7), transfer(3, 1, 2, 7)];
    // Two authorizations of one payer to one seller in one transaction: each its own.
    assert_eq!(units_of(twice(), vec![used(1, 7, Some(3)), used(1, 8, Some(1))]), [3]);
    // Two payers.
    let two = vec![transfer(1, 6, 2, 7), transfer(3, 1, 2, 7)];
    assert_eq!(units_of(two, vec![used(6, 7, Some(1)), used(1, 7, Some(3))]), [3]);
    // Where none is known to stand with it, what belongs to no other.
    assert_eq!(units_of(twice(), vec![used(1, 7, None)]), [1, 3]);
    assert_eq!(units_of(twice(), vec![used(1, 7, None), used(1, 8, Some(1))]), [3]);
    assert_eq!(units_of(twice(), vec![]), [1, 3]);
}

#[test]
fn an_authorization_that_paid_somebody_else_is_not_this_payment() {
    let all = || vec![transfer(1, 1, 4, 7), transfer(3, 1, 2, 7)];
    assert_eq!(units_of(all(), vec![used(1, 7, Some(1))]), [0_u64; 0]);
    for wrong in [transfer(1, 1, 2, 6), transfer(1, 1, 1, 7), transfer(1, 2, 2, 7)] {
        assert!(units_of(vec![wrong], vec![used(1, 7, None)]).is_empty());
    }
}

fn end(flight: &Flight, kind: VersionKind, trace: &Trace) -> Option<(SettlementStatus, Option<Reason>)> {
    flight_ending(flight, kind, trace).map(|ending| (ending.status, ending.reason))
}

#[test]
fn only_the_transfer_that_was_signed_completes_a_settlement() {
    let flight = flight();
    assert!(flight.key().starts_with("stl_") && flight.key().ends_with("/2"));
    let good = mined(None, vec![transfer(0, 1, 1, 7), transfer(1, 1, 2, 7)], vec![]);
    assert_eq!(end(&flight, VersionKind::Transfer, &good), Some((SettlementStatus::Completed, None)));
    assert_eq!(flight_ending(&flight, VersionKind::Transfer, &good).map(|ending| ending.units), Some(vec![1]));
    for wrong in [vec![], vec![transfer(0, 1, 2, 6)], vec![transfer(0, 1, 1, 7)]] {
        let want = Some((SettlementStatus::Failed, Some(Reason::EvmEventMismatch)));
        assert_eq!(end(&flight, VersionKind::Transfer, &mined(None, wrong, vec![])), want);
    }
    let want = Some((SettlementStatus::Failed, Some(Reason::EvmFailed)));
    assert_eq!(end(&flight, VersionKind::Transfer, &mined(Some("reverted"), Vec::new(), vec![])), want);
    assert_eq!(end(&flight, VersionKind::Transfer, &Trace { found: TransactionState::Pending, ..good }), None);
}

#[test]
fn on_solana_the_receiver_gains_the_amount() {
    let flight = Flight { cargo: FlightPayload::Svm(String::new()), ..flight() };
    let gained = Transfer { from: None, ..transfer(0, 1, 2, 7) };
    let good = mined(None, vec![gained], vec![]);
    assert_eq!(end(&flight, VersionKind::Transfer, &good), Some((SettlementStatus::Completed, None)));
    let want = Some((SettlementStatus::Failed, Some(Reason::SvmUnconfirmed)));
    assert_eq!(end(&flight, VersionKind::Transfer, &mined(None, vec![], vec![])), want);
}

#[test]
fn a_mined_cancel_ends_a_flight_as_late() {
    let want = Some((SettlementStatus::Failed, Some(Reason::EvmValidBefore)));
    assert_eq!(end(&flight(), VersionKind::Cancel, &mined(None, vec![], vec![])), want);
    assert_eq!(end(&flight(), VersionKind::Cancel, &mined(Some("reverted"), vec![], vec![])), want);
    assert_eq!(end(&flight(), VersionKind::Cancel, &Trace { tx: id(1), found: TransactionState::Unknown }), None);
}

#[test]
fn a_transaction_that_a_block_took_too_late_is_no_fault_of_the_payer() {
    let limit = UnixSeconds(1_800_000_000);
    let of = |time| {
        let mut trace = mined(Some("reverted"), Vec::new(), vec![]);
        if let TransactionState::Mined(mined) = &mut trace.found {
            mined.block.time = time;
        }
        end(&Flight { valid_before: Some(limit), ..flight() }, VersionKind::Transfer, &trace)
            .and_then(|(_, reason)| reason)
    };
    assert_eq!(of(Some(limit)), Some(Reason::EvmValidBefore));
    for time in [Some(UnixSeconds(limit.0 - 1)), None] {
        assert_eq!(of(time), Some(Reason::EvmFailed));
    }
}

#[test]
fn who_else_may_have_paid_is_known_before_a_flight_fails() {
    let sent = FlightVersions::first(version(1, VersionKind::Transfer, NodeAcceptance::Taken));
    let failed = || (id(1), FlightEnding::failed(Reason::EvmFailed, "reverted"));
    let end = |lookup| failed_or_third_party(&sent, failed(), lookup);
    assert_eq!(end(ThirdPartyLookup::Unknown), None);
    assert_eq!(end(ThirdPartyLookup::Nothing), Some((id(1), failed().1, false)));
    let found = |byte| ThirdPartyLookup::Found { id: id(byte), units: vec![4] };
    assert_eq!(end(found(9)), Some((id(9), FlightEnding::completed(vec![4]), true)));
    // Found again as somebody's, and it is a version of our own.
    assert_eq!(end(found(1)), Some((id(1), FlightEnding::completed(vec![4]), false)));
}

#[test]
fn nothing_is_signed_for_an_authorization_whose_time_is_over() {
    let mut flight = flight();
    let mut sent = FlightVersions::first(version(1, VersionKind::Transfer, NodeAcceptance::Taken));
    let at = |flight: &Flight, sent: &FlightVersions, ms| next_flight_step(flight, sent, NOW.plus(ms));
    assert_eq!(at(&flight, &sent, 9_999), FlightStep::Wait);
    assert_eq!(at(&flight, &sent, 10_000), FlightStep::Resend);
    assert_eq!((at(&flight, &sent, 30_000), at(&flight, &sent, 120_000)), (FlightStep::Bump, FlightStep::Bump));
    flight.valid_before = Some(UnixSeconds(NOW.0 / 1_000 + 60));
    assert_eq!((at(&flight, &sent, 59_999), at(&flight, &sent, 60_000)), (FlightStep::Bump, FlightStep::Cancel));
    sent.versions
        .push(FlightVersion { at: NOW.plus(60_000), ..version(2, VersionKind::Cancel, NodeAcceptance::Taken) });
    assert_eq!((at(&flight, &sent, 69_999), at(&flight, &sent, 70_000)), (FlightStep::Wait, FlightStep::Resend));
    assert_eq!(at(&flight, &sent, 90_000), FlightStep::Cancel);
    // A clock that goes back brings no transfer back.
    assert_eq!(at(&flight, &sent, 59_000), FlightStep::Wait);
    sent.versions.truncate(1);
    for (handed, want) in [(NodeAcceptance::No, FlightStep::End), (NodeAcceptance::Maybe, FlightStep::Cancel)] {
        sent.versions[0].handed = handed;
        assert_eq!(at(&flight, &sent, 60_000), want);
    }
    assert_eq!(next_flight_step(&flight, &FlightVersions::default(), NOW), FlightStep::Wait);
}

#[test]
fn what_no_node_has_is_offered_for_a_while_and_given_up() {
    let mut sent = FlightVersions::first(version(1, VersionKind::Transfer, NodeAcceptance::No));
    let at = |sent: &FlightVersions, ms| next_flight_step(&flight(), sent, NOW.plus(ms));
    assert_eq!(
        (at(&sent, 1_999), at(&sent, 2_000), at(&sent, 7_999)),
        (FlightStep::Wait, FlightStep::Resend, FlightStep::Resend)
    );
    assert_eq!(at(&sent, 8_000), FlightStep::End);
    // A higher price does not begin anew.
    sent.versions.push(FlightVersion { at: NOW.plus(7_000), ..version(2, VersionKind::Transfer, NodeAcceptance::No) });
    assert_eq!((at(&sent, 7_999), at(&sent, 8_000)), (FlightStep::Wait, FlightStep::End));
    for handed in [NodeAcceptance::Maybe, NodeAcceptance::Taken] {
        sent.versions[0].handed = handed;
        assert_eq!((at(&sent, 8_000), sent.is_abandoned(NOW.plus(60_000))), (FlightStep::Wait, false));
    }
    let mut flight = flight();
    assert_eq!(FlightEnding::never_accepted(&flight, NOW).reason, Some(Reason::UnexpectedSettle));
    flight.valid_before = Some(UnixSeconds(NOW.0 / 1_000));
    assert_eq!(FlightEnding::never_accepted(&flight, NOW), FlightEnding::expired());
}

#[test]
fn a_replacement_follows_the_market_within_the_cap() {
    let price = |max_wei, tip_wei| GasPrice { max_wei, tip_wei };
    let old = price(80, 8);
    assert_eq!(replacement_price(old, None, 1_000), Some(price(91, 10)));
    assert_eq!(replacement_price(old, Some(price(85, 9)), 1_000), Some(price(91, 10)));
    assert_eq!(replacement_price(old, Some(price(300, 9)), 1_000), Some(price(300, 10)));
    assert_eq!(replacement_price(old, Some(price(300, 200)), 150), Some(price(150, 150)));
    assert_eq!(replacement_price(old, Some(price(300, 9)), 90), None);
    assert!(!is_outpriced(old, price(161, 9)) && is_outpriced(old, price(162, 9)));
    let (base, mut flight) = (by_key("base").expect("registered"), flight());
    assert_eq!(flight.cap_wei(base), 5_000_000_000);
    // 100,000 gas are set aside; 21,000 may cost as much.
    assert_eq!(cancel_cap_wei(&flight, base, 25_000), 20_000_000_000);
    assert_eq!(cancel_cap_wei(&flight, base, 200_000), 5_000_000_000);
    flight.max_fee_wei = Some(10);
    assert_eq!((flight.cap_wei(base), cancel_cap_wei(&flight, base, 25_000)), (10, 40));
}

#[test]
fn a_nonce_is_lost_once_it_was_reported_for_long_enough() {
    let mut sent = FlightVersions::default();
    assert!(!is_nonce_lost(&sent, NOW));
    sent.lost_at = Some(NOW);
    assert!(!is_nonce_lost(&sent, NOW.plus(14_999)) && is_nonce_lost(&sent, NOW.plus(15_000)));
}

#[test]
fn a_report_says_what_was_handed_out() {
    let flight = flight();
    let mut sent = FlightVersions::first(version(1, VersionKind::Transfer, NodeAcceptance::Taken));
    sent.versions.push(version(2, VersionKind::Cancel, NodeAcceptance::No));
    let pending = SettlementReport::pending(&flight, &sent);
    assert_eq!((pending.status, pending.handed), (SettlementStatus::Pending, true));
    assert_eq!((pending.transaction, pending.attempts.len()), (Some(id(1).to_string()), 2));
    sent.versions.push(version(3, VersionKind::Transfer, NodeAcceptance::No));
    assert_eq!(SettlementReport::pending(&flight, &sent).transaction, Some(id(1).to_string()));
    sent.versions[2].handed = NodeAcceptance::Maybe;
    assert_eq!(SettlementReport::pending(&flight, &sent).transaction, Some(id(3).to_string()));
    for version in &mut sent.versions {
        version.handed = NodeAcceptance::No;
    }
    let nobodys = SettlementReport::pending(&flight, &sent);
    assert_eq!((nobodys.handed, nobodys.transaction), (false, None));
    let taken = SettlementReport::unsent(&flight, Reason::EvmBalance, "no")
        .with_cost(Some(TransactionCost { total: 3, l1_fee: 1 }));
    assert_eq!(taken.spent.map(|spent| spent.total), Some(3));
}

#[test]
fn what_the_build_before_stored_is_read() {
    // Stored by an older build: no kinds, and no acceptance of what was sent.
    let sent = json!({"versions": [{"raw": "0x02", "id": id(1).to_string(), "price": {"max_wei": 5, "tip_wei": 1},
        "until": null, "at": 1_800_000_000_000_u64}]});
    let sent: FlightVersions = serde_json::from_value(sent).expect("reads");
    let first = sent.newest().expect("a version");
    assert_eq!(
        (first.kind, first.handed, sent.reopened, sent.lost_at),
        (VersionKind::Transfer, NodeAcceptance::Maybe, false, None)
    );
    assert!(sent.may_be_accepted());
    let mut flight = serde_json::to_value(flight()).expect("writes");
    for member in ["valid_before", "price", "max_fee_wei", "free"] {
        flight.as_object_mut().expect("an object").remove(member);
    }
    let flight: Flight = serde_json::from_value(flight).expect("reads");
    assert_eq!(next_flight_step(&flight, &sent, NOW.plus(40_000)), FlightStep::Bump);
    let report = json!({"settlement": flight.settlement.to_string(), "status": "failed", "reason": null, "told": "",
        "transaction": null, "attempts": [], "external": false, "reorged": false});
    let report: SettlementReport = serde_json::from_value(report).expect("reads");
    assert!(!report.handed && !report.poor && report.held_until.is_none() && report.spent.is_none());
}

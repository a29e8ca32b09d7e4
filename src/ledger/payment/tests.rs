use super::*;
use crate::address::Family;
use crate::id::TenantId;
use crate::tenant::{Key, OwnLimits, Recipient, TenantStatus};
use crate::tier::Tier;
use proptest::prelude::*;

const NOW: UnixMillis = UnixMillis(1_795_000_000_000);
const PAYER: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
const PAY_TO: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";
/// One of the Treasury's list.
const LISTED: &str = "0x0330070fd38ec3bb94f58fa55d40368271e9e54a";

fn address(text: &str) -> Address {
    Address::parse(Family::Evm, text).expect("an address")
}

fn key() -> KeyHash {
    KeyHash::of("a key")
}

fn tenant(environment: Environment) -> Tenant {
    Tenant {
        id: TenantId([1; 12]),
        environment,
        version: 1,
        company_name: None,
        region: None,
        tier: Tier::Enterprise,
        status: TenantStatus::Active,
        limits: OwnLimits::default(),
        sanctions: SanctionsPolicy::Refuse,
        keys: vec![Key {
            id: KeyId::new(NOW, 1),
            name: "first".to_owned(),
            hash: key(),
            scopes: Scope::FIRST.to_vec(),
            created_at: NOW,
            expires_at: None,
        }],
        recipients: vec![Recipient { address: address(PAY_TO), default_for: Vec::new() }],
    }
}

fn asked(verb: Verb) -> Asked {
    Asked {
        key: key(),
        request_id: RequestId::new(NOW, 1),
        verb,
        network_text: "eip155:8453".to_owned(),
        network: Some("base".to_owned()),
        pay_to_taken: false,
        payer: None,
        chain_on: true,
        terms: Some(Terms {
            authorization: "a".to_owned(),
            fingerprint: "f".to_owned(),
            payer: address(PAYER),
            pay_to: address(PAY_TO),
            amount: Amount::atomic(10_000),
            signer: Some(address(PAY_TO)),
            proof: String::new(),
            valid_before: None,
            worst: 0,
        }),
        finding: Finding::Good(Checks::none()),
        daily: 3,
        idempotency: None,
        identifier: None,
        random: "7".to_owned(),
    }
}

fn refused(reason: Reason) -> Finding {
    Finding::Refused(Checks::none(), reason, "no".to_owned())
}

/// One step of a ledger that knows `row`.
fn step(asked: &Asked, tenant: &Tenant, admission: &mut Admission, row: Option<&Row>) -> Result<Booked, Stop> {
    step_with(asked, tenant, admission, &Records { row: row.cloned(), ..Records::default() })
}

fn step_with(asked: &Asked, tenant: &Tenant, admission: &mut Admission, records: &Records) -> Result<Booked, Stop> {
    let admitted = admit(asked, tenant, admission, records, NOW)?;
    Ok(conclude(asked, admitted, admission, Known { tenant, sanctions: None, records }, NOW)?)
}

fn booked_with(asked: &Asked, records: &Records) -> Booked {
    step_with(asked, &tenant(Environment::Live), &mut Admission::new(NOW), records).expect("an answer")
}

fn booked(asked: &Asked, row: Option<&Row>) -> Booked {
    step(asked, &tenant(Environment::Live), &mut Admission::new(NOW), row).expect("an answer")
}

fn reason(booked: &Booked) -> Option<Reason> {
    match &booked.outcome {
        Outcome::Refused(_, reason, _) => Some(*reason),
        Outcome::Valid(_) | Outcome::Settle(_) | Outcome::Settled(_) | Outcome::External(_) => None,
    }
}

/// A row with a settlement of that status.
fn row(status: SettlementStatus) -> Row {
    let mut settlement = booked(&asked(Verb::Settle), None).settlement.expect("reserved");
    settlement.status = status;
    Row { fingerprint: "f".to_owned(), settlement: Some(settlement), signer: None }
}

#[test]
fn a_payment_counts_once_and_is_reserved_once() {
    let (tenant, mut admission) = (tenant(Environment::Live), Admission::new(NOW));
    let verified = step(&asked(Verb::Verify), &tenant, &mut admission, None).expect("an answer");
    assert_eq!(verified.outcome, Outcome::Valid(Checks::none()));
    assert_eq!(verified.row, Some(("a".to_owned(), "f".to_owned(), None)));
    let known = Row { fingerprint: "f".to_owned(), settlement: None, signer: None };
    let settled = step(&asked(Verb::Settle), &tenant, &mut admission, Some(&known)).expect("an answer");
    assert!(matches!(settled.outcome, Outcome::Settle(_)));
    assert_eq!((admission.used, admission.requests), (1, 2));
    let settlement = settled.settlement.expect("reserved");
    assert_eq!((settlement.network.as_str(), settlement.amount.as_str()), ("eip155:8453", "10000"));
    assert_eq!(settled.row, Some(("a".to_owned(), "f".to_owned(), Some(settlement.id))));
}

#[test]
fn what_was_verified_is_settled_though_the_quota_is_used_up() {
    let mut tenant = tenant(Environment::Live);
    tenant.limits.per_month = Some(0);
    let mut admission = Admission::new(NOW);
    let known = Row { fingerprint: "f".to_owned(), settlement: None, signer: None };
    assert!(step(&asked(Verb::Settle), &tenant, &mut admission, Some(&known)).is_ok());
    match step(&asked(Verb::Settle), &tenant, &mut admission, None) {
        Err(Stop::Fault(fault)) => assert_eq!(fault.code, Code::QuotaExceeded),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_recorded_settlement_is_told_to_the_same_requirements_only() {
    let again = Asked { finding: refused(Reason::EvmNonceUsed), ..asked(Verb::Settle) };
    for (status, done) in [(SettlementStatus::Completed, true), (SettlementStatus::Pending, false)] {
        let row = row(status);
        let outcome = booked(&again, Some(&row)).outcome;
        assert_eq!(matches!(outcome, Outcome::Settled(_)), done);
        assert_eq!(matches!(outcome, Outcome::Settle(_)), !done);
        let mut other = again.clone();
        other.terms.as_mut().expect("terms").fingerprint = "g".to_owned();
        assert_eq!(reason(&booked(&other, Some(&row))), Some(Reason::DuplicateSettlement));
        // A free check that fails comes before anything that is recorded.
        let wrong = Asked { finding: refused(Reason::EvmValue), ..again.clone() };
        assert_eq!(reason(&booked(&wrong, Some(&row))), Some(Reason::EvmValue));
    }
    let failed = row(SettlementStatus::Failed);
    assert_eq!(reason(&booked(&again, Some(&failed))), Some(Reason::EvmNonceUsed));
    let retried = booked(&asked(Verb::Settle), Some(&failed)).settlement.expect("reserved");
    assert_eq!(Some(retried.id), failed.settlement.map(|earlier| earlier.id));
}

#[test]
fn only_a_payer_who_signed_is_told_of_a_record() {
    let row = row(SettlementStatus::Completed);
    let of = |reason: Reason| booked(&Asked { finding: refused(reason), ..asked(Verb::Settle) }, Some(&row));
    // Payer and nonce are public once they are settled; the signature is what a stranger lacks.
    assert_eq!(reason(&of(Reason::EvmSignature)), Some(Reason::EvmSignature));
    for later in [Reason::EvmNonceUsed, Reason::EvmBalance, Reason::EvmValidBefore, Reason::SvmSimulation] {
        assert!(matches!(of(later).outcome, Outcome::Settled(_)), "{later:?}");
    }
}

#[test]
fn one_identifier_is_one_payment() {
    let records = |status| Records { identified: Some(("b".to_owned(), row(status))), ..Records::default() };
    let named = |verb| Asked { identifier: Some("pay_0123456789abcdef".to_owned()), ..asked(verb) };
    // Signed anew after an answer was lost: nobody pays twice.
    for status in [SettlementStatus::Completed, SettlementStatus::Pending] {
        assert!(matches!(booked_with(&named(Verb::Settle), &records(status)).outcome, Outcome::Settled(_)));
    }
    assert!(matches!(
        booked_with(&named(Verb::Verify), &records(SettlementStatus::Completed)).outcome,
        Outcome::Valid(_)
    ));
    // What moved nothing is tried again.
    let failed = booked_with(&named(Verb::Settle), &records(SettlementStatus::Failed));
    assert!(matches!(failed.outcome, Outcome::Settle(_)));
    // Another payment, another payer, or nobody's signature.
    for verb in [Verb::Verify, Verb::Settle] {
        let mut other = named(verb);
        other.terms.as_mut().expect("terms").fingerprint = "g".to_owned();
        let booked = booked_with(&other, &records(SettlementStatus::Completed));
        assert_eq!(reason(&booked), Some(Reason::IdentifierConflict));
        let mut stranger = named(verb);
        stranger.terms.as_mut().expect("terms").payer = address(PAY_TO);
        let booked = booked_with(&stranger, &records(SettlementStatus::Completed));
        assert_eq!(reason(&booked), Some(Reason::IdentifierConflict));
    }
    let forged = Asked { finding: refused(Reason::EvmSignature), ..named(Verb::Settle) };
    let booked = booked_with(&forged, &records(SettlementStatus::Completed));
    assert_eq!(reason(&booked), Some(Reason::EvmSignature));
}

#[test]
fn what_somebody_else_has_sent_counts_as_paid_once() {
    let id = TxId::Evm(B256::repeat_byte(9));
    let external = Asked { finding: Finding::External(Checks::none(), id), ..asked(Verb::Settle) };
    let found = booked_with(&external, &Records::default());
    let settlement = found.settlement.expect("recorded");
    assert!(matches!(found.outcome, Outcome::External(_)));
    assert_eq!((settlement.status, settlement.transaction), (SettlementStatus::Completed, Some(id.to_string())));
    let spent = booked_with(&external, &Records { claimed: true, ..Records::default() });
    assert_eq!(reason(&spent), Some(Reason::EvmNonceUsed));
    let again = Records { row: Some(row(SettlementStatus::Completed)), claimed: true, ..Records::default() };
    assert!(matches!(booked_with(&external, &again).outcome, Outcome::Settled(_)));
}

#[test]
fn the_days_transactions_are_counted_by_network() {
    let (tenant, mut admission) = (tenant(Environment::Live), Admission::new(NOW));
    let mut send = |network: &str| {
        let asked = Asked { network: Some(network.to_owned()), ..asked(Verb::Settle) };
        reason(&step(&asked, &tenant, &mut admission, None).expect("an answer"))
    };
    for _ in 0..3 {
        assert_eq!(send("base"), None);
    }
    assert_eq!((send("base"), send("polygon")), (Some(Reason::QuotaExceeded), None));
    assert!(admission.send("base", 3, UnixMillis(NOW.0.saturating_add(86_400_000))));
}

#[test]
fn only_a_last_word_is_repeated() {
    let of =
        |finding: Finding, row: Option<&Row>| booked(&Asked { finding, ..asked(Verb::Settle) }, row).outcome.is_final();
    assert!(of(refused(Reason::EvmSignature), None));
    assert!(!of(refused(Reason::EvmBalance), None) && !of(Finding::Good(Checks::none()), None));
    assert!(of(refused(Reason::EvmNonceUsed), Some(&row(SettlementStatus::Completed))));
    // Signed anew while the first is on its way: pending now, not for a day.
    let pending = Records { identified: Some(("b".to_owned(), row(SettlementStatus::Pending))), ..Records::default() };
    assert!(!booked_with(&asked(Verb::Settle), &pending).outcome.is_final());
}

#[test]
fn an_idempotency_key_stands_for_one_body() {
    let keyed = Asked {
        idempotency: Some(Idempotency { key: "k".to_owned(), body_hash: "h".to_owned() }),
        ..asked(Verb::Settle)
    };
    let with = |body_hash: &str, answer: Option<(u16, String)>| {
        let stored = Some(Stored { body_hash: body_hash.to_owned(), answer, at: NOW });
        let records = Records { stored, ..Records::default() };
        step_with(&keyed, &tenant(Environment::Live), &mut Admission::new(NOW), &records)
    };
    assert_eq!(with("h", Some((200, "{}".to_owned()))), Err(Stop::Repeat(200, "{}".to_owned())));
    assert!(with("h", None).is_ok());
    match with("g", None) {
        Err(Stop::Fault(fault)) => assert_eq!(fault.code, Code::IdempotencyConflict),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_not_open_to_the_tenant_is_refused_in_the_protocols_words() {
    let (live, mut free) = (tenant(Environment::Live), tenant(Environment::Live));
    free.tier = Tier::Free;
    let of = |asked: &Asked, tenant: &Tenant| {
        step(asked, tenant, &mut Admission::new(NOW), None).ok().as_ref().and_then(reason)
    };
    let polygon = Asked { network: Some("polygon".to_owned()), ..asked(Verb::Verify) };
    assert_eq!(of(&polygon, &free), Some(Reason::NetworkNotEnabled));
    assert_eq!(of(&Asked { chain_on: false, ..asked(Verb::Verify) }, &live), Some(Reason::NetworkNotEnabled));
    let mut elsewhere = asked(Verb::Verify);
    elsewhere.terms.as_mut().expect("terms").pay_to = address(PAYER);
    assert_eq!(of(&elsewhere, &live), Some(Reason::PayToNotAllowed));
    let test = tenant(Environment::Test);
    let stop = step(&elsewhere, &test, &mut Admission::new(NOW), None);
    assert_eq!(stop, Err(Stop::Register(address(PAYER))));
    assert_eq!(of(&Asked { pay_to_taken: true, ..elsewhere }, &test), Some(Reason::PayToNotAllowed));
    let mut dust = asked(Verb::Verify);
    dust.terms.as_mut().expect("terms").amount = Amount::atomic(999);
    assert_eq!(of(&dust, &live), Some(Reason::BelowMinimum));
    let unknown = Asked { network: None, terms: None, finding: refused(Reason::InvalidNetwork), ..asked(Verb::Verify) };
    assert_eq!(of(&unknown, &live), Some(Reason::InvalidNetwork));
    let off = Asked { terms: None, chain_on: false, finding: refused(Reason::InvalidPayload), ..asked(Verb::Verify) };
    assert_eq!(of(&off, &live), Some(Reason::NetworkNotEnabled));
}

#[test]
fn a_listed_payer_is_refused_before_anything_is_signed() {
    let list = sanctions::List::builtin().expect("a list");
    let listed = address(LISTED);
    let mut of = asked(Verb::Settle);
    of.terms.as_mut().expect("terms").payer = listed;
    let (mut tenant, mut admission) = (tenant(Environment::Live), Admission::new(NOW));
    let known = |tenant: &Tenant, admission: &mut Admission| {
        let admitted = admit(&of, tenant, admission, &Records::default(), NOW).expect("admitted");
        let known = Known { tenant, sanctions: Some(&list), records: &Records::default() };
        conclude(&of, admitted, admission, known, NOW).expect("an answer")
    };
    assert_eq!(reason(&known(&tenant, &mut admission)), Some(Reason::SanctionedAddress));
    tenant.sanctions = SanctionsPolicy::Report;
    assert_eq!(reason(&known(&tenant, &mut admission)), None);
}

#[test]
fn a_chain_that_does_not_tell_is_a_fault_and_costs_no_quota() {
    let mut admission = Admission::new(NOW);
    let silent = Asked { finding: Finding::Unavailable, ..asked(Verb::Verify) };
    match step(&silent, &tenant(Environment::Live), &mut admission, None) {
        Err(Stop::Fault(fault)) => assert_eq!(fault.code, Code::ChainUnavailable),
        other => panic!("{other:?}"),
    }
    assert_eq!((admission.used, admission.requests), (0, 1));
}

proptest! {
    /// Whatever order of verify and settle comes, an authorization is reserved once and counts once.
    #[test]
    fn any_order_reserves_and_counts_once(verbs in proptest::collection::vec(any::<bool>(), 1..20)) {
        let (tenant, mut admission, mut known) = (tenant(Environment::Live), Admission::new(NOW), None::<Row>);
        let mut ids = std::collections::BTreeSet::new();
        for (at, settles) in verbs.iter().enumerate() {
            let verb = if *settles { Verb::Settle } else { Verb::Verify };
            let asked = Asked { random: at.to_string(), ..asked(verb) };
            let booked = step(&asked, &tenant, &mut admission, known.as_ref()).expect("an answer");
            if let Some((_, fingerprint, _)) = booked.row {
                let earlier = known.take().and_then(|row| row.settlement);
                known = Some(Row { fingerprint, settlement: booked.settlement.clone().or(earlier), signer: None });
            }
            ids.extend(known.as_ref().and_then(|row| row.settlement.as_ref()).map(|settlement| settlement.id.to_string()));
        }
        prop_assert_eq!(admission.used, 1);
        prop_assert!(ids.len() <= 1);
    }
}

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
        }),
        finding: Finding::Good(Checks::none()),
        random: "7".to_owned(),
    }
}

fn refused(reason: Reason) -> Finding {
    Finding::Refused(Checks::none(), reason, "no".to_owned())
}

/// One step of a ledger that knows `row`.
fn step(asked: &Asked, tenant: &Tenant, admission: &mut Admission, row: Option<&Row>) -> Result<Booked, Stop> {
    let admitted = admit(asked, tenant, admission, row, NOW)?;
    Ok(conclude(asked, admitted, admission, Known { tenant, sanctions: None, row }, NOW)?)
}

fn booked(asked: &Asked, row: Option<&Row>) -> Booked {
    step(asked, &tenant(Environment::Live), &mut Admission::new(NOW), row).expect("an answer")
}

fn reason(booked: &Booked) -> Option<Reason> {
    match &booked.outcome {
        Outcome::Refused(_, reason, _) => Some(*reason),
        Outcome::Valid(_) | Outcome::Settle(_) | Outcome::Settled(_) => None,
    }
}

/// A row with a settlement of that status.
fn row(status: SettlementStatus) -> Row {
    let mut settlement = booked(&asked(Verb::Settle), None).settlement.expect("reserved");
    settlement.status = status;
    Row { fingerprint: "f".to_owned(), settlement: Some(settlement) }
}

#[test]
fn a_payment_counts_once_and_is_reserved_once() {
    let (tenant, mut admission) = (tenant(Environment::Live), Admission::new(NOW));
    let verified = step(&asked(Verb::Verify), &tenant, &mut admission, None).expect("an answer");
    assert_eq!(verified.outcome, Outcome::Valid(Checks::none()));
    assert_eq!(verified.row, Some(("a".to_owned(), "f".to_owned(), None)));
    let known = Row { fingerprint: "f".to_owned(), settlement: None };
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
    let known = Row { fingerprint: "f".to_owned(), settlement: None };
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
        let admitted = admit(&of, tenant, admission, None, NOW).expect("admitted");
        let known = Known { tenant, sanctions: Some(&list), row: None };
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
                known = Some(Row { fingerprint, settlement: booked.settlement.clone().or(earlier) });
            }
            ids.extend(known.as_ref().and_then(|row| row.settlement.as_ref()).map(|settlement| settlement.id.to_string()));
        }
        prop_assert_eq!(admission.used, 1);
        prop_assert!(ids.len() <= 1);
    }
}

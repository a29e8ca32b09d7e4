use super::*;
use crate::tenancy::budget::Ended;
use crate::tenancy::budget::Spent;
use crate::tenancy::key::KeyHash;
use crate::tenancy::tenant::{Key, OwnLimits, Recipient, TenantStatus};
use crate::tenancy::tier::Tier;
use crate::verification::book::Idempotency;
use crate::verification::claims::Held;
use crate::verification::judge::Prior;
use alloy_primitives::B256;
use proptest::prelude::*;
use x402_chain::address::Family;
use x402_chain::id::{RequestId, TenantId};
use x402_chain::network::Budget;
use x402_chain::network::Environment;
use x402_chain::time::UnixSeconds;

mod delivery;

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
        explain: false,
        keys: vec![Key {
            id: KeyId::new(NOW, 1),
            name: "first".to_owned(),
            hash: key(),
            scopes: Scope::FIRST.to_vec(),
            created_at: NOW,
            expires_at: None,
        }],
        recipients: vec![Recipient { address: address(PAY_TO), default_for: Vec::new(), first_use: false }],
    }
}

fn asked(verb: Verb) -> Asked {
    Asked {
        key: key(),
        request_id: RequestId::new(NOW, 1),
        verb,
        network_text: "eip155:8453".to_owned(),
        network: Some("base".to_owned()),
        pay_to_tried: false,
        payer: None,
        chain_on: true,
        terms: Some(Terms {
            authorization: "a".to_owned(),
            fingerprint: "f".to_owned(),
            payer: address(PAYER),
            pay_to: address(PAY_TO),
            amount: Amount::atomic(10_000),
            signer: Some(address(PAY_TO)),
            proof: "p".to_owned(),
            valid_before: Some(UnixSeconds(1_795_000_600)),
            worst: 10,
            has_code: false,
            max_fee_wei: None,
            own_key: true,
        }),
        finding: Finding::Good(Checks::none()),
        budget: Budget { day: 30, failed: 3 },
        idempotency: None,
        identifier: None,
        explain: false,
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
        Outcome::Refused(_, reason, _) | Outcome::Taken(_, reason, ..) => Some(*reason),
        Outcome::Valid(_) | Outcome::Settle(_) | Outcome::Settled(_) | Outcome::External(_) | Outcome::FindOut => None,
    }
}

/// Another HTTP request than the first.
fn another(asked: &Asked) -> Asked {
    Asked { request_id: asked.request_id.next(), ..asked.clone() }
}

/// A payment that is known and not settled.
fn verified() -> Row {
    Row { fingerprint: "f".to_owned(), proof: Some("p".to_owned()), expires_at: None, kept: None }
}

/// A settlement of that status which nobody waits for.
fn kept(status: SettlementStatus) -> Kept {
    let mut kept = booked(&asked(Verb::Settle), None).kept.expect("reserved");
    kept.settlement.status = status;
    kept.course.lease = None;
    kept
}

/// A row with a settlement of that status which nobody waits for.
fn row(status: SettlementStatus) -> Row {
    Row { kept: Some(kept(status)), ..verified() }
}

#[test]
fn a_payment_counts_once_and_is_reserved_once() {
    let (tenant, mut admission) = (tenant(Environment::Live), Admission::new(NOW));
    let first = step(&asked(Verb::Verify), &tenant, &mut admission, None).expect("an answer");
    assert_eq!(first.outcome, Outcome::Valid(Checks::none()));
    let written = first.row.expect("a row");
    assert_eq!((written.authorization.as_str(), written.fingerprint.as_str(), written.settlement), ("a", "f", None));
    // Five minutes after the authorization's end.
    assert_eq!(written.expires_at, UnixMillis(1_795_000_900_000));
    let settled = step(&asked(Verb::Settle), &tenant, &mut admission, Some(&verified())).expect("an answer");
    assert!(matches!(settled.outcome, Outcome::Settle(_)));
    assert_eq!((admission.used, admission.requests), (1, 2));
    let settlement = settled.kept.expect("reserved").settlement;
    assert_eq!((settlement.network.as_str(), settlement.amount.as_str()), ("eip155:8453", "10000"));
    assert_eq!(settled.row.and_then(|row| row.settlement), Some(settlement.id));
}

#[test]
fn a_refused_payment_counts_against_the_rates_alone_and_leaves_no_row() {
    let (tenant, mut admission) = (tenant(Environment::Live), Admission::new(NOW));
    for finding in [Reason::EvmSignature, Reason::EvmBalance, Reason::EvmValidBefore] {
        for verb in [Verb::Verify, Verb::Settle] {
            let booked = step(&Asked { finding: refused(finding), ..asked(verb) }, &tenant, &mut admission, None);
            let booked = booked.expect("an answer");
            assert_eq!((reason(&booked), booked.row, booked.kept), (Some(finding), None, None));
        }
    }
    assert_eq!((admission.used, admission.requests), (0, 6));
}

#[test]
fn on_solana_a_payments_row_lasts_five_minutes_after_it_was_last_asked_for() {
    let mut of = asked(Verb::Verify);
    of.terms.as_mut().expect("terms").valid_before = None;
    let end = booked(&of, None).row.expect("a row").expires_at;
    assert_eq!(end, NOW.plus(300_000));
    let known = |ago: u64| Row { expires_at: Some(UnixMillis(end.0 - ago)), ..verified() };
    assert_eq!(booked(&of, Some(&known(59_000))).row, None);
    assert_eq!(booked(&of, Some(&known(61_000))).row.map(|row| row.expires_at), Some(end));
}

#[test]
fn what_was_verified_is_settled_though_the_quota_is_used_up() {
    let mut tenant = tenant(Environment::Live);
    tenant.limits.per_month = Some(0);
    let mut admission = Admission::new(NOW);
    assert!(step(&asked(Verb::Settle), &tenant, &mut admission, Some(&verified())).is_ok());
    match step(&asked(Verb::Settle), &tenant, &mut admission, None) {
        Err(Stop::Fault(fault)) => assert_eq!(fault.code, Code::QuotaExceeded),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_record_answers_the_same_requirements_only() {
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
    let retried = booked(&asked(Verb::Settle), Some(&failed)).kept.expect("reserved");
    assert_eq!(Some(retried.settlement.id), failed.kept.map(|earlier| earlier.settlement.id));
    assert_eq!(retried.course.attempt, 1);
}

#[test]
fn only_a_payer_who_signed_is_answered_from_a_record() {
    let row = row(SettlementStatus::Completed);
    let of = |finding: Finding, proof: &str| {
        let mut asked = Asked { finding, ..asked(Verb::Settle) };
        asked.terms.as_mut().expect("terms").proof = proof.to_owned();
        booked(&asked, Some(&row))
    };
    // Payer and nonce are public once they are settled; the signature is what a stranger lacks.
    assert_eq!(reason(&of(refused(Reason::EvmSignature), "p")), Some(Reason::EvmSignature));
    for later in [Reason::EvmNonceUsed, Reason::EvmBalance, Reason::EvmValidBefore, Reason::SvmSimulation] {
        assert!(matches!(of(refused(later), "q").outcome, Outcome::Settled(_)), "{later:?}");
    }
    // A contract is not asked once the time is over: its signature must be the one that was found good.
    let late = |proof: &str| {
        let mut asked = Asked { finding: refused(Reason::EvmValidBefore), ..asked(Verb::Settle) };
        let terms = asked.terms.as_mut().expect("terms");
        (terms.proof, terms.own_key) = (proof.to_owned(), false);
        booked(&asked, Some(&row))
    };
    assert!(matches!(late("p").outcome, Outcome::Settled(_)));
    assert_eq!(reason(&late("q")), Some(Reason::EvmValidBefore));
    // Where nobody looked at the signature, it must be the one that was found good.
    for finding in [Finding::Deferred, Finding::Used(Checks::none(), String::new())] {
        assert!(matches!(of(finding, "p").outcome, Outcome::Settled(_)));
    }
    assert_eq!(of(Finding::Deferred, "q").outcome, Outcome::FindOut);
    for ours in [Reason::UnexpectedVerify, Reason::UnexpectedSettle, Reason::EvmUnverified, Reason::EvmRelayerPoor] {
        assert!(matches!(of(refused(ours), "p").outcome, Outcome::Settled(_)));
        assert_eq!(reason(&of(refused(ours), "q")), Some(ours));
    }
}

#[test]
fn nothing_is_counted_before_it_is_found_out() {
    let (tenant, mut admission) = (tenant(Environment::Live), Admission::new(NOW));
    for finding in [Finding::Deferred, Finding::Used(Checks::none(), String::new())] {
        let asked = Asked { finding, ..asked(Verb::Settle) };
        assert_eq!(step(&asked, &tenant, &mut admission, None).expect("an answer").outcome, Outcome::FindOut);
    }
    assert_eq!((admission.used, admission.requests), (0, 0));
}

#[test]
fn one_identifier_is_one_authorization() {
    let records = |status| Records { identified: Some(("b".to_owned(), row(status))), ..Records::default() };
    let named = |verb| Asked { identifier: Some("pay_0123456789abcdef".to_owned()), ..asked(verb) };
    let live = [SettlementStatus::Completed, SettlementStatus::Pending];
    for (status, verb) in live.into_iter().flat_map(|status| [(status, Verb::Verify), (status, Verb::Settle)]) {
        // Signed anew: never answered with the first payment, which is named to its payer.
        let conflict = booked_with(&named(verb), &records(status)).outcome;
        let Outcome::Taken(_, Reason::IdentifierConflict, _, first) = conflict else { panic!("{conflict:?}") };
        let known = records(status).identified.and_then(|(_, row)| row.kept);
        assert_eq!(Some(first.id), known.map(|kept| kept.settlement.id));
        let silent = Asked { finding: refused(Reason::UnexpectedVerify), ..named(verb) };
        assert!(matches!(
            booked_with(&silent, &records(status)).outcome,
            Outcome::Refused(_, Reason::IdentifierConflict, _)
        ));
        let deferred = Asked { finding: Finding::Deferred, ..named(verb) };
        assert_eq!(booked_with(&deferred, &records(status)).outcome, Outcome::FindOut);
        // The same authorization for other requirements.
        let own =
            Records { identified: Some(("a".to_owned(), row(status))), row: Some(row(status)), ..Records::default() };
        assert_ne!(reason(&booked_with(&named(verb), &own)), Some(Reason::IdentifierConflict));
        let mut other = named(verb);
        other.terms.as_mut().expect("terms").fingerprint = "g".to_owned();
        assert_eq!(reason(&booked_with(&other, &own)), Some(Reason::IdentifierConflict));
    }
    // What moved nothing is tried again.
    let failed = booked_with(&named(Verb::Settle), &records(SettlementStatus::Failed));
    assert!(matches!(failed.outcome, Outcome::Settle(_)));
    let forged = Asked { finding: refused(Reason::EvmSignature), ..named(Verb::Settle) };
    let booked = booked_with(&forged, &records(SettlementStatus::Completed));
    assert_eq!(reason(&booked), Some(Reason::EvmSignature));
}

#[test]
fn what_somebody_else_has_sent_counts_as_paid_once() {
    let id = TxId::Evm(B256::repeat_byte(9));
    let external = Asked { finding: Finding::External(Checks::none(), id, vec![3]), ..asked(Verb::Settle) };
    let found = booked_with(&external, &Records::default());
    assert!(matches!(found.outcome, Outcome::External(_)) && found.claim == Some(Unit::Log(3)));
    let settlement = found.kept.expect("recorded").settlement;
    assert_eq!((settlement.status, settlement.transaction), (SettlementStatus::Completed, Some(id.to_string())));
    assert!(settlement.handed_over.is_some());
    let by = |unit| Held {
        unit,
        prior: Prior { id: ClaimId::Settlement(SettlementId::new(NOW, 99)), reference: None, at: NOW },
    };
    for unit in [Unit::Whole, Unit::Log(3)] {
        let spent = Records { held: vec![by(unit)], ..Records::default() };
        assert_eq!(reason(&booked_with(&external, &spent)), Some(Reason::EvmNonceUsed));
    }
    let beside = booked_with(&external, &Records { held: vec![by(Unit::Log(5))], ..Records::default() });
    assert!(matches!(beside.outcome, Outcome::External(_)));
}

#[test]
fn a_days_settlements_are_bounded_in_money_by_network() {
    let (tenant, mut admission) = (tenant(Environment::Live), Admission::new(NOW));
    let mut send = |network: &str| {
        let asked = Asked { network: Some(network.to_owned()), ..asked(Verb::Settle) };
        let paid = Records { has_paid: true, ..Records::default() };
        reason(&step_with(&asked, &tenant, &mut admission, &paid).expect("an answer"))
    };
    for _ in 0..3 {
        assert_eq!(send("base"), None);
    }
    assert_eq!((send("base"), send("polygon")), (Some(Reason::QuotaExceeded), None));
}

#[test]
fn once_failures_have_cost_their_share_only_known_payers_are_served_one_at_a_time() {
    let (tenant, mut admission) = (tenant(Environment::Live), Admission::new(NOW));
    let spent = Some(Spent { total: 3, l1_fee: 0 });
    admission.spending.end("base", Ended { reserve: None, spent, failed: true }, NOW);
    for verb in [Verb::Verify, Verb::Settle] {
        assert_eq!(
            reason(&step(&asked(verb), &tenant, &mut admission, None).expect("an answer")),
            Some(Reason::QuotaExceeded)
        );
    }
    let paid = Records { has_paid: true, ..Records::default() };
    let first = step_with(&asked(Verb::Settle), &tenant, &mut admission, &paid).expect("an answer");
    assert!(matches!(first.outcome, Outcome::Settle(_)));
    for verb in [Verb::Verify, Verb::Settle] {
        let second = step_with(&asked(verb), &tenant, &mut admission, &paid).expect("an answer");
        assert_eq!(reason(&second), Some(Reason::QuotaExceeded));
    }
}

#[test]
fn only_a_last_word_is_repeated() {
    let of =
        |finding: Finding, row: Option<&Row>| booked(&Asked { finding, ..asked(Verb::Settle) }, row).outcome.is_final();
    assert!(of(refused(Reason::EvmSignature), None));
    assert!(!of(refused(Reason::EvmBalance), None) && !of(Finding::Good(Checks::none()), None));
    assert!(of(refused(Reason::EvmNonceUsed), Some(&row(SettlementStatus::Completed))));
    // Somebody else waits now: that may end.
    let waiting = Row { kept: booked(&asked(Verb::Settle), None).kept, ..verified() };
    assert!(!booked(&another(&asked(Verb::Settle)), Some(&waiting)).outcome.is_final());
}

#[test]
fn an_idempotency_key_stands_for_one_body() {
    let keyed = Asked {
        idempotency: Some(Idempotency { key: "k".to_owned(), body_hash: "h".to_owned() }),
        ..asked(Verb::Settle)
    };
    let with = |body_hash: &str, answer: Option<(u16, String)>, answer_until| {
        let stored = Some(Stored { body_hash: body_hash.to_owned(), answer, answer_until, at: NOW });
        let records = Records { stored, ..Records::default() };
        step_with(&keyed, &tenant(Environment::Live), &mut Admission::new(NOW), &records)
    };
    let answer = || Some((200, "{}".to_owned()));
    assert_eq!(with("h", answer(), None), Err(Stop::Repeat(200, "{}".to_owned())));
    assert_eq!(with("h", answer(), Some(NOW.plus(1))), Err(Stop::Repeat(200, "{}".to_owned())));
    assert!(with("h", answer(), Some(NOW)).is_ok() && with("h", None, None).is_ok());
    match with("g", None, None) {
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
    assert_eq!(of(&Asked { pay_to_tried: true, ..elsewhere.clone() }, &test), Some(Reason::PayToNotAllowed));
    // Not before the rates, not for a request that breaks a rule, and not where the chain was not asked or did not
    // answer.
    let mut full = Admission::new(NOW);
    for _ in 0..test.limits().per_minute {
        full.count(KeyId::new(NOW, 1), NOW);
    }
    let limited = step(&elsewhere, &test, &mut full, None);
    assert!(matches!(limited, Err(Stop::Fault(fault)) if fault.code == Code::RateLimited));
    let broken = Asked { finding: refused(Reason::InvalidPayload), ..elsewhere.clone() };
    assert_eq!(of(&broken, &test), Some(Reason::InvalidPayload));
    for finding in [Finding::Unavailable, Finding::Deferred] {
        let stop = step(&Asked { finding, ..elsewhere.clone() }, &test, &mut Admission::new(NOW), None);
        assert!(!matches!(stop, Err(Stop::Register(_))));
    }
    let mut crowded = test.clone();
    for number in 0..100 {
        let own = Address::Evm(alloy_primitives::Address::repeat_byte(100 + number));
        crowded.recipients.push(Recipient { address: own, default_for: Vec::new(), first_use: true });
    }
    assert_eq!(of(&elsewhere, &crowded), Some(Reason::PayToNotAllowed));
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
            if booked.row.is_some() {
                let earlier = known.take().and_then(|row| row.kept);
                known = Some(Row { kept: booked.kept.clone().or(earlier), ..verified() });
            }
            ids.extend(known.as_ref().and_then(|row| row.kept.as_ref()).map(|kept| kept.settlement.id.to_string()));
        }
        prop_assert_eq!(admission.used, 1);
        prop_assert!(ids.len() <= 1);
    }
}

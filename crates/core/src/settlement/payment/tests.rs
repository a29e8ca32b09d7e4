use super::*;
use crate::sanctions;
use crate::settlement::status::SettlementStatus;
use crate::tenancy::access::KeyScope;
use crate::tenancy::admission::IdempotencyRecord;
use crate::tenancy::budget::{EndedAttempt, TransactionCost};
use crate::tenancy::key::KeyHash;
use crate::tenancy::tenant::{ApiKey, OwnLimits, Recipient, Scope, TenantStatus};
use crate::tenancy::tier::Tier;
use crate::verdict::SanctionsPolicy;
use crate::verification::claims::{ClaimUnit, HeldClaim};
use crate::verification::decision::IdempotencyKey;
use crate::verification::judge::PriorClaim;
use alloy_primitives::B256;
use proptest::prelude::*;
use x402_chain::address::Family;
use x402_chain::id::{KeyId, RequestId, TenantId};
use x402_chain::network::Environment;
use x402_chain::network::TenantBudget;
use x402_chain::time::UnixSeconds;

mod delivery;
mod limits;

const NOW: UnixMillis = UnixMillis(1_795_000_000_000);
const SETTLE: KeyUse = KeyUse { scope: KeyScope::Only(Scope::Settle), from: None };
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

fn recipient(address: Address, first_use: bool) -> Recipient {
    Recipient { address, default_for: Vec::new(), first_use, only_on: None }
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
        keys: vec![ApiKey {
            id: KeyId::new(NOW, [1; 10]),
            name: "first".to_owned(),
            hash: key(),
            scopes: Scope::FIRST.to_vec(),
            created_at: NOW,
            expires_at: None,
            allow_list: Vec::new(),
        }],
        webhooks: Some(Vec::new()),
        recipients: vec![recipient(address(PAY_TO), false)],
    }
}

fn asked(verb: PaymentAction) -> PaymentRequest {
    PaymentRequest {
        key: key(),
        request_id: RequestId::new(NOW, [1; 10]),
        traceparent: None,
        verb,
        network_text: "eip155:8453".to_owned(),
        network: Some("base".to_owned()),
        pay_to_tried: false,
        payer: None,
        chain_on: true,
        terms: Some(PaymentTerms {
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
        finding: PaymentFinding::Good(Checks::none()),
        budget: TenantBudget { day: 30, failed: 3 },
        idempotency: None,
        identifier: None,
        explain: false,
        random: [7; 10],
    }
}

fn refused(reason: Reason) -> PaymentFinding {
    PaymentFinding::Refused(Checks::none(), reason, "no".to_owned())
}

/// One step of a ledger that knows `row`.
fn step(
    asked: &PaymentRequest,
    tenant: &Tenant,
    admission: &mut Admission,
    row: Option<&PaymentRecord>,
) -> Result<PaymentDecision, AdmissionStop> {
    step_with(asked, tenant, admission, &PaymentRecords { row: row.cloned(), ..PaymentRecords::default() })
}

fn step_with(
    asked: &PaymentRequest,
    tenant: &Tenant,
    admission: &mut Admission,
    records: &PaymentRecords,
) -> Result<PaymentDecision, AdmissionStop> {
    let admitted = admit_payment((asked, SETTLE), tenant, admission, records, NOW)?;
    Ok(decide_payment(asked, admitted, admission, PaymentContext { tenant, sanctions: None, records }, NOW)?)
}

fn booked_with(asked: &PaymentRequest, records: &PaymentRecords) -> PaymentDecision {
    step_with(asked, &tenant(Environment::Live), &mut Admission::new(NOW), records).expect("an answer")
}

fn booked(asked: &PaymentRequest, row: Option<&PaymentRecord>) -> PaymentDecision {
    step(asked, &tenant(Environment::Live), &mut Admission::new(NOW), row).expect("an answer")
}

fn reason(booked: &PaymentDecision) -> Option<Reason> {
    refusal(&booked.outcome).map(|refusal| refusal.reason)
}

fn refusal(outcome: &PaymentOutcome) -> Option<&PaymentRefusal> {
    match outcome {
        PaymentOutcome::Answer(PaymentAnswer::Verify(Err(refusal)) | PaymentAnswer::Settle(Err(refusal))) => {
            Some(refusal)
        }
        PaymentOutcome::Answer(PaymentAnswer::Verify(Ok(_)) | PaymentAnswer::Settle(Ok(_)))
        | PaymentOutcome::Settle(_)
        | PaymentOutcome::ChainNeeded => None,
    }
}

/// Whether it gives the success of a transaction of ours away.
fn is_settled(outcome: &PaymentOutcome) -> bool {
    outcome.success().is_some_and(|success| !success.external)
}

/// Whether it gives the success of somebody else's transaction away.
fn is_external(outcome: &PaymentOutcome) -> bool {
    outcome.success().is_some_and(|success| success.external)
}

fn is_valid(outcome: &PaymentOutcome) -> bool {
    matches!(outcome, PaymentOutcome::Answer(PaymentAnswer::Verify(Ok(_))))
}

/// Another HTTP request than the first.
fn another(asked: &PaymentRequest) -> PaymentRequest {
    PaymentRequest { request_id: asked.request_id.next(), ..asked.clone() }
}

/// A payment that is known and not settled.
fn verified() -> PaymentRecord {
    PaymentRecord {
        fingerprint: "f".to_owned(),
        proof: Some("p".to_owned()),
        expires_at: None,
        settlement_record: None,
    }
}

/// A settlement of that status which nobody waits for.
fn kept(status: SettlementStatus) -> SettlementRecord {
    let mut kept = booked(&asked(PaymentAction::Settle), None).settlement_record.expect("reserved");
    kept.settlement.status = status;
    kept.progress.lease = None;
    kept
}

/// A row with a settlement of that status which nobody waits for.
fn row(status: SettlementStatus) -> PaymentRecord {
    PaymentRecord { settlement_record: Some(kept(status)), ..verified() }
}

#[test]
fn a_payment_counts_once_and_is_reserved_once() {
    let (tenant, mut admission) = (tenant(Environment::Live), Admission::new(NOW));
    let first = step(&asked(PaymentAction::Verify), &tenant, &mut admission, None).expect("an answer");
    assert_eq!(first.outcome, PaymentOutcome::Answer(PaymentAnswer::Verify(Ok(Checks::none()))));
    let written = first.row.expect("a row");
    assert_eq!((written.authorization.as_str(), written.fingerprint.as_str(), written.settlement), ("a", "f", None));
    // Five minutes after the authorization's end.
    assert_eq!(written.expires_at, UnixMillis(1_795_000_900_000));
    let settled = step(&asked(PaymentAction::Settle), &tenant, &mut admission, Some(&verified())).expect("an answer");
    assert!(matches!(settled.outcome, PaymentOutcome::Settle(_)));
    assert_eq!((admission.used, admission.requests), (1, 2));
    let settlement = settled.settlement_record.expect("reserved").settlement;
    assert_eq!((settlement.network.as_str(), settlement.amount.as_str()), ("eip155:8453", "10000"));
    assert_eq!(settled.row.and_then(|row| row.settlement), Some(settlement.id));
}

#[test]
fn a_refused_payment_counts_against_the_rates_alone_and_leaves_no_row() {
    let (tenant, mut admission) = (tenant(Environment::Live), Admission::new(NOW));
    for finding in [Reason::EvmSignature, Reason::EvmBalance, Reason::EvmValidBefore] {
        for verb in [PaymentAction::Verify, PaymentAction::Settle] {
            let booked =
                step(&PaymentRequest { finding: refused(finding), ..asked(verb) }, &tenant, &mut admission, None);
            let booked = booked.expect("an answer");
            assert_eq!((reason(&booked), booked.row, booked.settlement_record), (Some(finding), None, None));
        }
    }
    assert_eq!((admission.used, admission.requests), (0, 6));
}

#[test]
fn on_solana_a_payments_row_lasts_five_minutes_after_it_was_last_asked_for() {
    let mut of = asked(PaymentAction::Verify);
    of.terms.as_mut().expect("terms").valid_before = None;
    let end = booked(&of, None).row.expect("a row").expires_at;
    assert_eq!(end, NOW.plus(300_000));
    let known = |ago: u64| PaymentRecord { expires_at: Some(UnixMillis(end.0 - ago)), ..verified() };
    assert_eq!(booked(&of, Some(&known(59_000))).row, None);
    assert_eq!(booked(&of, Some(&known(61_000))).row.map(|row| row.expires_at), Some(end));
}

#[test]
fn a_record_answers_the_same_requirements_only() {
    let again = PaymentRequest { finding: refused(Reason::EvmNonceUsed), ..asked(PaymentAction::Settle) };
    for (status, done) in [(SettlementStatus::Completed, true), (SettlementStatus::Pending, false)] {
        let row = row(status);
        let outcome = booked(&again, Some(&row)).outcome;
        assert_eq!(is_settled(&outcome), done);
        assert_eq!(matches!(outcome, PaymentOutcome::Settle(_)), !done);
        let mut other = again.clone();
        other.terms.as_mut().expect("terms").fingerprint = "g".to_owned();
        assert_eq!(reason(&booked(&other, Some(&row))), Some(Reason::DuplicateSettlement));
        // A free check that fails comes before anything that is recorded.
        let wrong = PaymentRequest { finding: refused(Reason::EvmValue), ..again.clone() };
        assert_eq!(reason(&booked(&wrong, Some(&row))), Some(Reason::EvmValue));
    }
    let failed = row(SettlementStatus::Failed);
    assert_eq!(reason(&booked(&again, Some(&failed))), Some(Reason::EvmNonceUsed));
    let retried = booked(&asked(PaymentAction::Settle), Some(&failed)).settlement_record.expect("reserved");
    assert_eq!(Some(retried.settlement.id), failed.settlement_record.map(|earlier| earlier.settlement.id));
    assert_eq!(retried.progress.attempt, 1);
}

#[test]
fn only_a_payer_who_signed_is_answered_from_a_record() {
    let row = row(SettlementStatus::Completed);
    let of = |finding: PaymentFinding, proof: &str| {
        let mut asked = PaymentRequest { finding, ..asked(PaymentAction::Settle) };
        asked.terms.as_mut().expect("terms").proof = proof.to_owned();
        booked(&asked, Some(&row))
    };
    // Payer and nonce are public once they are settled; the signature is what a stranger lacks.
    assert_eq!(reason(&of(refused(Reason::EvmSignature), "p")), Some(Reason::EvmSignature));
    for later in [Reason::EvmNonceUsed, Reason::EvmBalance, Reason::EvmValidBefore, Reason::SvmSimulation] {
        assert!(is_settled(&of(refused(later), "q").outcome), "{later:?}");
    }
    // A contract is not asked once the time is over: its signature must be the one that was found good.
    let late = |proof: &str| {
        let mut asked = PaymentRequest { finding: refused(Reason::EvmValidBefore), ..asked(PaymentAction::Settle) };
        let terms = asked.terms.as_mut().expect("terms");
        (terms.proof, terms.own_key) = (proof.to_owned(), false);
        booked(&asked, Some(&row))
    };
    assert!(is_settled(&late("p").outcome));
    assert_eq!(reason(&late("q")), Some(Reason::EvmValidBefore));
    // Where nobody looked at the signature, it must be the one that was found good.
    for finding in [PaymentFinding::Deferred, PaymentFinding::Used(Checks::none(), String::new())] {
        assert!(is_settled(&of(finding, "p").outcome));
    }
    assert_eq!(of(PaymentFinding::Deferred, "q").outcome, PaymentOutcome::ChainNeeded);
    for ours in [Reason::UnexpectedVerify, Reason::UnexpectedSettle, Reason::EvmUnverified, Reason::EvmRelayerPoor] {
        assert!(is_settled(&of(refused(ours), "p").outcome));
        assert_eq!(reason(&of(refused(ours), "q")), Some(ours));
    }
}

#[test]
fn nothing_is_counted_before_it_is_found_out() {
    let (tenant, mut admission) = (tenant(Environment::Live), Admission::new(NOW));
    for finding in [PaymentFinding::Deferred, PaymentFinding::Used(Checks::none(), String::new())] {
        let asked = PaymentRequest { finding, ..asked(PaymentAction::Settle) };
        assert_eq!(
            step(&asked, &tenant, &mut admission, None).expect("an answer").outcome,
            PaymentOutcome::ChainNeeded
        );
    }
    assert_eq!((admission.used, admission.requests), (0, 0));
}

#[test]
fn one_identifier_is_one_authorization() {
    let records =
        |status| PaymentRecords { identified: Some(("b".to_owned(), row(status))), ..PaymentRecords::default() };
    let named = |verb| PaymentRequest { identifier: Some("pay_0123456789abcdef".to_owned()), ..asked(verb) };
    let live = [SettlementStatus::Completed, SettlementStatus::Pending];
    for (status, verb) in
        live.into_iter().flat_map(|status| [(status, PaymentAction::Verify), (status, PaymentAction::Settle)])
    {
        // Signed anew: never answered with the first payment, which is named to its payer.
        let conflict = booked_with(&named(verb), &records(status)).outcome;
        let named_first = refusal(&conflict).filter(|refusal| refusal.reason == Reason::IdentifierConflict);
        let first = named_first.and_then(|refusal| refusal.settlement.clone()).expect("the first payment");
        let known = records(status).identified.and_then(|(_, row)| row.settlement_record);
        assert_eq!(Some(first.id), known.map(|kept| kept.settlement.id));
        let silent = PaymentRequest { finding: refused(Reason::UnexpectedVerify), ..named(verb) };
        let unnamed = booked_with(&silent, &records(status)).outcome;
        let unnamed = refusal(&unnamed).map(|refusal| (refusal.reason, refusal.settlement.is_some()));
        assert_eq!(unnamed, Some((Reason::IdentifierConflict, false)));
        let deferred = PaymentRequest { finding: PaymentFinding::Deferred, ..named(verb) };
        assert_eq!(booked_with(&deferred, &records(status)).outcome, PaymentOutcome::ChainNeeded);
        // The same authorization for other requirements.
        let own = PaymentRecords {
            identified: Some(("a".to_owned(), row(status))),
            row: Some(row(status)),
            ..PaymentRecords::default()
        };
        assert_ne!(reason(&booked_with(&named(verb), &own)), Some(Reason::IdentifierConflict));
        let mut other = named(verb);
        other.terms.as_mut().expect("terms").fingerprint = "g".to_owned();
        assert_eq!(reason(&booked_with(&other, &own)), Some(Reason::IdentifierConflict));
    }
    // What moved nothing is tried again.
    let failed = booked_with(&named(PaymentAction::Settle), &records(SettlementStatus::Failed));
    assert!(matches!(failed.outcome, PaymentOutcome::Settle(_)));
    let forged = PaymentRequest { finding: refused(Reason::EvmSignature), ..named(PaymentAction::Settle) };
    let booked = booked_with(&forged, &records(SettlementStatus::Completed));
    assert_eq!(reason(&booked), Some(Reason::EvmSignature));
}

#[test]
fn what_somebody_else_has_sent_counts_as_paid_once() {
    let id = TxId::Evm(B256::repeat_byte(9));
    let external = PaymentRequest {
        finding: PaymentFinding::External(Checks::none(), id, vec![3]),
        ..asked(PaymentAction::Settle)
    };
    let found = booked_with(&external, &PaymentRecords::default());
    assert!(is_external(&found.outcome) && found.claim == Some(ClaimUnit::Log(3)));
    let settlement = found.settlement_record.expect("recorded").settlement;
    assert_eq!((settlement.status, settlement.transaction), (SettlementStatus::Completed, Some(id.to_string())));
    assert!(settlement.handed_over.is_some());
    let by = |unit| HeldClaim {
        unit,
        prior: PriorClaim { id: ClaimId::Settlement(SettlementId::new(NOW, [99; 10])), reference: None, at: NOW },
    };
    for unit in [ClaimUnit::Whole, ClaimUnit::Log(3)] {
        let spent = PaymentRecords { held_claims: vec![by(unit)], ..PaymentRecords::default() };
        assert_eq!(reason(&booked_with(&external, &spent)), Some(Reason::EvmNonceUsed));
    }
    let beside = booked_with(
        &external,
        &PaymentRecords { held_claims: vec![by(ClaimUnit::Log(5))], ..PaymentRecords::default() },
    );
    assert!(is_external(&beside.outcome));
}

#[test]
fn only_a_last_word_is_repeated() {
    let of = |finding: PaymentFinding, row: Option<&PaymentRecord>| {
        booked(&PaymentRequest { finding, ..asked(PaymentAction::Settle) }, row).outcome.is_final()
    };
    assert!(of(refused(Reason::EvmSignature), None));
    assert!(!of(refused(Reason::EvmBalance), None) && !of(PaymentFinding::Good(Checks::none()), None));
    assert!(of(refused(Reason::EvmNonceUsed), Some(&row(SettlementStatus::Completed))));
    // Somebody else waits now: that may end.
    let waiting = PaymentRecord {
        settlement_record: booked(&asked(PaymentAction::Settle), None).settlement_record,
        ..verified()
    };
    assert!(!booked(&another(&asked(PaymentAction::Settle)), Some(&waiting)).outcome.is_final());
}

#[test]
fn what_is_not_open_to_the_tenant_is_refused_in_the_protocols_words() {
    let (live, mut free) = (tenant(Environment::Live), tenant(Environment::Live));
    free.tier = Tier::Free;
    let of = |asked: &PaymentRequest, tenant: &Tenant| {
        step(asked, tenant, &mut Admission::new(NOW), None).ok().as_ref().and_then(reason)
    };
    let polygon = PaymentRequest { network: Some("polygon".to_owned()), ..asked(PaymentAction::Verify) };
    assert_eq!(of(&polygon, &free), Some(Reason::NetworkNotEnabled));
    assert_eq!(
        of(&PaymentRequest { chain_on: false, ..asked(PaymentAction::Verify) }, &live),
        Some(Reason::NetworkNotEnabled)
    );
    let mut elsewhere = asked(PaymentAction::Verify);
    elsewhere.terms.as_mut().expect("terms").pay_to = address(PAYER);
    assert_eq!(of(&elsewhere, &live), Some(Reason::PayToNotAllowed));
    let test = tenant(Environment::Test);
    let stop = step(&elsewhere, &test, &mut Admission::new(NOW), None);
    assert_eq!(stop, Err(AdmissionStop::Register(address(PAYER))));
    assert_eq!(of(&PaymentRequest { pay_to_tried: true, ..elsewhere.clone() }, &test), Some(Reason::PayToNotAllowed));
    // Not before the rates, not for a request that breaks a rule, and not where the chain was not asked or did not
    // answer.
    let mut full = Admission::new(NOW);
    for _ in 0..test.limits().per_minute {
        full.count_request(KeyId::new(NOW, [1; 10]), NOW);
    }
    let limited = step(&elsewhere, &test, &mut full, None);
    assert!(matches!(limited, Err(AdmissionStop::Fault(fault)) if fault.code == ErrorCode::RateLimited));
    let broken = PaymentRequest { finding: refused(Reason::InvalidPayload), ..elsewhere.clone() };
    assert_eq!(of(&broken, &test), Some(Reason::InvalidPayload));
    for finding in [PaymentFinding::Unavailable, PaymentFinding::Deferred] {
        let stop = step(&PaymentRequest { finding, ..elsewhere.clone() }, &test, &mut Admission::new(NOW), None);
        assert!(!matches!(stop, Err(AdmissionStop::Register(_))));
    }
    let mut crowded = test.clone();
    for number in 0..100 {
        let own = Address::Evm(alloy_primitives::Address::repeat_byte(100 + number));
        crowded.recipients.push(recipient(own, true));
    }
    assert_eq!(of(&elsewhere, &crowded), Some(Reason::PayToNotAllowed));
    let mut dust = asked(PaymentAction::Verify);
    dust.terms.as_mut().expect("terms").amount = Amount::atomic(999);
    assert_eq!(of(&dust, &live), Some(Reason::BelowMinimum));
    let unknown = PaymentRequest {
        network: None,
        terms: None,
        finding: refused(Reason::InvalidNetwork),
        ..asked(PaymentAction::Verify)
    };
    assert_eq!(of(&unknown, &live), Some(Reason::InvalidNetwork));
    let off = PaymentRequest {
        terms: None,
        chain_on: false,
        finding: refused(Reason::InvalidPayload),
        ..asked(PaymentAction::Verify)
    };
    assert_eq!(of(&off, &live), Some(Reason::NetworkNotEnabled));
}

#[test]
fn a_listed_payer_is_refused_before_anything_is_signed() {
    let list = sanctions::SanctionsList::builtin().expect("a list");
    let listed = address(LISTED);
    let mut of = asked(PaymentAction::Settle);
    of.terms.as_mut().expect("terms").payer = listed;
    let (mut tenant, mut admission) = (tenant(Environment::Live), Admission::new(NOW));
    let known = |tenant: &Tenant, admission: &mut Admission| {
        let admitted =
            admit_payment((&of, SETTLE), tenant, admission, &PaymentRecords::default(), NOW).expect("admitted");
        let known = PaymentContext { tenant, sanctions: Some(&list), records: &PaymentRecords::default() };
        decide_payment(&of, admitted, admission, known, NOW).expect("an answer")
    };
    assert_eq!(reason(&known(&tenant, &mut admission)), Some(Reason::SanctionedAddress));
    // The operator's signer would move the money: the tenant's policy is about verifications.
    tenant.sanctions = SanctionsPolicy::Report;
    assert_eq!(reason(&known(&tenant, &mut admission)), Some(Reason::SanctionedAddress));
}

#[test]
fn a_chain_that_does_not_tell_is_a_fault_and_costs_no_quota() {
    let mut admission = Admission::new(NOW);
    let silent = PaymentRequest { finding: PaymentFinding::Unavailable, ..asked(PaymentAction::Verify) };
    match step(&silent, &tenant(Environment::Live), &mut admission, None) {
        Err(AdmissionStop::Fault(fault)) => assert_eq!(fault.code, ErrorCode::ChainUnavailable),
        other => panic!("{other:?}"),
    }
    assert_eq!((admission.used, admission.requests), (0, 1));
}

proptest! {
    /// Whatever order of verify and settle comes, an authorization is reserved once and counts once.
    #[test]
    fn any_order_reserves_and_counts_once(verbs in proptest::collection::vec(any::<bool>(), 1..20)) {
        let (tenant, mut admission, mut known) = (tenant(Environment::Live), Admission::new(NOW), None::<PaymentRecord>);
        let mut ids = std::collections::BTreeSet::new();
        for (at, settles) in (0_u8..).zip(&verbs) {
            let verb = if *settles { PaymentAction::Settle } else { PaymentAction::Verify };
            let asked = PaymentRequest { random: [at; 10], ..asked(verb) };
            let booked = step(&asked, &tenant, &mut admission, known.as_ref()).expect("an answer");
            if booked.row.is_some() {
                let earlier = known.take().and_then(|row| row.settlement_record);
                known = Some(PaymentRecord { settlement_record: booked.settlement_record.clone().or(earlier), ..verified() });
            }
            ids.extend(known.as_ref().and_then(|row| row.settlement_record.as_ref()).map(|kept| kept.settlement.id.to_string()));
        }
        prop_assert_eq!(admission.used, 1);
        prop_assert!(ids.len() <= 1);
    }
}

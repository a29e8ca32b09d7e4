//! The pure ledger against a plain model: quota, claims, replays, periods,
//! idempotency and what becomes of a followed payment; and what it tells.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test fails by panicking"
)]

use alloy_primitives::B256;
use proptest::prelude::*;
use std::collections::BTreeMap;
use x402_api::{chains, docs, whoami};
use x402_chain::address::{Address, TxId};
use x402_chain::amount::Amount;
use x402_chain::id::{ClaimId, KeyId, RequestId, SettlementId, TenantId, VerificationId};
use x402_chain::network::{Environment, Network, by_key};
use x402_chain::retry::{RepeatRule, Retry};
use x402_chain::time::{Period, UnixMillis, UnixSeconds};
use x402_chain::trace::{
    Block, Depth, MinedTransaction, Screening, Trace, TransactionState, Transfer, TransferLocation, UsedAuthorization,
};
use x402_core::error::ErrorCode;
use x402_core::event::EventKind;
use x402_core::tenancy::access::KeyScope;
use x402_core::tenancy::admission::{Admission, AdmissionStop, IdempotencyRecord, KeyUse, PresentedKey, authorize_key};
use x402_core::tenancy::allow_list::AllowedNetwork;
use x402_core::tenancy::key::KeyHash;
use x402_core::tenancy::tenant::{ApiKey, OwnLimits, Recipient, Scope, Tenant, TenantStatus};
use x402_core::tenancy::tier::Tier;
use x402_core::tenancy::usage::usage_of;
use x402_core::verdict::{RefusalCode, SanctionsPolicy};
use x402_core::verification::answer::{Finality, VerificationAnswer, VerificationStatus};
use x402_core::verification::claim::Claim;
use x402_core::verification::claims;
use x402_core::verification::claims::{BoundReference, ClaimUnit, HeldClaim, PriorClaim};
use x402_core::verification::decision::{
    ChainObservation, IdempotencyKey, TracedTransaction, VerificationContext, VerificationOutcome, VerificationRequest,
    admit_verification, decide_verification,
};
use x402_core::verification::finality::{apply_trace, next_poll};

const NOW: UnixMillis = UnixMillis(1_795_000_000_000);
/// What the route of a verification requires of its key.
const VERIFY: KeyUse = KeyUse { scope: KeyScope::Only(Scope::Verify), from: None };
const KEY: KeyHash = KeyHash([7; 32]);

fn evm(byte: u8) -> Address {
    Address::Evm([byte; 20].into())
}

fn base() -> &'static Network {
    by_key("base").unwrap()
}

fn tenant() -> Tenant {
    Tenant {
        id: TenantId([1; 12]),
        environment: Environment::Live,
        version: 1,
        company_name: Some("Ann".to_owned()),
        status: TenantStatus::Active,
        tier: Tier::Free,
        region: None,
        limits: OwnLimits { per_minute: Some(1_000), per_hour: Some(100_000), per_month: Some(10) },
        sanctions: SanctionsPolicy::Refuse,
        explain: false,
        webhooks: Some(Vec::new()),
        recipients: vec![Recipient {
            address: evm(3),
            default_for: vec!["base".to_owned()],
            first_use: false,
            only_on: None,
        }],
        keys: vec![ApiKey {
            id: KeyId::new(NOW, [1; 10]),
            name: "one".to_owned(),
            hash: KEY,
            scopes: vec![Scope::Verify],
            created_at: NOW,
            expires_at: Some(NOW.plus(1_000_000)),
            allow_list: Vec::new(),
        }],
    }
}

fn mined(number: u64, amount: u64, depth: Depth) -> MinedTransaction {
    MinedTransaction {
        failure: None,
        block: Block { number, hash: Some(format!("0x{number}")), time: Some(UnixSeconds(1_794_999_990)) },
        head: number + 8,
        depth,
        finality_unknown: false,
        submitter: None,
        transfers: vec![Transfer {
            place: TransferLocation::LogIndex(0),
            ordinal: 0,
            from: Some(evm(4)),
            to: Some(evm(3)),
            amount: Amount::atomic(amount),
        }],
        foreign: vec![],
        zero: vec![],
        confidential: vec![],
        memos: vec![],
        authorizations: vec![],
    }
}

fn trace(tx: u8, found: TransactionState) -> Trace {
    Trace { tx: TxId::Evm(B256::repeat_byte(tx)), found }
}

fn request(tx: u8, reference: Option<&str>, found: TransactionState) -> VerificationRequest {
    VerificationRequest {
        key: KEY,
        request_id: RequestId::new(NOW, [1; 10]),
        traceparent: None,
        idempotency: None,
        claim: Claim {
            network: base(),
            tx: TxId::Evm(B256::repeat_byte(tx)),
            expected: None,
            recipient: None,
            payer: None,
            memo: None,
            authorization_nonce: None,
            reference: reference.map(str::to_owned),
            finality: Finality::Confirmed,
            max_age_s: 86_400,
            claim: true,
        },
        chain_on: true,
        seen: ChainObservation::Traced(Box::new(TracedTransaction {
            trace: trace(tx, found),
            screening: Screening::new(),
            single_provider: false,
        })),
        random: [5; 10],
    }
}

fn good(tx: u8, reference: Option<&str>) -> VerificationRequest {
    request(tx, reference, TransactionState::Mined(Box::new(mined(100, 5_000_000, Depth::Confirmed))))
}

/// A ledger as its rows: what the shell does around the pure steps.
struct Ledger {
    tenant: Tenant,
    admission: Admission,
    claims: Vec<claims::ClaimRow>,
}

/// A claim as the store finds it later.
fn held_claim(row: &claims::ClaimRow) -> HeldClaim {
    let prior = PriorClaim { id: row.id, reference: row.reference.clone().map(BoundReference::Text), at: row.at };
    HeldClaim { unit: row.unit, prior }
}

impl Ledger {
    fn new() -> Self {
        Self { tenant: tenant(), admission: Admission::new(NOW), claims: Vec::new() }
    }

    fn ask(&mut self, request: &VerificationRequest, now: UnixMillis) -> Result<VerificationOutcome, ErrorCode> {
        let code = |stop| match stop {
            AdmissionStop::Fault(fault) => fault.code,
            AdmissionStop::Repeat(..) | AdmissionStop::Register(_) => panic!("not here"),
        };
        let mut admission = self.admission.clone();
        admission.enter_period(now);
        let admitted = admit_verification((request, VERIFY), &self.tenant, &admission, None, now).map_err(code)?;
        let held = self.held(&request.claim.tx.to_string(), &admitted.recipient.to_string());
        let known = VerificationContext { tenant: &self.tenant, held_claims: &held, payers: &[], sanctions: None };
        let booked = decide_verification(request, admitted, &mut admission, known, now);
        self.admission = admission;
        let booked = booked.map_err(|fault| fault.code)?;
        for row in &booked.claims {
            self.put(row.clone());
        }
        Ok(booked)
    }

    /// What the store looks up.
    fn held(&self, tx: &str, recipient: &str) -> Vec<HeldClaim> {
        let of = |row: &&claims::ClaimRow| row.tx == tx && row.recipient == recipient;
        self.claims.iter().filter(of).map(held_claim).collect()
    }

    /// What the store refuses to write is never asked of it.
    fn put(&mut self, row: claims::ClaimRow) {
        let held = self.held(&row.tx, &row.recipient);
        let excludes =
            |held: &HeldClaim| held.unit == row.unit || held.unit == ClaimUnit::Whole || row.unit == ClaimUnit::Whole;
        assert!(!held.iter().any(excludes), "{row:?} over {held:?}");
        self.claims.push(row);
    }
}

#[test]
fn a_request_crosses_to_the_ledger_unchanged() {
    let sent = good(1, Some("order-1"));
    let text = serde_json::to_string(&sent).unwrap();
    assert_eq!(serde_json::from_str::<VerificationRequest>(&text).unwrap(), sent);
    let solana = VerificationRequest {
        claim: Claim {
            network: by_key("solana").unwrap(),
            tx: TxId::Svm([9; 64]),
            recipient: Some(Address::Svm([2; 32])),
            ..sent.claim.clone()
        },
        seen: ChainObservation::Unavailable,
        ..sent
    };
    let text = serde_json::to_string(&solana).unwrap();
    assert_eq!(serde_json::from_str::<VerificationRequest>(&text).unwrap(), solana);
}

#[test]
fn a_payment_is_not_refused_as_not_final_where_nobody_says_what_is() {
    let asked = |finality, finality_unknown, expected| {
        let found = MinedTransaction { finality_unknown, ..mined(100, 5_000_000, Depth::Confirmed) };
        let mut request = request(1, None, TransactionState::Mined(Box::new(found)));
        (request.claim.finality, request.claim.expected) = (finality, expected);
        let mut ledger = Ledger::new();
        let booked_as = ledger.ask(&request, NOW).map(|booked| booked.answer.error_code);
        assert!(booked_as.is_ok() || ledger.admission.used == 0);
        booked_as
    };
    assert_eq!(asked(Finality::Finalized, true, None), Err(ErrorCode::ChainUnavailable));
    assert_eq!(asked(Finality::Finalized, false, None), Ok(Some(RefusalCode::NotFinal)));
    assert_eq!(asked(Finality::Confirmed, true, None), Ok(None));
    // What is wrong whatever is final is said.
    let more = Some(Amount::atomic(5_000_001));
    assert_eq!(asked(Finality::Finalized, true, more), Ok(Some(RefusalCode::AmountTooLow)));
}

#[test]
fn an_answer_reads_back_what_it_writes() {
    let booked = Ledger::new().ask(&good(1, Some("order-1")), NOW).unwrap();
    let text = serde_json::to_string(&booked.answer).unwrap();
    assert_eq!(serde_json::from_str::<VerificationAnswer>(&text).unwrap(), booked.answer);
}

#[test]
fn admission_looks_in_the_designs_order() {
    let code = |change: fn(&mut VerificationRequest, &mut Tenant)| {
        let (mut request, mut ledger) = (good(1, None), Ledger::new());
        change(&mut request, &mut ledger.tenant);
        ledger.ask(&request, NOW).err()
    };
    assert_eq!(code(|_, _| {}), None);
    assert_eq!(
        code(|request, tenant| {
            request.key = KeyHash([8; 32]);
            tenant.status = TenantStatus::Suspended
        }),
        Some(ErrorCode::InvalidApiKey)
    );
    assert_eq!(code(|_, tenant| tenant.keys[0].expires_at = Some(NOW)), Some(ErrorCode::InvalidApiKey));
    assert_eq!(
        code(|_, tenant| {
            tenant.status = TenantStatus::Cancelled;
            tenant.keys[0].scopes.clear()
        }),
        Some(ErrorCode::TenantSuspended)
    );
    assert_eq!(
        code(|request, tenant| {
            tenant.keys[0].scopes.clear();
            request.chain_on = false
        }),
        Some(ErrorCode::InsufficientScope)
    );
    assert_eq!(
        code(|request, tenant| {
            request.chain_on = false;
            tenant.limits.per_minute = Some(0)
        }),
        Some(ErrorCode::ChainNotEnabled)
    );
    assert_eq!(
        code(|request, _| request.claim.network = by_key("ethereum").unwrap()),
        Some(ErrorCode::ChainNotEnabled)
    );
    assert_eq!(
        code(|request, tenant| {
            request.claim.recipient = Some(evm(9));
            tenant.limits.per_minute = Some(0)
        }),
        Some(ErrorCode::RecipientNotRegistered)
    );
    assert_eq!(code(|_, tenant| tenant.recipients.clear()), Some(ErrorCode::RecipientNotRegistered));
    assert_eq!(
        code(|_, tenant| {
            tenant.limits.per_minute = Some(0);
            tenant.limits.per_month = Some(0)
        }),
        Some(ErrorCode::RateLimited)
    );
    assert_eq!(code(|_, tenant| tenant.limits.per_hour = Some(0)), Some(ErrorCode::RateLimited));
    assert_eq!(code(|_, tenant| tenant.limits.per_month = Some(0)), Some(ErrorCode::QuotaExceeded));
    assert_eq!(code(|request, _| request.seen = ChainObservation::Unavailable), Some(ErrorCode::ChainUnavailable));
    assert_eq!(
        code(|_, tenant| {
            tenant.tier = Tier::Enterprise;
            tenant.limits = OwnLimits { per_month: Some(-1), ..OwnLimits::default() }
        }),
        None
    );
}

#[test]
fn a_key_is_used_from_its_networks_only() {
    let mut tenant = tenant();
    tenant.keys[0].allow_list = vec![AllowedNetwork::parse("203.0.113.0/24").unwrap()];
    let code = |tenant: &Tenant, hash: KeyHash, from: Option<&str>| {
        let used = KeyUse { from: from.map(|text| text.parse().unwrap()), ..VERIFY };
        authorize_key(tenant, PresentedKey { hash, used }, NOW).map(|_| ()).map_err(|it| it.code)
    };
    assert_eq!(code(&tenant, KEY, Some("203.0.113.7")), Ok(()));
    for from in [Some("203.0.114.7"), Some("2001:db8::1"), None] {
        assert_eq!(code(&tenant, KEY, from), Err(ErrorCode::IpNotAllowed), "{from:?}");
        // A stranger does not learn from where a key may be used.
        assert_eq!(code(&tenant, KeyHash([0; 32]), from), Err(ErrorCode::InvalidApiKey), "{from:?}");
        tenant.status = TenantStatus::Suspended;
        assert_eq!(code(&tenant, KEY, from), Err(ErrorCode::IpNotAllowed), "{from:?}");
        tenant.status = TenantStatus::Active;
    }
}

#[test]
fn a_key_needs_the_scope_that_its_route_requires() {
    let mut tenant = tenant();
    for held in Scope::ALL {
        tenant.keys[0].scopes = vec![held];
        let present = |scope| PresentedKey { hash: KEY, used: KeyUse { scope, from: None } };
        let code = |scope| authorize_key(&tenant, present(scope), NOW).map(|_| ()).map_err(|it| it.code);
        assert_eq!(code(KeyScope::Any), Ok(()));
        for required in Scope::ALL {
            let wanted = if held == required { Ok(()) } else { Err(ErrorCode::InsufficientScope) };
            assert_eq!(code(KeyScope::Only(required)), wanted, "{held:?} for {required:?}");
        }
    }
}

#[test]
fn in_test_an_unknown_recipient_is_to_be_registered() {
    let (mut request, mut tenant) = (good(1, None), tenant());
    tenant.environment = Environment::Test;
    request.claim.recipient = Some(evm(9));
    let stop = admit_verification((&request, VERIFY), &tenant, &Admission::new(NOW), None, NOW);
    assert_eq!(stop, Err(AdmissionStop::Register(evm(9))));
    // The rates come first.
    let mut full = Admission::new(NOW);
    for _ in 0..tenant.limits().per_minute {
        full.count_request(KeyId::new(NOW, [1; 10]), NOW);
    }
    let code = |stop: Result<_, AdmissionStop>| match stop {
        Err(AdmissionStop::Fault(fault)) => Some(fault.code),
        Err(AdmissionStop::Repeat(..) | AdmissionStop::Register(_)) | Ok(_) => None,
    };
    assert_eq!(code(admit_verification((&request, VERIFY), &tenant, &full, None, NOW)), Some(ErrorCode::RateLimited));
    // So many addresses, and no more; what an operator has registered does not count.
    for number in 0..100 {
        let address = Address::Evm(alloy_primitives::Address::repeat_byte(100 + number));
        tenant.recipients.push(Recipient { address, default_for: vec![], first_use: true, only_on: None });
    }
    assert_eq!(
        code(admit_verification((&request, VERIFY), &tenant, &Admission::new(NOW), None, NOW)),
        Some(ErrorCode::RecipientNotRegistered)
    );
    tenant.recipients.iter_mut().for_each(|recipient| recipient.first_use = false);
    assert_eq!(
        admit_verification((&request, VERIFY), &tenant, &Admission::new(NOW), None, NOW),
        Err(AdmissionStop::Register(evm(9)))
    );
}

#[test]
fn an_idempotency_record_repeats_conflicts_or_has_ended() {
    let mut request = good(1, None);
    request.idempotency = Some(IdempotencyKey { key: "k".to_owned(), body_hash: "aa".to_owned() });
    let ask = |stored: IdempotencyRecord, now| {
        admit_verification((&request, VERIFY), &tenant(), &Admission::new(NOW), Some(&stored), now)
    };
    let stored = |hash: &str, answer: Option<&str>| IdempotencyRecord {
        body_hash: hash.to_owned(),
        answer: answer.map(|body| (200, body.to_owned())),
        answer_until: None,
        at: NOW,
    };
    assert_eq!(ask(stored("aa", Some("{}")), NOW), Err(AdmissionStop::Repeat(200, "{}".to_owned())));
    assert!(ask(stored("aa", None), NOW).is_ok());
    match ask(stored("bb", None), NOW) {
        Err(AdmissionStop::Fault(fault)) => assert_eq!(fault.code, ErrorCode::IdempotencyConflict),
        other => panic!("{other:?}"),
    }
    let mut late = request.clone();
    late.claim.max_age_s = u64::MAX;
    let mut tenant = tenant();
    tenant.keys[0].expires_at = None;
    let tomorrow = NOW.plus(86_400_000);
    assert!(
        admit_verification((&late, VERIFY), &tenant, &Admission::new(NOW), Some(&stored("bb", None)), tomorrow).is_ok()
    );
}

/// Under an `Idempotency-Key`, after an answer with this body was recorded: whether it is repeated, or else how
/// the request was admitted.
fn repeated(body: &str, change: impl FnOnce(&mut VerificationRequest, &mut Tenant)) -> Result<bool, ErrorCode> {
    let (mut request, mut tenant) = (good(1, None), tenant());
    request.idempotency = Some(IdempotencyKey { key: "k".to_owned(), body_hash: "aa".to_owned() });
    change(&mut request, &mut tenant);
    let answer = Some((200, body.to_owned()));
    let stored = IdempotencyRecord { body_hash: "aa".to_owned(), answer, answer_until: None, at: NOW };
    match admit_verification((&request, VERIFY), &tenant, &Admission::new(NOW), Some(&stored), NOW) {
        Err(AdmissionStop::Repeat(_, recorded)) => {
            assert_eq!(recorded, body);
            Ok(true)
        }
        Err(AdmissionStop::Fault(fault)) => Err(fault.code),
        Err(AdmissionStop::Register(_)) => panic!("not here"),
        Ok(admitted) => {
            assert!(admitted.counted);
            Ok(false)
        }
    }
}

#[test]
fn a_refusal_that_can_be_mended_is_judged_anew() {
    let recorded = |code: &str| format!(r#"{{"success":false,"error_code":"{code}","to_address":"{}"}}"#, evm(3));
    for refusal in RefusalCode::ALL {
        let want = refusal.repeat() == RepeatRule::Recorded;
        assert_eq!(repeated(&recorded(refusal.as_str()), |_, _| {}), Ok(want), "{refusal:?}");
        // A refusal is about its recipient: another one than the tenant's, where the request names none.
        let moved = |tenant: &mut Tenant| tenant.recipients[0].address = evm(9);
        assert_eq!(repeated(&recorded(refusal.as_str()), |_, tenant| moved(tenant)), Ok(false), "{refusal:?}");
        let named = repeated(&recorded(refusal.as_str()), |request, tenant| {
            request.claim.recipient = Some(evm(3));
            tenant.recipients[0].default_for.clear();
        });
        assert_eq!(named, Ok(want), "{refusal:?}");
    }
    // Faults that an older build has recorded: what has been mended is served, what has not is refused anew.
    for code in [ErrorCode::RecipientNotRegistered, ErrorCode::ChainNotEnabled] {
        let body = format!(r#"{{"success":false,"error_code":"{code}"}}"#);
        assert_eq!(repeated(&body, |_, _| {}), Ok(false));
        assert_eq!(repeated(&body, |request, _| request.chain_on = false), Err(ErrorCode::ChainNotEnabled));
    }
    let success = format!(r#"{{"success":true,"error_code":null,"to_address":"{}"}}"#, evm(3));
    assert_eq!(repeated(&success, |_, tenant| tenant.recipients.clear()), Ok(true));
}

#[test]
fn what_is_judged_anew_counts_once() {
    let mut request = good(1, None);
    request.idempotency = Some(IdempotencyKey { key: "k".to_owned(), body_hash: "aa".to_owned() });
    let body = r#"{"error_code":"SANCTIONED_ADDRESS"}"#.to_owned();
    let stored =
        IdempotencyRecord { body_hash: "aa".to_owned(), answer: Some((200, body)), answer_until: None, at: NOW };
    let tenant = tenant();
    let mut admission = Admission { used: 10, ..Admission::new(NOW) };
    let known = VerificationContext { tenant: &tenant, held_claims: &[], payers: &[], sanctions: None };
    // The month's ten are used up, and it is one of them.
    let admitted = admit_verification((&request, VERIFY), &tenant, &admission, Some(&stored), NOW).unwrap();
    assert!(decide_verification(&request, admitted, &mut admission, known, NOW).unwrap().answer.success);
    assert_eq!((admission.used, admission.requests), (10, 1));
    match admit_verification((&request, VERIFY), &tenant, &admission, None, NOW) {
        Err(AdmissionStop::Fault(fault)) => assert_eq!(fault.code, ErrorCode::QuotaExceeded),
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_final_verdicts_count_and_a_replay_is_free() {
    let mut ledger = Ledger::new();
    let first = ledger.ask(&good(1, Some("a")), NOW).unwrap();
    assert!(first.answer.claimed && first.track_finality && first.is_record);
    let again = ledger.ask(&good(1, Some("a")), NOW).unwrap();
    assert_eq!((again.answer.id, again.answer.replayed, again.is_record), (first.answer.id, true, false));
    let other = ledger.ask(&good(1, Some("b")), NOW).unwrap();
    assert_eq!(other.answer.error_code, Some(RefusalCode::AlreadyClaimed));
    assert_eq!(other.answer.claimed_by.map(|by| by.id), Some(ClaimId::Verification(first.answer.id)));
    for found in [
        TransactionState::Unknown,
        TransactionState::Pending,
        TransactionState::Mined(Box::new(mined(100, 5, Depth::Included))),
    ] {
        let later = ledger.ask(&request(2, None, found), NOW).unwrap();
        assert_eq!((later.answer.retry, later.answer.status), (Some(Retry::Later), VerificationStatus::Pending));
    }
    let mut unavailable = good(3, None);
    unavailable.seen = ChainObservation::Unavailable;
    assert_eq!(ledger.ask(&unavailable, NOW).err(), Some(ErrorCode::ChainUnavailable));
    // Two final verdicts; seven requests, that of the unavailable chain too.
    assert_eq!((ledger.admission.used, ledger.admission.requests), (2, 7));
}

#[test]
fn a_month_rolls_by_itself() {
    let mut ledger = Ledger::new();
    ledger.tenant.keys[0].expires_at = None;
    for tx in 0..10 {
        assert!(ledger.ask(&good(tx, None), NOW).is_ok());
    }
    assert_eq!(ledger.ask(&good(11, None), NOW).err(), Some(ErrorCode::QuotaExceeded));
    let next = Period::of(NOW).end();
    let mut fresh = good(12, None);
    fresh.claim.max_age_s = 315_360_000;
    assert!(ledger.ask(&fresh, next).is_ok());
    assert_eq!((ledger.admission.period, ledger.admission.used), (Period::of(next), 1));
    let mut admission = Admission::new(NOW);
    assert_eq!(admission.enter_period(NOW), None);
    assert!(admission.enter_period(next).is_some_and(|closed| closed.period == Period::of(NOW)));
    assert_eq!(admission.enter_period(NOW), None);
}

proptest! {
    #[test]
    fn quota_and_claims_hold_under_any_sequence(
        steps in proptest::collection::vec((0_u8..6, 0_usize..4, any::<bool>(), 0_u64..60_000), 1..60)
    ) {
        let references = [None, Some("a"), Some("b"), Some("c")];
        let (mut ledger, mut now) = (Ledger::new(), NOW);
        let mut owners: BTreeMap<u8, (VerificationId, Option<&str>)> = BTreeMap::new();
        let (mut counted, mut ids) = (0, Vec::new());
        for (tx, reference, is_pending, step) in steps {
            now = now.plus(step / 100);
            let reference = references[reference];
            let asked = if is_pending { request(tx, reference, TransactionState::Pending) } else { good(tx, reference) };
            match ledger.ask(&asked, now) {
                Ok(booked) => {
                    let answer = booked.answer;
                    if answer.replayed {
                        prop_assert_eq!(owners.get(&tx), Some(&(answer.id, reference)));
                        continue;
                    }
                    prop_assert!(!ids.contains(&answer.id));
                    prop_assert!(ids.last().is_none_or(|last| *last < answer.id));
                    ids.push(answer.id);
                    counted += u64::from(answer.retry != Some(Retry::Later));
                    if answer.success {
                        prop_assert!(owners.insert(tx, (answer.id, reference)).is_none());
                    } else if !is_pending {
                        prop_assert!(owners.contains_key(&tx));
                    }
                }
                Err(code) => prop_assert!(code == ErrorCode::QuotaExceeded && counted == 10),
            }
            prop_assert!(counted <= 10);
            prop_assert_eq!(ledger.admission.used, counted);
        }
    }
}

fn record() -> VerificationAnswer {
    Ledger::new().ask(&good(1, Some("a")), NOW).unwrap().answer
}

fn found(number: u64, amount: u64, depth: Depth) -> Trace {
    trace(1, TransactionState::Mined(Box::new(mined(number, amount, depth))))
}

#[test]
fn a_followed_payment_becomes_final() {
    let mut answer = record();
    assert_eq!(apply_trace(&mut answer, base(), &found(100, 5_000_000, Depth::Confirmed)), (false, None));
    assert_eq!(
        apply_trace(&mut answer, base(), &found(100, 5_000_000, Depth::Finalized)),
        (true, Some(EventKind::PaymentFinalized))
    );
    assert_eq!((answer.status, answer.finality), (VerificationStatus::Finalized, Some(Finality::Finalized)));
    assert_eq!(next_poll(base(), &answer, NOW, NOW), None);
}

#[test]
fn a_payment_that_is_gone_is_reorged_once_and_comes_back() {
    let mut answer = record();
    assert_eq!(
        apply_trace(&mut answer, base(), &trace(1, TransactionState::Unknown)),
        (true, Some(EventKind::PaymentReorged))
    );
    assert_eq!((answer.status, answer.success), (VerificationStatus::Reorged, false));
    assert_eq!(apply_trace(&mut answer, base(), &trace(1, TransactionState::Pending)), (false, None));
    assert_eq!(
        apply_trace(&mut answer, base(), &found(102, 5_000_000, Depth::Confirmed)),
        (true, Some(EventKind::PaymentRestored))
    );
    assert_eq!((answer.status, answer.block_number), (VerificationStatus::Confirmed, Some(102)));
}

#[test]
fn another_block_alone_only_updates_the_block() {
    let mut answer = record();
    assert_eq!(apply_trace(&mut answer, base(), &found(101, 5_000_000, Depth::Confirmed)), (true, None));
    assert_eq!(answer.block_hash.as_deref(), Some("0x101"));
}

#[test]
fn a_payment_that_comes_back_smaller_is_not_the_payment() {
    let mut answer = record();
    assert_eq!(
        apply_trace(&mut answer, base(), &found(101, 4_999_999, Depth::Confirmed)).1,
        Some(EventKind::PaymentReorged)
    );
    let mut failed = mined(101, 5_000_000, Depth::Confirmed);
    failed.failure = Some("reverted".to_owned());
    let mut answer = record();
    assert_eq!(
        apply_trace(&mut answer, base(), &trace(1, TransactionState::Mined(Box::new(failed)))).1,
        Some(EventKind::PaymentReorged)
    );
}

/// A transaction of several payments to address 3, as log index, giver and amount; passed on at the end.
fn several(lines: &[(u64, u8, u64)], passed_on: u64) -> MinedTransaction {
    let line = |index: u64, from: u8, to: u8, amount: u64| Transfer {
        place: TransferLocation::LogIndex(index),
        ordinal: index % 100,
        from: Some(evm(from)),
        to: Some(evm(to)),
        amount: Amount::atomic(amount),
    };
    let mut transfers: Vec<Transfer> =
        lines.iter().map(|(index, from, amount)| line(*index, *from, 3, *amount)).collect();
    transfers.extend((passed_on > 0).then(|| line(99, 3, 90, passed_on)));
    MinedTransaction { transfers, ..mined(100, 1, Depth::Confirmed) }
}

fn seen(mined: MinedTransaction) -> TransactionState {
    TransactionState::Mined(Box::new(mined))
}

#[test]
fn a_record_follows_its_own_part_of_a_transaction() {
    let asked = |payer: u8, lines: &[(u64, u8, u64)], passed_on: u64| {
        let mut asked = request(1, Some("a"), seen(several(lines, passed_on)));
        asked.claim.payer = Some(evm(payer));
        Ledger::new().ask(&asked, NOW).unwrap().answer
    };
    let event = |record: &VerificationAnswer, lines: &[(u64, u8, u64)], passed_on: u64| {
        apply_trace(&mut record.clone(), base(), &trace(1, seen(several(lines, passed_on)))).1
    };
    let record = asked(4, &[(1, 4, 10_000), (2, 5, 10_000_000)], 0);
    assert_eq!((record.amount.as_deref(), record.transfers.len()), (Some("10000"), 1));
    // Its log has another index in another block.
    assert_eq!(event(&record, &[(701, 4, 10_000), (702, 5, 10_000_000)], 0), None);
    assert_eq!(event(&record, &[(1, 4, 10_000)], 0), None);
    // It is gone, though more came by another, or by the same in other amounts.
    for lines in [vec![(2, 5, 10_000_000)], vec![(1, 4, 9_999), (2, 4, 1)], vec![(1, 6, 10_000)]] {
        assert_eq!(event(&record, &lines, 0), Some(EventKind::PaymentReorged), "{lines:?}");
    }
    // Of two equal transfers one is gone.
    let record = asked(4, &[(1, 4, 7), (2, 4, 7)], 0);
    assert_eq!(event(&record, &[(5, 4, 7), (6, 4, 7)], 0), None);
    assert_eq!(event(&record, &[(5, 4, 7), (6, 5, 7)], 0), Some(EventKind::PaymentReorged));
    // Where money was passed on, then or now, only the sum is known.
    assert_eq!(event(&record, &[(5, 4, 7), (6, 5, 7), (7, 5, 3)], 3), None);
    assert_eq!(event(&record, &[(5, 4, 7), (6, 4, 7)], 3), Some(EventKind::PaymentReorged));
    let record = asked(4, &[(1, 4, 7), (2, 5, 7)], 3);
    assert_eq!(record.amount.as_deref(), Some("4"));
    assert_eq!(event(&record, &[(1, 5, 4)], 0), None);
    assert_eq!(event(&record, &[(1, 4, 3)], 0), Some(EventKind::PaymentReorged));
}

/// The transaction of the model below, and what may be done to it.
#[derive(Clone, Debug)]
struct Story {
    /// Giver, amount, and whether an authorization of its own names it.
    lines: Vec<(u8, u64, bool)>,
    passed_on: u64,
}

#[derive(Clone, Debug)]
enum Step {
    /// Asks with a reference, naming a giver, the authorization of a line, expecting an amount; or only looks.
    Verify { reference: usize, payer: Option<u8>, nonce: Option<usize>, expected: Option<u64>, claim: bool },
    /// A settlement of this number that may be any of these lines.
    Settle { number: u128, lines: Vec<usize> },
}

impl Story {
    fn mined(&self) -> MinedTransaction {
        let lines: Vec<(u64, u8, u64)> = (1..).zip(&self.lines).map(|(at, line)| (at, line.0, line.1)).collect();
        let authorizations =
            (1_u64..).zip(&self.lines).filter(|(_, line)| line.2).map(|(at, line)| UsedAuthorization {
                authorizer: evm(line.0),
                nonce: B256::repeat_byte(u8::try_from(at).unwrap()),
                transfer: Some(at),
            });
        MinedTransaction { authorizations: authorizations.collect(), ..several(&lines, self.passed_on) }
    }

    fn net(&self) -> u64 {
        self.lines.iter().map(|line| line.1).sum::<u64>().saturating_sub(self.passed_on)
    }

    /// What a unit moved.
    fn amount(&self, unit: ClaimUnit) -> u64 {
        match unit {
            ClaimUnit::Whole => self.net(),
            ClaimUnit::Log(ordinal) => self.lines[usize::try_from(ordinal).unwrap() - 1].1,
        }
    }
}

fn story() -> impl Strategy<Value = Story> {
    let line = (4_u8..7, 1_u64..50, any::<bool>());
    let passed_on = prop_oneof![3 => Just(0), 1 => 1_u64..60];
    (proptest::collection::vec(line, 1..6), passed_on).prop_map(|(lines, passed_on)| Story { lines, passed_on })
}

fn step() -> impl Strategy<Value = Step> {
    let verify = (
        0_usize..4,
        proptest::option::of(4_u8..8),
        proptest::option::weighted(0.4, 0_usize..6),
        proptest::option::of(1_u64..80),
        proptest::bool::weighted(0.9),
    );
    let verify = verify.prop_map(|(reference, payer, nonce, expected, claim)| Step::Verify {
        reference,
        payer,
        nonce,
        expected,
        claim,
    });
    let settle = (1_u128..4, proptest::collection::vec(0_usize..6, 0..3));
    prop_oneof![4 => verify, 1 => settle.prop_map(|(number, lines)| Step::Settle { number, lines })]
}

/// Asks one verification of the model; what of the transaction it paid for anew.
fn verified(ledger: &mut Ledger, story: &Story, asked: &Step) -> u64 {
    let Step::Verify { reference, payer, nonce, expected, claim } = asked else { return 0 };
    let reference = [None, Some("a"), Some("b"), Some("c")][*reference];
    let mut request = request(1, reference, seen(story.mined()));
    request.claim.payer = payer.map(evm);
    request.claim.authorization_nonce = nonce.map(|at| B256::repeat_byte(u8::try_from(at + 1).unwrap()));
    request.claim.expected = expected.map(Amount::atomic);
    request.claim.claim = *claim;
    let before = ledger.claims.clone();
    let booked = ledger.ask(&request, NOW).unwrap();
    let (answer, units) = (booked.answer, &booked.claims);
    let amount: u64 = answer.amount.as_deref().unwrap().parse().unwrap();
    let listed: u64 = answer.transfers.iter().map(|line| line.amount.parse::<u64>().unwrap()).sum();
    let taken: u64 = units.iter().map(|row| story.amount(row.unit)).sum();
    if answer.success {
        assert!(amount > 0 && expected.is_none_or(|expected| amount >= expected), "{answer:?}");
        assert!(amount == listed || story.passed_on > 0, "{answer:?}");
        assert!(payer.is_none_or(|payer| story.lines.iter().any(|line| line.0 == payer)));
        assert!(nonce.is_none_or(|at| story.lines.get(at).is_some_and(|line| line.2)));
    }
    if answer.replayed {
        // Under the reference that had it all, and its amount is no more than that.
        let own: Vec<_> =
            before.iter().filter(|row| row.reference.as_deref() == reference && reference.is_some()).collect();
        assert!(own.iter().any(|row| row.id == ClaimId::Verification(answer.id)));
        assert!(amount <= own.iter().map(|row| story.amount(row.unit)).sum());
    }
    assert_eq!(answer.claimed_by.is_some(), answer.error_code == Some(RefusalCode::AlreadyClaimed));
    assert_eq!(units.is_empty(), !(answer.success && *claim && !answer.replayed));
    assert_eq!(ledger.claims.len(), before.len() + units.len());
    // A named log that is free is never refused for another's sake.
    if let (Some(at), None, 0) = (nonce, payer, story.passed_on) {
        let unit = ClaimUnit::Log(u64::try_from(at + 1).unwrap());
        let free = !before.iter().any(|row| row.unit == ClaimUnit::Whole || row.unit == unit);
        let good =
            story.lines.get(*at).is_some_and(|line| line.2 && expected.is_none_or(|expected| line.1 >= expected));
        assert!(!(free && good) || (answer.success && !answer.replayed && amount == story.amount(unit)));
    }
    if answer.success && !answer.replayed && *claim {
        assert!(amount <= taken);
        return amount;
    }
    0
}

/// Claims for a settlement as a report of it does; what it is worth.
fn settled(ledger: &mut Ledger, story: &Story, asked: &Step) -> u64 {
    let Step::Settle { number, lines } = asked else { return 0 };
    let (tx, recipient) = (TxId::Evm(B256::repeat_byte(1)).to_string(), evm(3).to_string());
    let held = ledger.held(&tx, &recipient);
    let [_, _, _, _, _, _, random @ ..] = number.to_be_bytes();
    let id = ClaimId::Settlement(SettlementId::new(NOW, random));
    let real: Vec<u64> =
        lines.iter().filter(|at| **at < story.lines.len()).map(|at| u64::try_from(at + 1).unwrap()).collect();
    match claims::claimable_unit(&held, &real, id) {
        Ok(unit) if held.iter().any(|held| held.prior.id == id && held.unit == unit) => 0,
        Ok(unit) => {
            let network = base().caip2.to_owned();
            ledger.put(claims::ClaimRow { network, tx, recipient, unit, id, reference: None, at: NOW });
            story.amount(unit)
        }
        Err(other) => {
            assert!(held.iter().any(|held| held.prior.id == other) && other != id);
            0
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn no_unit_is_claimed_twice_and_no_money_counts_twice(
        story in story(), steps in proptest::collection::vec(step(), 1..24)
    ) {
        let mut ledger = Ledger::new();
        ledger.tenant.limits.per_month = Some(1_000_000);
        let mut paid = 0;
        for step in &steps {
            paid += verified(&mut ledger, &story, step) + settled(&mut ledger, &story, step);
            let came: u64 = story.lines.iter().map(|line| line.1).sum();
            prop_assert!(paid <= came, "{paid} of {came}");
        }
        let holders = |unit| ledger.claims.iter().filter(|row| row.unit == unit).count();
        for ordinal in (1_u64..).take(story.lines.len()) {
            prop_assert!(holders(ClaimUnit::Log(ordinal)) + holders(ClaimUnit::Whole) <= 1);
        }
    }
}

#[test]
fn looks_grow_rarer_and_end() {
    let answer = record();
    let pause = |age: u64| next_poll(base(), &answer, NOW, NOW.plus(age)).map(|at| at.since(NOW.plus(age)));
    assert_eq!(pause(0), Some(4_000));
    assert_eq!(pause(60_000), Some(15_000));
    assert_eq!(pause(3_600_000), Some(60_000));
    assert_eq!(pause(86_400_000), Some(1_800_000));
    assert_eq!(pause(604_800_000), None);
    let unruled = by_key("sonic").unwrap();
    assert_eq!(next_poll(unruled, &answer, NOW, NOW.plus(3_600_000)), None);
    for kind in [EventKind::PaymentFinalized, EventKind::PaymentReorged, EventKind::PaymentRestored] {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
    }
}

#[test]
fn usage_tells_limits_and_what_is_left() {
    let mut ledger = Ledger::new();
    ledger.ask(&good(1, None), NOW).unwrap();
    let usage = serde_json::to_value(usage_of(&ledger.tenant, &ledger.admission, |_| true, NOW)).unwrap();
    assert_eq!(usage["verifications_used"], 1);
    assert_eq!(usage["verifications_remaining"], 9);
    assert_eq!(usage["enabled_chains"], serde_json::json!(["base", "solana"]));
    assert_eq!(usage["rate"]["minute"], serde_json::json!({"limit": 1_000, "used": 1}));
    ledger.tenant.environment = Environment::Test;
    let usage = serde_json::to_value(usage_of(&ledger.tenant, &ledger.admission, |_| true, NOW)).unwrap();
    assert_eq!(usage["verifications_limit"], -1);
}

#[test]
fn a_key_sees_chains_itself_and_the_pages() {
    let tenant = tenant();
    let supported = chains::supported_chains(&tenant, |network| network.key != "base");
    let reason = |key: &str| supported.all_chains.iter().find(|chain| chain.chain == key).unwrap().reason;
    assert_eq!(
        (reason("base"), reason("ethereum"), reason("base-sepolia"), reason("solana")),
        (Some("registry_check"), Some("tier"), Some("environment"), None)
    );
    let me = serde_json::to_value(whoami::whoami(&tenant, &tenant.keys[0], Some(NOW))).unwrap();
    assert_eq!(me["tenant"]["recipients"]["base"], evm(3).to_string());
    assert_eq!(me["api_key"]["last_used_at"], NOW.rfc3339());
    for code in ErrorCode::ALL {
        assert!(docs::errors().contains(&format!("id=\"{code}\"")));
    }
    assert!(docs::tiers(true).contains("enterprise"));
}

#[test]
fn a_lone_address_of_the_family_is_the_default() {
    let mut tenant = tenant();
    assert_eq!(tenant.default_recipient(by_key("polygon").unwrap()), Some(evm(3)));
    assert_eq!(tenant.default_recipient(by_key("solana").unwrap()), None);
    tenant.recipients.push(Recipient { address: evm(5), default_for: vec![], first_use: false, only_on: None });
    assert_eq!(tenant.default_recipient(by_key("polygon").unwrap()), None);
    assert_eq!(tenant.default_recipient(base()), Some(evm(3)));
    for status in [TenantStatus::Active, TenantStatus::Suspended, TenantStatus::Cancelled] {
        assert_eq!(TenantStatus::parse(status.name()), Some(status));
    }
    for scope in Scope::ALL {
        assert_eq!(Scope::parse(scope.name()), Some(scope));
    }
    for policy in [SanctionsPolicy::Refuse, SanctionsPolicy::Report] {
        assert_eq!(SanctionsPolicy::parse(policy.name()), Some(policy));
    }
}

#[test]
fn a_keys_use_is_noted_once_a_minute() {
    let mut admission = Admission::new(NOW);
    let key = KeyId::new(NOW, [1; 10]);
    assert!(admission.note_key_use(key, NOW));
    assert!(!admission.note_key_use(key, NOW.plus(59_999)));
    assert!(admission.note_key_use(key, NOW.plus(60_000)));
}

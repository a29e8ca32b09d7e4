//! Two tenants, several payments and a chain that forgets: random interleavings of
//! verify, settle, abort, retry, crash, reorganisation and foreign submission. After
//! each, no payment was given goods for twice, each is claimed at most once, and none
//! is lost.
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
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use x402_chain::address::{Address, TxId};
use x402_chain::amount::Amount;
use x402_chain::checks::Checks;
use x402_chain::id::{ClaimId, KeyId, RequestId, SettlementId, TenantId};
use x402_chain::network::TenantBudget;
use x402_chain::network::{Environment, Network, by_key};
use x402_chain::reason::Reason;
use x402_chain::time::{UnixMillis, UnixSeconds};
use x402_chain::trace::{
    Block, Depth, MinedTransaction, Screening, Trace, TransactionState, Transfer, TransferLocation, UsedAuthorization,
};
use x402_core::settlement::SettlementReport;
use x402_core::settlement::payment::{
    PaymentAction, PaymentAnswer, PaymentContext, PaymentFinding, PaymentOutcome, PaymentRecord, PaymentRecords,
    PaymentRequest, PaymentTerms, SettlementRecord, TakeResult, admit_payment, authorization_id, decide_payment,
};
use x402_core::settlement::status::SettlementStatus;
use x402_core::tenancy::access::KeyScope;
use x402_core::tenancy::admission::{Admission, KeyUse};
use x402_core::tenancy::budget::EndedAttempt;
use x402_core::tenancy::budget::TransactionCost;
use x402_core::tenancy::key::KeyHash;
use x402_core::tenancy::tenant::{ApiKey, OwnLimits, Recipient, Scope, Tenant, TenantStatus};
use x402_core::tenancy::tier::Tier;
use x402_core::verdict::SanctionsPolicy;
use x402_core::verification::answer::Finality;
use x402_core::verification::claim::Claim;
use x402_core::verification::claims;
use x402_core::verification::claims::{BoundReference, ClaimUnit, HeldClaim, PriorClaim};
use x402_core::verification::decision;
use x402_core::verification::decision::{ChainObservation, IdempotencyKey, TracedTransaction, VerificationRequest};

/// What the routes of a verification and of a settlement require of their key.
const VERIFY: KeyUse = KeyUse { scope: KeyScope::Only(Scope::Verify), from: None };
const SETTLE: KeyUse = KeyUse { scope: KeyScope::Only(Scope::Settle), from: None };
const NOW: UnixMillis = UnixMillis(1_795_000_000_000);
const KEY: KeyHash = KeyHash([7; 32]);
const PAYMENTS: usize = 3;
const AMOUNT: u64 = 10_000;

fn evm(byte: u8) -> Address {
    Address::Evm([byte; 20].into())
}

fn base() -> &'static Network {
    by_key("base").unwrap()
}

/// Two payers share the payments; the last payment is the second tenant's.
fn payer(payment: usize) -> Address {
    evm(10 + u8::try_from(payment % 2).unwrap())
}

fn seller(payment: usize) -> usize {
    usize::from(payment + 1 == PAYMENTS)
}

fn recipient(tenant: usize) -> Address {
    evm(20 + u8::try_from(tenant).unwrap())
}

fn nonce(payment: usize) -> B256 {
    B256::repeat_byte(u8::try_from(payment).unwrap() + 1)
}

fn name(payment: usize) -> String {
    authorization_id(base(), &payer(payment), &nonce(payment))
}

fn tenant(number: usize) -> Tenant {
    Tenant {
        id: TenantId([u8::try_from(number).unwrap(); 12]),
        environment: Environment::Live,
        version: 1,
        company_name: None,
        status: TenantStatus::Active,
        tier: Tier::Enterprise,
        region: None,
        limits: OwnLimits::default(),
        sanctions: SanctionsPolicy::Refuse,
        explain: false,
        webhooks: Some(Vec::new()),
        recipients: vec![Recipient {
            address: recipient(number),
            default_for: vec!["base".to_owned()],
            first_use: false,
            only_on: None,
        }],
        keys: vec![ApiKey {
            id: KeyId::new(NOW, [1; 10]),
            name: "one".to_owned(),
            hash: KEY,
            scopes: vec![Scope::Verify, Scope::Settle],
            created_at: NOW,
            expires_at: None,
            allow_list: Vec::new(),
        }],
    }
}

/// A transaction: whose payments it moves, in their order.
struct Transaction {
    payments: Vec<usize>,
    /// Whether a block of the chain holds it.
    included: bool,
    /// Whether it lies too deep to leave the chain: somebody has verified it by its hash.
    deep: bool,
}

fn id(transaction: usize) -> TxId {
    TxId::Evm(B256::repeat_byte(u8::try_from(transaction % 250).unwrap() + 3))
}

/// The `Transfer` log of a transaction's n-th payment: each stands behind its `AuthorizationUsed`.
fn ordinal(place: usize) -> u64 {
    u64::try_from(place).unwrap() * 2 + 1
}

fn trace(number: usize, transaction: &Transaction) -> Trace {
    let transfers = transaction.payments.iter().enumerate().map(|(place, payment)| Transfer {
        place: TransferLocation::LogIndex(ordinal(place) + 40),
        ordinal: ordinal(place),
        from: Some(payer(*payment)),
        to: Some(recipient(seller(*payment))),
        amount: Amount::atomic(AMOUNT),
    });
    let used = transaction.payments.iter().enumerate().map(|(place, payment)| UsedAuthorization {
        authorizer: payer(*payment),
        nonce: nonce(*payment),
        transfer: Some(ordinal(place)),
    });
    let found = TransactionState::Mined(Box::new(MinedTransaction {
        failure: None,
        block: Block { number: 100, hash: Some("0x1".to_owned()), time: Some(UnixSeconds(1_794_999_990)) },
        head: 120,
        depth: Depth::Confirmed,
        finality_unknown: false,
        submitter: None,
        transfers: transfers.collect(),
        foreign: vec![],
        zero: vec![],
        confidential: vec![],
        memos: vec![],
        authorizations: used.collect(),
    }));
    Trace { tx: id(number), found }
}

/// A ledger as its rows: what the shell does around the pure steps.
struct Ledger {
    tenant: Tenant,
    admission: Admission,
    payments: BTreeMap<String, (PaymentRecord, Option<SettlementId>)>,
    settlements: BTreeMap<SettlementId, SettlementRecord>,
    claims: BTreeMap<String, Vec<HeldClaim>>,
    keyed: BTreeMap<String, SettlementId>,
}

impl Ledger {
    fn new(number: usize) -> Self {
        Self {
            tenant: tenant(number),
            admission: Admission::new(NOW),
            payments: BTreeMap::new(),
            settlements: BTreeMap::new(),
            claims: BTreeMap::new(),
            keyed: BTreeMap::new(),
        }
    }

    fn row(&self, name: &str) -> Option<PaymentRecord> {
        let (row, settlement) = self.payments.get(name)?;
        let kept = settlement.and_then(|id| self.settlements.get(&id).cloned());
        Some(PaymentRecord { settlement_record: kept, ..row.clone() })
    }

    fn held(&self, transaction: &str) -> Vec<HeldClaim> {
        self.claims.get(transaction).cloned().unwrap_or_default()
    }

    fn claim(&mut self, transaction: &str, held: HeldClaim) {
        let all = self.claims.entry(transaction.to_owned()).or_default();
        if all.iter().any(|other| other.prior.id == held.prior.id && other.unit == held.unit) {
            return;
        }
        let clash = all
            .iter()
            .any(|other| other.unit == held.unit || other.unit == ClaimUnit::Whole || held.unit == ClaimUnit::Whole);
        assert!(!clash, "{held:?} over {all:?}");
        all.push(held);
    }

    /// Books an x402 request; a refusal of the ledger's own is an outcome too.
    fn ask(&mut self, asked: &PaymentRequest, now: UnixMillis) -> PaymentOutcome {
        let name = asked.terms.as_ref().unwrap().authorization.clone();
        let held = match &asked.finding {
            PaymentFinding::External(_, id, _) => self.held(&id.to_string()),
            PaymentFinding::Good(_)
            | PaymentFinding::Refused(..)
            | PaymentFinding::Used(..)
            | PaymentFinding::Unavailable
            | PaymentFinding::Deferred => Vec::new(),
        };
        let records = PaymentRecords { row: self.row(&name), held_claims: held, ..PaymentRecords::default() };
        let mut admission = self.admission.clone();
        let admitted = admit_payment((asked, SETTLE), &self.tenant, &admission, &records, now).expect("admitted");
        let known = PaymentContext { tenant: &self.tenant, sanctions: None, records: &records };
        let booked = decide_payment(asked, admitted, &mut admission, known, now).expect("an answer");
        self.admission = admission;
        if let Some(row) = booked.row {
            let earlier = self.payments.get(&name).and_then(|(_, id)| *id);
            let written = PaymentRecord {
                fingerprint: row.fingerprint,
                proof: Some(row.proof),
                expires_at: Some(row.expires_at),
                settlement_record: None,
            };
            self.payments.insert(name, (written, row.settlement.or(earlier)));
        }
        if let Some(kept) = booked.settlement_record {
            if let Some(unit) = booked.claim {
                let prior = PriorClaim { id: ClaimId::Settlement(kept.settlement.id), reference: None, at: now };
                let transaction = kept.settlement.transaction.clone().unwrap();
                self.claim(&transaction, HeldClaim { unit, prior });
            }
            if let (Some(idempotency), true) = (&asked.idempotency, booked.outcome.success().is_some()) {
                self.keyed.insert(idempotency.key.clone(), kept.settlement.id);
            }
            self.settlements.insert(kept.settlement.id, kept);
        }
        booked.outcome
    }

    fn report(&mut self, report: &SettlementReport, now: UnixMillis) {
        let Some(mut kept) = self.settlements.get(&report.settlement).cloned() else { return };
        let transaction = report.transaction.clone().unwrap_or_default();
        let applied = kept.apply_report(report, &self.held(&transaction), now);
        if !applied.changed {
            return;
        }
        let failed = kept.settlement.status == SettlementStatus::Failed;
        let ended = EndedAttempt { reserve: applied.ended, spent: report.spent, failed };
        self.admission.spending.end_attempt("base", ended, now);
        if let Some(unit) = applied.claim {
            let prior = PriorClaim { id: ClaimId::Settlement(kept.settlement.id), reference: None, at: now };
            self.claim(&transaction, HeldClaim { unit, prior });
        }
        self.settlements.insert(kept.settlement.id, kept);
    }
}

/// An attempt as its Settler knows it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flight {
    /// Stored and sent; in no block.
    InPool,
    /// In a block, by this transaction, its own or somebody else's.
    Ended(usize),
    /// Never to be launched, or over for good.
    Over,
}

/// A request that waits for the Settler.
struct Waiting {
    request: RequestId,
    payment: usize,
    settlement: SettlementId,
    key: Option<String>,
}

/// A success on its way to its caller.
struct Answer {
    request: RequestId,
    payment: usize,
    settlement: SettlementId,
    key: Option<String>,
}

struct World {
    now: UnixMillis,
    ledgers: [Ledger; 2],
    transactions: Vec<Transaction>,
    flights: BTreeMap<(SettlementId, usize), (usize, Flight)>,
    waiting: Vec<Waiting>,
    answers: Vec<Answer>,
    /// Attempts of shops, by key, that were served.
    served: BTreeSet<String>,
    /// Payers who cannot pay for now.
    broke: BTreeSet<usize>,
    /// How often goods were given for a payment.
    goods: [u32; PAYMENTS],
    /// Payments that were ever on the chain.
    paid: BTreeSet<usize>,
    expired: BTreeSet<usize>,
    requests: u128,
}

impl World {
    fn new() -> Self {
        Self {
            now: NOW,
            ledgers: [Ledger::new(0), Ledger::new(1)],
            transactions: Vec::new(),
            flights: BTreeMap::new(),
            waiting: Vec::new(),
            answers: Vec::new(),
            served: BTreeSet::new(),
            broke: BTreeSet::new(),
            goods: [0; PAYMENTS],
            paid: BTreeSet::new(),
            expired: BTreeSet::new(),
            requests: 0,
        }
    }

    /// Bytes that no other request has.
    fn random(&self) -> [u8; 10] {
        let [_, _, _, _, _, _, random @ ..] = self.requests.to_be_bytes();
        random
    }

    /// The transaction of the chain that has used an authorization.
    fn used_by(&self, payment: usize) -> Option<usize> {
        self.transactions.iter().position(|each| each.included && each.payments.contains(&payment))
    }

    fn mine(&mut self, payments: Vec<usize>) -> usize {
        self.paid.extend(&payments);
        self.transactions.push(Transaction { payments, included: true, deep: false });
        self.transactions.len() - 1
    }

    fn finding(&self, payment: usize, looked: bool) -> PaymentFinding {
        let checks = Checks::none();
        match self.used_by(payment) {
            Some(number) if looked => {
                let place = self.transactions[number].payments.iter().position(|each| *each == payment).unwrap();
                PaymentFinding::External(checks, id(number), vec![ordinal(place)])
            }
            Some(_) => PaymentFinding::Used(checks, String::new()),
            None if self.broke.contains(&payment) => PaymentFinding::Refused(checks, Reason::EvmBalance, String::new()),
            None if self.expired.contains(&payment) => {
                PaymentFinding::Refused(checks, Reason::EvmValidBefore, String::new())
            }
            None => PaymentFinding::Good(checks),
        }
    }

    fn asked(&mut self, payment: usize, verb: PaymentAction, key: Option<&str>) -> PaymentRequest {
        self.requests += 1;
        PaymentRequest {
            key: KEY,
            request_id: RequestId::new(self.now, self.random()),
            traceparent: None,
            verb,
            network_text: "eip155:8453".to_owned(),
            network: Some("base".to_owned()),
            pay_to_tried: false,
            chain_on: true,
            payer: Some(payer(payment)),
            terms: Some(PaymentTerms {
                authorization: name(payment),
                fingerprint: "f".to_owned(),
                proof: "p".to_owned(),
                payer: payer(payment),
                pay_to: recipient(seller(payment)),
                amount: Amount::atomic(AMOUNT),
                signer: Some(evm(9)),
                valid_before: Some(UnixSeconds(1_795_100_000)),
                worst: 1,
                has_code: false,
                max_fee_wei: None,
                own_key: true,
            }),
            finding: self.finding(payment, false),
            budget: TenantBudget { day: u128::MAX, failed: u128::MAX },
            idempotency: key.map(|key| IdempotencyKey { key: key.to_owned(), body_hash: "h".to_owned() }),
            identifier: None,
            explain: false,
            random: self.random(),
        }
    }

    fn verify(&mut self, payment: usize) {
        let mut asked = self.asked(payment, PaymentAction::Verify, None);
        if matches!(asked.finding, PaymentFinding::Used(..)) {
            asked.finding = PaymentFinding::Refused(Checks::none(), Reason::EvmNonceUsed, String::new());
        }
        let now = self.now;
        let outcome = self.ledgers[seller(payment)].ask(&asked, now);
        assert!(
            outcome.success().is_none() && !matches!(outcome, PaymentOutcome::Settle(_)),
            "a verification moves nothing"
        );
    }

    /// A shop has heard a success: it serves, once for each of its own attempts.
    fn serve(&mut self, payment: usize, key: Option<&str>) {
        assert!(self.paid.contains(&payment), "goods for a payment that was never on the chain");
        if key.is_none_or(|key| self.served.insert(key.to_owned())) {
            self.goods[payment] += 1;
        }
    }

    /// What becomes of a success on its way to the caller: it arrives, the caller is seen to have
    /// gone, or it is lost unseen.
    fn arrive(&mut self, at: usize, fate: u8) {
        if self.answers.is_empty() {
            return;
        }
        let Answer { request, payment, settlement, key } = self.answers.swap_remove(at % self.answers.len());
        match fate % 3 {
            0 => self.serve(payment, key.as_deref()),
            1 => {
                let ledger = &mut self.ledgers[seller(payment)];
                let kept = ledger.settlements.get_mut(&settlement).unwrap();
                if let (_, Some(key)) = kept.reopen(request) {
                    ledger.keyed.remove(&key);
                }
            }
            _ => {}
        }
    }

    fn settle(&mut self, payment: usize, key: Option<&str>, fate: u8) {
        let now = self.now;
        let mut asked = self.asked(payment, PaymentAction::Settle, key);
        // The same attempt again gets the same answer: the shop serves it once for the key.
        if let Some(key) = key
            && let Some(settlement) = self.ledgers[seller(payment)].keyed.get(key).copied()
        {
            let kept = self.ledgers[seller(payment)].settlements.get_mut(&settlement).unwrap();
            kept.repeat(asked.request_id);
            if fate.is_multiple_of(3) {
                self.serve(payment, Some(key));
            }
            return;
        }
        let ledger = &mut self.ledgers[seller(payment)];
        let mut outcome = ledger.ask(&asked, now);
        if outcome == PaymentOutcome::ChainNeeded {
            asked.finding = self.finding(payment, true);
            outcome = self.ledgers[seller(payment)].ask(&asked, now);
        }
        match outcome {
            PaymentOutcome::Answer(PaymentAnswer::Settle(Ok(success))) => {
                let (settlement, key) = (success.settlement.id, key.map(str::to_owned));
                self.answers.push(Answer { request: asked.request_id, payment, settlement, key });
            }
            PaymentOutcome::Settle(reserved) => {
                let (settlement, attempt) = (reserved.settlement.id, reserved.attempt);
                // A Worker that dies here: the Settler never hears of it.
                if fate % 4 != 3 {
                    self.flights.entry((settlement, attempt)).or_insert((payment, Flight::InPool));
                    let key = key.map(str::to_owned);
                    self.waiting.push(Waiting { request: asked.request_id, payment, settlement, key });
                }
            }
            PaymentOutcome::Answer(PaymentAnswer::Settle(Err(_))) => {}
            PaymentOutcome::Answer(PaymentAnswer::Verify(_)) => panic!("a verification's answer to a settlement"),
            PaymentOutcome::ChainNeeded => panic!("a chain that was asked, and is to be asked"),
        }
    }

    /// The Settler looks at an attempt, and reports it.
    fn look(&mut self, at: usize) {
        let Some((settlement, attempt)) = self.flights.keys().nth(at % self.flights.len().max(1)).copied() else {
            return;
        };
        let (payment, flight) = self.flights[&(settlement, attempt)];
        let now = match (flight, self.used_by(payment)) {
            (Flight::InPool, Some(number)) => Flight::Ended(number),
            (Flight::InPool, None) if self.expired.contains(&payment) || self.broke.contains(&payment) => Flight::Over,
            (Flight::Ended(number), _) if !self.transactions[number].included => Flight::InPool,
            (same, _) => same,
        };
        self.flights.insert((settlement, attempt), (payment, now));
        let reorged = matches!((flight, now), (Flight::Ended(_), Flight::InPool));
        let (status, transaction) = match now {
            Flight::Ended(number) => (SettlementStatus::Completed, Some(number)),
            Flight::InPool => (SettlementStatus::Pending, None),
            Flight::Over => (SettlementStatus::Failed, None),
        };
        let units = transaction.map(|number| {
            let place = self.transactions[number].payments.iter().position(|each| *each == payment).unwrap();
            vec![ordinal(place)]
        });
        let report = SettlementReport {
            settlement,
            attempt: Some(attempt),
            status,
            reason: (status == SettlementStatus::Failed).then_some(Reason::EvmValidBefore),
            message: String::new(),
            transaction: Some(id(transaction.unwrap_or(200)).to_string()),
            attempts: Vec::new(),
            external: false,
            // A flight that was once completed may then fail or be pending.
            reorged: reorged || matches!(now, Flight::InPool | Flight::Over),
            units: units.unwrap_or_default(),
            spent: transaction.map(|_| TransactionCost { total: 1, l1_fee: 0 }),
            handed: true,
            poor: false,
            held_until: None,
        };
        let at = self.now;
        self.ledgers[seller(payment)].report(&report, at);
    }

    fn deliver(&mut self, at: usize) {
        if self.waiting.is_empty() {
            return;
        }
        let waiting = self.waiting.swap_remove(at % self.waiting.len());
        let now = self.now;
        let ledger = &mut self.ledgers[seller(waiting.payment)];
        let kept = ledger.settlements.get_mut(&waiting.settlement).unwrap();
        if kept.deliver(waiting.request, now) == TakeResult::Success {
            if let Some(key) = waiting.key.clone() {
                ledger.keyed.insert(key, waiting.settlement);
            }
            let Waiting { request, payment, settlement, key } = waiting;
            self.answers.push(Answer { request, payment, settlement, key });
        }
    }

    /// The ledger's alarm: what the Settler never heard of ends.
    fn rescue(&mut self) {
        let now = self.now;
        for ledger in &mut self.ledgers {
            for kept in ledger.settlements.values_mut() {
                let due = kept.due_at().is_some_and(|at| at <= now);
                if !due || kept.settlement.status != SettlementStatus::Pending {
                    continue;
                }
                let key = (kept.settlement.id, kept.progress.attempt);
                if let Entry::Vacant(unknown) = self.flights.entry(key) {
                    let payment = (0..PAYMENTS).find(|each| {
                        ledger.payments.get(&name(*each)).is_some_and(|(_, id)| *id == Some(kept.settlement.id))
                    });
                    unknown.insert((payment.unwrap(), Flight::Over));
                    let reserve = kept.abandon(now);
                    ledger.admission.spending.end_attempt(
                        "base",
                        EndedAttempt { reserve, spent: None, failed: false },
                        now,
                    );
                }
            }
        }
    }

    /// Somebody presents a transaction's hash to `POST /v1/verify`.
    fn by_hash(&mut self, number: usize, how: u8, reference: u8) {
        if self.transactions.is_empty() {
            return;
        }
        let number = number % self.transactions.len();
        if !self.transactions[number].included {
            return;
        }
        self.transactions[number].deep = true;
        let payments = self.transactions[number].payments.clone();
        let payment = payments[usize::from(how) % payments.len()];
        let transaction = trace(number, &self.transactions[number]);
        let claim = Claim {
            network: base(),
            tx: id(number),
            expected: how.is_multiple_of(2).then(|| Amount::atomic(AMOUNT)),
            recipient: None,
            payer: (how % 3 == 1).then(|| payer(payment)),
            memo: None,
            authorization_nonce: (how % 3 == 2).then(|| nonce(payment)),
            reference: Some(format!("order-{}", reference % 3)),
            finality: Finality::Confirmed,
            max_age_s: 86_400,
            claim: true,
        };
        self.requests += 1;
        let request = VerificationRequest {
            key: KEY,
            request_id: RequestId::new(self.now, self.random()),
            traceparent: None,
            idempotency: None,
            claim,
            chain_on: true,
            seen: ChainObservation::Traced(Box::new(TracedTransaction {
                trace: transaction.clone(),
                screening: Screening::new(),
                single_provider: true,
            })),
            random: self.random(),
        };
        let (now, seller) = (self.now, seller(payment));
        let ledger = &mut self.ledgers[seller];
        let hash = id(number).to_string();
        let mut held = ledger.held(&hash);
        let mined = transaction.mined().unwrap();
        for used in &mined.authorizations {
            let row = ledger.row(&authorization_id(base(), &used.authorizer, &used.nonce));
            let Some(kept) = row.and_then(|row| row.settlement_record).filter(SettlementRecord::is_spent) else {
                continue;
            };
            let prior = PriorClaim { id: ClaimId::Settlement(kept.settlement.id), reference: None, at: now };
            let units = claims::units_paid_by(used, mined, &recipient(seller));
            held.extend(units.into_iter().map(|unit| HeldClaim { unit, prior: prior.clone() }));
        }
        let mut admission = ledger.admission.clone();
        let admitted =
            decision::admit_verification((&request, VERIFY), &ledger.tenant, &admission, None, now).expect("admitted");
        let known =
            decision::VerificationContext { tenant: &ledger.tenant, held_claims: &held, payers: &[], sanctions: None };
        let booked = decision::decide_verification(&request, admitted, &mut admission, known, now).expect("an answer");
        ledger.admission = admission;
        for row in &booked.claims {
            let prior =
                PriorClaim { id: row.id, reference: row.reference.clone().map(BoundReference::Text), at: row.at };
            ledger.claim(&hash, HeldClaim { unit: row.unit, prior });
            for (place, payment) in payments.iter().enumerate() {
                let own = self::seller(*payment) == seller && row.unit.covers(ordinal(place));
                self.goods[*payment] += u32::from(own);
            }
        }
    }

    /// Whether its goods were given, by x402 or by its hash, or its success was: an answer may have been lost.
    fn is_given(&self, payment: usize) -> bool {
        let row = self.ledgers[seller(payment)].row(&name(payment));
        let handed =
            row.and_then(|row| row.settlement_record).is_some_and(|kept| kept.settlement.handed_over.is_some());
        self.goods[payment] == 1 || handed
    }

    fn check(&self) {
        for (payment, goods) in self.goods.iter().enumerate() {
            assert!(*goods <= 1, "payment {payment} was given goods for {goods} times");
        }
        // A payment that our own attempt has moved is handed over, or found among those that may be.
        for ((settlement, attempt), (payment, flight)) in &self.flights {
            let kept = &self.ledgers[seller(*payment)].settlements[settlement];
            if matches!(flight, Flight::Ended(_)) && kept.progress.attempt == *attempt {
                let found = kept.settlement.handed_over.is_some() || kept.is_live();
                let claimed_by_hash = kept.settlement.reason == Some(Reason::EvmNonceUsed);
                assert!(found || claimed_by_hash, "payment {payment} is lost");
            }
        }
    }

    fn step(&mut self, (what, which, fate): (u8, u8, u8)) {
        let (payment, at) = (usize::from(which) % PAYMENTS, usize::from(which));
        match what % 20 {
            0 => self.verify(payment),
            1..=3 | 13 | 14 => {
                let key = (fate % 2 == 0).then(|| format!("key-{payment}-{}", fate / 2 % 2));
                self.settle(payment, key.as_deref(), fate / 4);
            }
            4 => {
                // A block takes one of ours.
                let pool: Vec<usize> =
                    self.flights.values().filter(|(_, f)| *f == Flight::InPool).map(|(p, _)| *p).collect();
                if let Some(payment) =
                    pool.get(at % pool.len().max(1)).filter(|p| self.used_by(**p).is_none() && !self.broke.contains(*p))
                {
                    self.mine(vec![*payment]);
                }
            }
            5 => {
                // Somebody else sends several at once.
                let free: Vec<usize> = (0..PAYMENTS)
                    .filter(|p| {
                        (which >> p) & 1 == 1
                            && self.used_by(*p).is_none()
                            && !self.expired.contains(p)
                            && !self.broke.contains(p)
                    })
                    .collect();
                if !free.is_empty() {
                    self.mine(free);
                }
            }
            6 | 7 | 15 | 16 => self.look(at),
            8 | 17 | 18 => self.deliver(at),
            9 => {
                self.now = self.now.plus(if fate % 2 == 0 { 31_000 } else { 61_000 });
                self.rescue();
            }
            10 => {
                let count = self.transactions.len().max(1);
                if let Some(transaction) = self.transactions.get_mut(at % count).filter(|each| !each.deep) {
                    transaction.included = false;
                }
                match (self.used_by(payment), fate % 7) {
                    (None, 0) => drop(self.expired.insert(payment)),
                    (None, 1 | 2) => drop(self.broke.insert(payment)),
                    (_, 3..=6) => drop(self.broke.remove(&payment)),
                    _ => {}
                }
            }
            11 | 19 => self.arrive(at, fate),
            _ => self.by_hash(at, fate, which),
        }
        self.check();
    }
}

#[test]
fn goods_that_were_given_are_not_given_again_for_the_same_payment_by_its_hash() {
    // Settled under a key and given, reorganised, failed, and sent by somebody else.
    let mut world = World::new();
    for step in [
        (1, 0, 0),
        (4, 0, 0),
        (6, 0, 0),
        (13, 0, 0),
        (11, 0, 0),
        (10, 0, 1),
        (6, 0, 0),
        (6, 0, 0),
        (10, 0, 3),
        (5, 1, 0),
        (12, 1, 2),
    ] {
        world.step(step);
    }
    assert_eq!(world.goods.first(), Some(&1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]
    #[test]
    fn no_payment_is_given_goods_for_twice_and_none_is_lost(
        steps in proptest::collection::vec((any::<u8>(), any::<u8>(), any::<u8>()), 1..160)
    ) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        // Whatever is on the chain at the end and was ever asked to be settled can still be had, once.
        world.now = world.now.plus(120_000);
        for _ in 0..3 {
            for at in 0..world.flights.len() {
                world.look(at);
            }
            world.rescue();
        }
        for payment in 0..PAYMENTS {
            let before = world.goods[payment];
            world.settle(payment, None, 0);
            while !world.answers.is_empty() {
                world.arrive(0, 0);
                world.check();
            }
            prop_assert!(world.goods[payment] - before <= 1);
            if world.used_by(payment).is_some() {
                prop_assert!(world.is_given(payment), "payment {payment} is on the chain, and nobody can have it");
            }
        }
    }
}

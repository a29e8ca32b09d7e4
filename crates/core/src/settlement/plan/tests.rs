use super::*;
use crate::error::Fault;
use crate::settlement::FlightPayload;
use crate::settlement::payment::ReservedSettlement;
use crate::settlement::status::{Settlement, SettlementStatus};
use crate::tenancy::key::{Caller, KeyHash};
use crate::verification::decision::IdempotencyKey;
use alloy_primitives::B256;
use serde_json::{Value, json};
use std::ops::ControlFlow;
use x402_chain::address::Family;
use x402_chain::confirm::VerdictBasis;
use x402_chain::evm::sender::GasPrice;
use x402_chain::facts::{Facts, Undecided};
use x402_chain::id::{RequestId, SettlementId, TenantId};
use x402_chain::network::by_key;
use x402_chain::schemes::exact::rules::OnchainVerdict;
use x402_chain::trace::CodeKind;
use x402_chain::x402::{X402Body, read};

const NOW: UnixMillis = UnixMillis(1_795_000_000_000);
const PAYER: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
const PAY_TO: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";
const PRICE: GasPrice = GasPrice { max_wei: 3_000_000_000, tip_wei: 1_000_000 };
/// A price that a node has asked for instead.
const DEARER: GasPrice = GasPrice { max_wei: 4_000_000_000, tip_wei: 1_000_000 };

/// Settings with that many signers for test money.
fn settings(signers: usize) -> Settings {
    let keys = (1..=signers).map(|key| format!("{key:064x}")).collect::<Vec<_>>().join(",");
    let peppers = "01".repeat(32);
    Settings::read(|name| match name {
        "ADMIN_KEY" => Some("an-operators-key-of-32-characters!".to_owned()),
        "KEY_PEPPERS" => Some(peppers.clone()),
        "EVM_SIGNERS_TEST" => Some(keys.clone()),
        _ => None,
    })
    .expect("reads")
}

fn body() -> Value {
    let asset = by_key("base-sepolia").expect("registered").asset.text;
    let requirements = json!({"scheme": "exact", "network": "eip155:84532", "amount": "10000", "asset": asset,
        "payTo": PAY_TO, "maxTimeoutSeconds": 60, "extra": {"name": "USDC", "version": "2"}});
    json!({"x402Version": 2, "paymentRequirements": requirements, "paymentPayload": {"x402Version": 2,
        "accepted": requirements, "payload": {"signature": format!("0x{}1b", "11".repeat(64)), "authorization": {
            "from": PAYER, "to": PAY_TO, "value": "10000", "validAfter": "0", "validBefore": "1795000060",
            "nonce": format!("0x{}", "11".repeat(32))}}}})
}

/// One request, of which a plan is made.
struct Case {
    settings: Settings,
    cache: VerificationCache,
    body: Value,
    verb: PaymentAction,
    asks_ledger_first: bool,
    environment: Environment,
    buyer_can_repeat: bool,
}

impl Case {
    fn of(verb: PaymentAction, signers: usize) -> Self {
        Self {
            settings: settings(signers),
            cache: VerificationCache::default(),
            body: body(),
            verb,
            asks_ledger_first: false,
            environment: Environment::Test,
            buyer_can_repeat: false,
        }
    }

    /// Makes a plan, and lets `run` carry it out.
    fn plan<T>(&self, run: impl FnOnce(PlanStep<'_>) -> T) -> T {
        let text = self.body.to_string();
        let read = read(&X402Body::parse(text.as_bytes()).expect("an object"));
        let request = NewRequest {
            key: KeyHash::of("a key"),
            request_id: RequestId::new(NOW, [1; 10]),
            traceparent: None,
            verb: self.verb,
            idempotency: Some(IdempotencyKey { key: "k".to_owned(), body_hash: "h".to_owned() }),
            explain: false,
            random: [7; 10],
        };
        let asked = initial_request(request, read.as_ref(), &self.settings);
        let context = PlanContext {
            settings: &self.settings,
            cache: &self.cache,
            now: NOW,
            environment: self.environment,
            asks_ledger_first: self.asks_ledger_first,
        };
        run(begin(context, asked, read.as_ref(), self.buyer_can_repeat))
    }

    /// The question to the ledger that ends a plan whose chain answers so, and the steps until then.
    fn finding(&self, world: &World) -> (PaymentRequest, Vec<&'static str>) {
        self.plan(|step| {
            let mut steps = Vec::new();
            let ask = world.run(step, &mut steps);
            (ask.asked().clone(), steps)
        })
    }
}

/// What the Worker finds out.
struct World {
    is_allowed: bool,
    unfunded: Vec<Address>,
    price: Option<Option<GasPrice>>,
    awaited: Option<GasPrice>,
    requoted: Option<GasPrice>,
    /// What the chain says, one decision after another; the last is repeated.
    decisions: Vec<ChainDecision>,
    held_until: Option<UnixMillis>,
}

impl World {
    fn good() -> Self {
        Self {
            is_allowed: true,
            unfunded: Vec::new(),
            price: Some(Some(PRICE)),
            awaited: None,
            requoted: None,
            decisions: vec![checked(None)],
            held_until: None,
        }
    }

    fn says(decisions: Vec<ChainDecision>) -> Self {
        Self { decisions, ..Self::good() }
    }

    /// Carries a plan out until the ledger is asked; a payment is not known to be recorded.
    fn run<'a>(&self, mut step: PlanStep<'a>, steps: &mut Vec<&'static str>) -> Box<AskLedger<'a>> {
        let mut decisions = self.decisions.iter();
        let mut decision = decisions.next();
        loop {
            let (name, next) = match step {
                PlanStep::AskLedger(ask) => return ask,
                PlanStep::RecallPayment(step) => {
                    assert!(step.authorization().starts_with("eip155:84532/"));
                    ("recall", step.then(false))
                }
                PlanStep::FindOut(PlanQuestion::CheckRegistry(step)) => ("registry", step.then(self.is_allowed)),
                PlanStep::FindOut(PlanQuestion::RefreshLater(step)) => match step.kind() {
                    RefreshKind::Balances => ("refresh balances", step.then()),
                    RefreshKind::Holds => ("refresh holds", step.then()),
                },
                PlanStep::FindOut(PlanQuestion::CheckSigners(step)) => ("signers", step.then(&self.unfunded)),
                PlanStep::FindOut(PlanQuestion::ReadPrice(step)) => ("price", step.then(self.price)),
                PlanStep::FindOut(PlanQuestion::AwaitPrice(step)) => ("await price", step.then(self.awaited)),
                PlanStep::FindOut(PlanQuestion::AskChain(step)) => {
                    assert!(matches!(step.judge(&Facts::new()), Err(Undecided::Missing(_))));
                    let said = decision.cloned().flatten();
                    decision = decisions.next().or(decision);
                    ("chain", step.then(said))
                }
                PlanStep::FindOut(PlanQuestion::Requote(step)) => {
                    assert_eq!(step.refused(), PRICE);
                    ("requote", step.then(self.requoted))
                }
                PlanStep::FindOut(PlanQuestion::ReadHolds(step)) => ("holds", step.then(self.held_until)),
                PlanStep::FindOut(PlanQuestion::FindThirdParty(_)) => panic!("the ledger is asked first"),
            };
            steps.push(name);
            step = next;
        }
    }
}

/// The chain has looked at every rule; the first that is broken.
fn checked(refusal: Option<Reason>) -> ChainDecision {
    checked_by(refusal, VerdictBasis::Definite)
}

fn checked_by(refusal: Option<Reason>, basis: VerdictBasis) -> ChainDecision {
    let refusal = refusal.map(|reason| (reason, "no".to_owned()));
    Some((OnchainVerdict::Checked(SchemeRules { refusal, ..SchemeRules::of_state() }, CodeKind::None), basis))
}

fn unfunded() -> ChainDecision {
    Some((OnchainVerdict::SignerUnfunded, VerdictBasis::Definite))
}

fn underpriced() -> ChainDecision {
    Some((OnchainVerdict::Underpriced, VerdictBasis::Definite))
}

fn reason(asked: &PaymentRequest) -> Option<Reason> {
    match &asked.finding {
        PaymentFinding::Refused(_, reason, _) => Some(*reason),
        PaymentFinding::Good(_)
        | PaymentFinding::Used(..)
        | PaymentFinding::External(..)
        | PaymentFinding::Unavailable
        | PaymentFinding::Deferred => None,
    }
}

fn signers(case: &Case) -> Vec<Address> {
    case.settings.signers(Family::Evm, Environment::Test).iter().map(Signer::address).collect()
}

#[test]
fn a_good_payment_is_asked_about_once_and_booked() {
    for (verb, refreshed) in [(PaymentAction::Verify, "refresh holds"), (PaymentAction::Settle, "refresh balances")] {
        let case = Case::of(verb, 1);
        let (asked, steps) = case.finding(&World::good());
        assert!(matches!(asked.finding, PaymentFinding::Good(_)), "{:?}", asked.finding);
        assert_eq!(steps, ["registry", "recall", refreshed, "signers", "price", "chain", "holds"]);
        let terms = asked.terms.expect("terms");
        assert_eq!((terms.signer, asked.payer), (signers(&case).first().copied(), Address::parse(Family::Evm, PAYER)));
        assert!(terms.worst > 0 && terms.max_fee_wei.is_some() && !terms.has_code);
    }
}

#[test]
fn what_needs_no_chain_asks_the_ledger_at_once() {
    let end = |case: &Case, world: &World| {
        let (asked, steps) = case.finding(world);
        (reason(&asked), steps.len(), asked.idempotency.is_some())
    };
    let mut case = Case::of(PaymentAction::Settle, 1);
    case.buyer_can_repeat = true;
    assert_eq!(end(&case, &World::good()), (Some(Reason::InvalidPayload), 0, false));
    case = Case { environment: Environment::Live, buyer_can_repeat: false, ..case };
    assert_eq!(end(&case, &World::good()), (Some(Reason::NetworkNotEnabled), 0, true));
    case.environment = Environment::Test;
    case.body["paymentRequirements"]["network"] = json!("eip155:1234567");
    assert_eq!(end(&case, &World::good()), (Some(Reason::InvalidNetwork), 0, true));
    case.body = json!({"x402Version": 3});
    assert_eq!(end(&case, &World::good()), (Some(Reason::InvalidVersion), 0, true));
    for (pointer, wrong, reason) in [
        ("/paymentPayload/accepted/scheme", json!("upto"), Reason::EvmScheme),
        ("/paymentPayload/payload/signature", json!("no hex"), Reason::EvmUnparsedSignature),
    ] {
        case.body = body();
        *case.body.pointer_mut(pointer).expect("a member") = wrong;
        assert_eq!(end(&case, &World::good()), (Some(reason), 1, true));
    }
    // A chain that is off is not asked, and the ledger gives nothing for it.
    case.body = body();
    let off = World { is_allowed: false, ..World::good() };
    case.plan(|step| {
        let ask = off.run(step, &mut Vec::new());
        assert!(!ask.asked().chain_on && ask.asked().terms.is_some() && ask.authorization().is_none());
        assert!(matches!(ask.then(true), ControlFlow::Break(PlanEnd { ready: None, recorded: None })));
    });
}

#[test]
fn what_may_be_recorded_is_asked_of_the_ledger_first() {
    let case = Case { asks_ledger_first: true, ..Case::of(PaymentAction::Settle, 1) };
    for is_answered in [true, false] {
        case.plan(|step| {
            let mut steps = Vec::new();
            let ask = World::good().run(step, &mut steps);
            assert_eq!((ask.asked().finding.clone(), steps), (PaymentFinding::Deferred, vec!["registry"]));
            assert!(ask.authorization().is_some());
            match ask.then(is_answered) {
                ControlFlow::Break(PlanEnd { ready, recorded }) => {
                    let ready = ready.expect("a payment");
                    assert!(is_answered && recorded.is_none());
                    // Not judged anew: only a reservation of this moment is sent.
                    assert_eq!(ready.held.as_ref().map(|(reason, _)| *reason), Some(Reason::UnexpectedSettle));
                }
                ControlFlow::Continue(next) => {
                    assert!(!is_answered);
                    let ask = World::good().run(next, &mut Vec::new());
                    assert!(matches!(ask.asked().finding, PaymentFinding::Good(_)));
                }
            }
        });
    }
    let recorded = Case::of(PaymentAction::Settle, 1);
    recorded.plan(|step| {
        let PlanStep::FindOut(PlanQuestion::CheckRegistry(step)) = step else { panic!("the registry comes first") };
        let PlanStep::RecallPayment(step) = step.then(true) else { panic!("then what is remembered") };
        let PlanStep::AskLedger(ask) = step.then(true) else { panic!("then the ledger") };
        assert_eq!(ask.asked().finding, PaymentFinding::Deferred);
    });
}

#[test]
fn what_is_late_or_settled_nowhere_asks_no_chain() {
    let mut late = Case::of(PaymentAction::Settle, 1);
    late.body["paymentPayload"]["payload"]["authorization"]["validBefore"] = json!("1794999000");
    let (asked, steps) = late.finding(&World::good());
    assert_eq!((reason(&asked), steps), (Some(Reason::EvmValidBefore), vec!["registry", "recall"]));
    let (asked, steps) = Case::of(PaymentAction::Settle, 0).finding(&World::good());
    assert_eq!((reason(&asked), steps), (Some(Reason::NetworkNotEnabled), vec!["registry", "recall"]));
    // A verification asks with the recipient in the sender's place.
    let (asked, steps) = Case::of(PaymentAction::Verify, 0).finding(&World::good());
    assert!(matches!(asked.finding, PaymentFinding::Good(_)));
    assert_eq!(steps, ["registry", "recall", "refresh holds", "chain"]);
    assert_eq!(asked.terms.and_then(|terms| terms.signer), None);
}

#[test]
fn a_price_that_is_not_known_is_awaited_and_one_that_is_refused_quoted_anew_once() {
    let (verify, settle) = (Case::of(PaymentAction::Verify, 1), Case::of(PaymentAction::Settle, 1));
    let unknown = World { price: None, awaited: Some(PRICE), ..World::good() };
    let (asked, steps) = settle.finding(&unknown);
    assert!(steps.contains(&"await price") && matches!(asked.finding, PaymentFinding::Good(_)));
    // Nobody names a price: nothing is sent, and a verification needs none.
    let nobody = World { price: Some(None), ..World::good() };
    assert_eq!(settle.finding(&nobody).0.finding, PaymentFinding::Unavailable);
    assert!(matches!(verify.finding(&nobody).0.finding, PaymentFinding::Good(_)));
    let dearer = World { requoted: Some(DEARER), ..World::says(vec![underpriced(), checked(None)]) };
    let (asked, steps) = settle.finding(&dearer);
    assert_eq!(steps[5..], ["chain", "requote", "chain", "holds"]);
    assert!(matches!(asked.finding, PaymentFinding::Good(_)));
    for requoted in [None, Some(DEARER)] {
        let (asked, steps) = settle.finding(&World { requoted, ..World::says(vec![underpriced()]) });
        assert_eq!(asked.finding, PaymentFinding::Unavailable);
        assert_eq!(steps.iter().filter(|step| **step == "requote").count(), 1);
    }
}

#[test]
fn a_signer_that_cannot_pay_is_passed_over() {
    let case = Case::of(PaymentAction::Settle, 3);
    let all = signers(&case);
    let (first, _) = case.finding(&World::good());
    let own = first.terms.and_then(|terms| terms.signer).expect("a signer");
    let at = all.iter().position(|signer| *signer == own).expect("one of ours");
    // Known to be poor: the next in the payer's order.
    let poor = World { unfunded: vec![own], ..World::good() };
    let next = case.finding(&poor).0.terms.and_then(|terms| terms.signer);
    assert_eq!(next, all.get((at + 1) % 3).copied());
    // Found to be poor by the chain: the next is asked with.
    let (asked, steps) = case.finding(&World::says(vec![unfunded(), checked(None)]));
    assert_eq!((asked.terms.and_then(|terms| terms.signer), steps[5..].len()), (next, 3));
    // All of them, by what is known or by the chain.
    let known = World { unfunded: all, ..World::good() };
    for (world, asks) in [(known, 0), (World::says(vec![unfunded()]), 3)] {
        let (asked, steps) = case.finding(&world);
        assert_eq!(reason(&asked), Some(Reason::EvmRelayerPoor));
        assert_eq!(steps.iter().filter(|step| **step == "chain").count(), asks);
        let (asked, _) = Case::of(PaymentAction::Verify, 3).finding(&world);
        assert_eq!(reason(&asked), Some(Reason::UnexpectedVerify));
    }
}

#[test]
fn only_what_more_than_one_node_says_is_held_against_a_signer() {
    let case = Case::of(PaymentAction::Settle, 1);
    case.plan(|mut step| {
        loop {
            step = match step {
                PlanStep::FindOut(PlanQuestion::CheckRegistry(step)) => step.then(true),
                PlanStep::RecallPayment(step) => step.then(false),
                PlanStep::FindOut(PlanQuestion::RefreshLater(step)) => step.then(),
                PlanStep::FindOut(PlanQuestion::CheckSigners(step)) => step.then(&[]),
                PlanStep::FindOut(PlanQuestion::ReadPrice(step)) => step.then(Some(Some(PRICE))),
                PlanStep::FindOut(PlanQuestion::AskChain(step)) => {
                    let alone = Some((OnchainVerdict::SignerUnfunded, VerdictBasis::Unconfirmed));
                    assert_eq!(step.unfunded(&unfunded()), signers(&case).first().copied());
                    for other in [alone, underpriced(), checked(None), None] {
                        assert_eq!(step.unfunded(&other), None);
                    }
                    return;
                }
                PlanStep::AskLedger(_) => panic!("the chain comes first"),
                PlanStep::FindOut(
                    PlanQuestion::AwaitPrice(_)
                    | PlanQuestion::Requote(_)
                    | PlanQuestion::ReadHolds(_)
                    | PlanQuestion::FindThirdParty(_),
                ) => panic!("another question than these"),
            };
        }
    });
}

#[test]
fn the_chains_word_becomes_the_finding() {
    let (verify, settle) = (Case::of(PaymentAction::Verify, 1), Case::of(PaymentAction::Settle, 1));
    let balance = World::says(vec![checked(Some(Reason::EvmBalance))]);
    assert_eq!(reason(&settle.finding(&balance).0), Some(Reason::EvmBalance));
    let alone = World::says(vec![checked_by(Some(Reason::EvmBalance), VerdictBasis::Unconfirmed)]);
    assert_eq!(reason(&settle.finding(&alone).0), Some(Reason::UnexpectedSettle));
    assert_eq!(reason(&verify.finding(&alone).0), Some(Reason::UnexpectedVerify));
    assert_eq!(settle.finding(&World::says(vec![None])).0.finding, PaymentFinding::Unavailable);
    // A used authorization may have been used for this payment: only a settlement looks for it.
    let used = World::says(vec![checked(Some(Reason::EvmNonceUsed))]);
    assert!(matches!(settle.finding(&used).0.finding, PaymentFinding::Used(..)));
    assert_eq!(reason(&verify.finding(&used).0), Some(Reason::EvmNonceUsed));
    // Whose payment has failed on the chain waits.
    let held = World { held_until: Some(NOW.plus(1)), ..World::good() };
    assert_eq!(reason(&settle.finding(&held).0), Some(Reason::UnexpectedSettle));
    assert_eq!(reason(&verify.finding(&held).0), Some(Reason::UnexpectedVerify));
}

#[test]
fn a_used_authorization_is_looked_for_where_no_record_answers() {
    let case = Case::of(PaymentAction::Settle, 1);
    let used = World::says(vec![checked(Some(Reason::EvmNonceUsed))]);
    let id = TxId::Evm(B256::repeat_byte(9));
    case.plan(|step| {
        let end = used.run(step, &mut Vec::new()).then(true);
        assert!(matches!(end, ControlFlow::Break(PlanEnd { ready: Some(_), recorded: Some(_) })));
    });
    use crate::settlement::flight::ThirdPartyLookup;
    for (lookup, want) in [
        (ThirdPartyLookup::Found { id, units: vec![3] }, None),
        (ThirdPartyLookup::Nothing, Some(Reason::EvmNonceUsed)),
        (ThirdPartyLookup::Unknown, Some(Reason::UnexpectedSettle)),
    ] {
        let is_found = matches!(lookup, ThirdPartyLookup::Found { .. });
        case.plan(|step| {
            let ask = used.run(step, &mut Vec::new());
            let ControlFlow::Continue(next) = ask.then(false) else { panic!("it is looked for") };
            let PlanStep::FindOut(PlanQuestion::FindThirdParty(step)) = next else { panic!("it is looked for") };
            let ThirdPartyQuestion::Authorization(transfer) = step.question() else { panic!("by its nonce") };
            assert_eq!(transfer.nonce, B256::repeat_byte(0x11));
            let PlanStep::AskLedger(ask) = step.then(lookup) else { panic!("then the ledger") };
            assert_eq!(
                (reason(ask.asked()), matches!(ask.asked().finding, PaymentFinding::External(..))),
                (want, is_found)
            );
            // Whatever it says is the answer.
            assert!(matches!(ask.then(false), ControlFlow::Break(PlanEnd { ready: Some(_), recorded: Some(_) })));
        });
    }
}

#[test]
fn a_flight_is_held_unless_its_reservation_is_of_this_moment() {
    let case = Case::of(PaymentAction::Settle, 1);
    let ready = case.plan(|step| match World::says(vec![None]).run(step, &mut Vec::new()).then(true) {
        ControlFlow::Break(PlanEnd { ready, .. }) => ready.expect("a payment"),
        ControlFlow::Continue(_) => panic!("the ledger has answered"),
    });
    let caller = Caller { tenant: TenantId([1; 12]), environment: Environment::Test, hash: KeyHash::of("a key") };
    let reserved = |signer, reserved_at, has_code| ReservedSettlement {
        settlement: settlement(),
        attempt: 1,
        signer,
        has_code,
        max_fee_wei: Some(5),
        reserved_at,
        free: true,
    };
    let own = signers(&case).first().copied();
    let flight = |signer, at| -> Result<_, Fault> { ready.flight(&caller, &reserved(signer, at, false), NOW) };
    let fresh = flight(own, NOW).expect("a flight");
    assert_eq!((fresh.held, fresh.nonce, fresh.max_fee_wei), (None, Some(B256::repeat_byte(0x11)), Some(5)));
    let old = flight(own, UnixMillis(NOW.0 - 30_000)).expect("a flight");
    assert_eq!(old.held.map(|(reason, _)| reason), Some(Reason::UnexpectedSettle));
    assert!(flight(None, NOW).is_err());
    // A payer with code is paid from by another function.
    let data = |has_code| match ready.flight(&caller, &reserved(own, NOW, has_code), NOW).expect("a flight").cargo {
        FlightPayload::Evm(call) => call.data,
        FlightPayload::Svm(_) => panic!("another family"),
    };
    assert_ne!(data(true), data(false));
}

fn settlement() -> Settlement {
    Settlement {
        id: SettlementId::new(NOW, [7; 10]),
        status: SettlementStatus::Pending,
        reason: None,
        network: "eip155:84532".to_owned(),
        transaction: None,
        payer: PAYER.to_owned(),
        pay_to: PAY_TO.to_owned(),
        amount: "10000".to_owned(),
        asset: String::new(),
        created_at: NOW.rfc3339(),
        completed_at: None,
        attempts: Vec::new(),
        handed_over: None,
        traceparent: None,
    }
}

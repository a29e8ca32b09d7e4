//! The steps by which the Worker verifies or settles a payment, as data. A step names what must be asked; its method
//! `then` takes the answer and returns the next step. The Worker only asks.

mod ledger;
mod offchain;
mod onchain;
mod ready;

pub use ledger::{AskLedger, PlanEnd};
pub use offchain::{CheckRegistry, NewRequest, initial_request};
pub use onchain::{
    AskChain, AwaitPrice, ChainDecision, CheckSigners, FindThirdParty, ReadHolds, ReadPrice, RefreshKind, RefreshLater,
    Requote, ThirdPartyQuestion,
};
pub use ready::ReadyPayment;

use crate::settings::Settings;
use crate::settlement::payment::{PaymentAction, PaymentFinding, PaymentRequest};
use std::cell::Cell;
use x402_chain::address::{Address, TxId};
use x402_chain::checks::Checks;
use x402_chain::evm::cache::VerificationCache;
use x402_chain::network::{Environment, Network};
use x402_chain::reason::Reason;
use x402_chain::schemes::exact::ExactPayment;
use x402_chain::schemes::exact::rules::SchemeRules;
use x402_chain::signer::Signer;
use x402_chain::time::UnixMillis;
use x402_chain::x402;
use x402_chain::x402::{MalformedPayment, Payment};

/// The refusal where no key of ours can pay for a transaction.
pub const UNFUNDED_MESSAGE: &str = "the facilitator cannot pay for gas on this network now";

/// What every step of one request reads.
#[derive(Clone, Copy)]
pub struct PlanContext<'a> {
    /// The settings: signers, budgets, providers.
    pub settings: &'a Settings,
    /// What earlier verifications have left in the isolate.
    pub cache: &'a VerificationCache,
    /// When the Worker received the request.
    pub now: UnixMillis,
    /// The environment of the caller's key.
    pub environment: Environment,
    /// Whether the ledger is asked before the chain, since it has refused this caller in the last minute.
    pub asks_ledger_first: bool,
}

/// The next step. Each has a method `then` that takes its result.
pub enum PlanStep<'a> {
    /// Look up whether the isolate knows that the ledger holds a settlement of the payment.
    RecallPayment(Box<RecallPayment<'a>>),
    /// Send the payment to the ledger.
    AskLedger(Box<AskLedger<'a>>),
    /// Ask about the chain, our signers or the payer.
    FindOut(PlanQuestion<'a>),
}

/// A question that another part than the ledger answers.
pub enum PlanQuestion<'a> {
    /// Whether the registry check allows the network.
    CheckRegistry(Box<CheckRegistry<'a>>),
    /// Refresh what the isolate remembers, after the answer.
    RefreshLater(Box<RefreshLater<'a>>),
    /// Which signers of the network cannot pay for a transaction.
    CheckSigners(Box<CheckSigners<'a>>),
    /// The remembered gas price.
    ReadPrice(Box<ReadPrice<'a>>),
    /// The gas price, of the providers.
    AwaitPrice(Box<AwaitPrice<'a>>),
    /// The rules' result on the chain, with the transaction that one signer would send.
    AskChain(Box<AskChain<'a>>),
    /// Another gas price in place of one that a node has refused.
    Requote(Box<Requote<'a>>),
    /// Until when nothing is sent for the payer.
    ReadHolds(Box<ReadHolds<'a>>),
    /// The transaction by which a third party has used the authorization.
    FindThirdParty(Box<FindThirdParty>),
}

/// A payment with a complete authorization, on a network that the registry check allows.
pub(crate) struct PlannedPayment<'a> {
    context: PlanContext<'a>,
    /// The message to the ledger, as far as it is known.
    asked: PaymentRequest,
    payment: &'a Payment,
    network: &'static Network,
    terms: ExactPayment,
    rules: SchemeRules,
    /// The refusal, where the authorization has expired and every other rule passed.
    late: Option<(Reason, String)>,
    /// Our signers that may send it, the payer's own first; empty where nothing is sent.
    signers: Vec<&'a Signer>,
    /// The id that the transaction gets by our signature (Solana).
    completed: Option<TxId>,
    /// Whether a node answered, but not which code is at the payer's address.
    is_unread: Cell<bool>,
}

impl<'a> PlannedPayment<'a> {
    fn settles(&self) -> bool {
        self.asked.verb == PaymentAction::Settle
    }

    /// The rules that were checked so far.
    fn checks(&self) -> Checks {
        Checks::new(&self.rules.checks)
    }

    /// The addresses of all our signers on the network.
    fn network_signers(&self) -> Vec<Address> {
        let signers = self.context.settings.signers(self.network.family, self.network.environment);
        signers.iter().map(Signer::address).collect()
    }

    /// Asks the ledger before the chain, where the ledger has refused the caller or may hold a settlement.
    fn first_step(self) -> PlanStep<'a> {
        if self.context.asks_ledger_first {
            return AskLedger::before_chain(self);
        }
        PlanStep::RecallPayment(Box::new(RecallPayment { payment: self }))
    }
}

/// The look-up whether the ledger holds a settlement of the payment: then it is asked before the chain.
pub struct RecallPayment<'a> {
    payment: PlannedPayment<'a>,
}

impl<'a> RecallPayment<'a> {
    /// The id of the payment's authorization, which the chain accepts once.
    #[must_use]
    pub fn authorization(&self) -> &str {
        self.payment.asked.terms.as_ref().map_or("", |terms| &terms.authorization)
    }

    /// The next step: the ledger where it holds a settlement, else the chain.
    #[must_use]
    pub fn then(self, is_recorded: bool) -> PlanStep<'a> {
        if is_recorded { AskLedger::before_chain(self.payment) } else { onchain::begin(self.payment) }
    }
}

/// The first step for a request. `read` is its payment. `buyer_can_repeat`: its `Idempotency-Key` is a value that the
/// buyer can send again, and is refused.
#[must_use]
pub fn begin<'a>(
    context: PlanContext<'a>,
    mut asked: PaymentRequest,
    read: Result<&'a Payment, &MalformedPayment>,
    buyer_can_repeat: bool,
) -> PlanStep<'a> {
    let payment = match read {
        Ok(payment) => payment,
        Err(malformed) => {
            return AskLedger::refused(asked, Checks::none(), malformed.reason, malformed.message.as_str());
        }
    };
    if buyer_can_repeat {
        asked.idempotency = None;
        let message = "the Idempotency-Key header must name your own attempt, not a value that the buyer can repeat";
        return AskLedger::refused(asked, Checks::none(), Reason::InvalidPayload, message);
    }
    let Some(network) = x402::network_named(&payment.requirements.network) else {
        return AskLedger::refused(asked, Checks::none(), Reason::InvalidNetwork, "the network is not known");
    };
    asked.network = Some(network.key.to_owned());
    if context.environment != network.environment {
        let message = "the network belongs to the other environment";
        return AskLedger::refused(asked, Checks::none(), Reason::NetworkNotEnabled, message);
    }
    PlanStep::FindOut(PlanQuestion::CheckRegistry(Box::new(CheckRegistry::new(context, asked, payment, network))))
}

/// Why nothing new may be sent for a payment.
fn hold_reason(finding: &PaymentFinding) -> Option<(Reason, String)> {
    match finding {
        PaymentFinding::Good(_) | PaymentFinding::External(..) => None,
        PaymentFinding::Refused(_, reason, message) => Some((*reason, message.clone())),
        PaymentFinding::Used(_, message) => Some((Reason::EvmNonceUsed, message.clone())),
        PaymentFinding::Unavailable | PaymentFinding::Deferred => Some((
            Reason::UnexpectedSettle,
            "no node could check the payment, or no gas price is known: repeat the request".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests;

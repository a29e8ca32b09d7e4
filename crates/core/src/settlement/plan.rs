//! What the Worker does next for a payment that is to be verified or settled, as data. Each step says what must be
//! found out, and what the answer makes of it is the next step; the Worker only carries them out.

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

/// What is the same for every step of one request.
#[derive(Clone, Copy)]
pub struct PlanContext<'a> {
    /// The settings.
    pub settings: &'a Settings,
    /// What earlier verifications found out.
    pub cache: &'a VerificationCache,
    /// When the request came.
    pub now: UnixMillis,
    /// Which money the caller's key is for.
    pub environment: Environment,
    /// Whether the ledger is asked before the chain: it has refused this caller of late.
    pub asks_ledger_first: bool,
}

/// What is to be done next; each has a method `then` that takes what came of it.
pub enum PlanStep<'a> {
    /// Say whether the ledger is known to hold a settlement of the payment.
    RecallPayment(Box<RecallPayment<'a>>),
    /// Ask the ledger.
    AskLedger(Box<AskLedger<'a>>),
    /// Find something out about the chain, our signers or the payer.
    FindOut(PlanQuestion<'a>),
}

/// What is to be found out beside the ledger.
pub enum PlanQuestion<'a> {
    /// Say whether the registry check lets the network be used.
    CheckRegistry(Box<CheckRegistry<'a>>),
    /// Refresh what is known, once the request is answered.
    RefreshLater(Box<RefreshLater<'a>>),
    /// Say which signers of the network cannot pay for a transaction.
    CheckSigners(Box<CheckSigners<'a>>),
    /// Say what a unit of gas costs, as far as that is known without waiting.
    ReadPrice(Box<ReadPrice<'a>>),
    /// Ask what a unit of gas costs.
    AwaitPrice(Box<AwaitPrice<'a>>),
    /// Ask the chain about the transaction that this sender would send.
    AskChain(Box<AskChain<'a>>),
    /// Ask for another price in place of one that a node has refused.
    Requote(Box<Requote<'a>>),
    /// Say until when nothing is sent for the payer.
    ReadHolds(Box<ReadHolds<'a>>),
    /// Find the transaction by which somebody else has used the authorization.
    FindThirdParty(Box<FindThirdParty>),
}

/// A payment whose authorization is whole, on a network that is on.
pub(crate) struct PlannedPayment<'a> {
    context: PlanContext<'a>,
    /// The question to the ledger, as far as it is known.
    asked: PaymentRequest,
    payment: &'a Payment,
    network: &'static Network,
    terms: ExactPayment,
    rules: SchemeRules,
    /// Its time is over, and nothing else is wrong with it.
    late: Option<(Reason, String)>,
    /// Who of us may send it, the payer's own signer first; none where nothing is sent.
    signers: Vec<&'a Signer>,
    /// The transaction that our signature completes (Solana).
    completed: Option<TxId>,
    /// Whether a node answered, but not which code is at the payer's address.
    is_unread: Cell<bool>,
}

impl<'a> PlannedPayment<'a> {
    fn settles(&self) -> bool {
        self.asked.verb == PaymentAction::Settle
    }

    /// The rules that were looked at so far.
    fn checks(&self) -> Checks {
        Checks::new(&self.rules.checks)
    }

    /// All addresses of ours on the network.
    fn network_signers(&self) -> Vec<Address> {
        let signers = self.context.settings.signers(self.network.family, self.network.environment);
        signers.iter().map(Signer::address).collect()
    }

    /// The ledger is asked first where it is known to answer from its record; else the chain is.
    fn first_step(self) -> PlanStep<'a> {
        if self.context.asks_ledger_first {
            return AskLedger::before_chain(self);
        }
        PlanStep::RecallPayment(Box::new(RecallPayment { payment: self }))
    }
}

/// Whether the ledger is known to hold a settlement of the payment: then it is asked before the chain.
pub struct RecallPayment<'a> {
    payment: PlannedPayment<'a>,
}

impl<'a> RecallPayment<'a> {
    /// What the chain lets happen once.
    #[must_use]
    pub fn authorization(&self) -> &str {
        self.payment.asked.terms.as_ref().map_or("", |terms| &terms.authorization)
    }

    /// Goes on by whether it is known.
    #[must_use]
    pub fn then(self, is_recorded: bool) -> PlanStep<'a> {
        if is_recorded { AskLedger::before_chain(self.payment) } else { onchain::begin(self.payment) }
    }
}

/// Begins with what was read of the request. `buyer_can_repeat`: its `Idempotency-Key` is no name of the seller's own.
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

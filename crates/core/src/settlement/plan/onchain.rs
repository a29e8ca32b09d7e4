//! What the chain must be asked for: with one signer after another, until one can pay for the transaction.

use super::ready::ReadyPayment;
use super::{AskLedger, PlanQuestion, PlanStep, PlannedPayment, UNFUNDED_MESSAGE, hold_reason};
use crate::settlement::flight::{ExpectedTransfer, ThirdPartyLookup};
use crate::settlement::payment::{PaymentFinding, PaymentRequest};
use x402_chain::address::{Address, Family, TxId};
use x402_chain::amount::Amount;
use x402_chain::checks::Checks;
use x402_chain::confirm::VerdictBasis;
use x402_chain::evm::sender::{GasPrice, TransactionSender};
use x402_chain::evm::tx::worst_fee_wei;
use x402_chain::facts::{Facts, Undecided};
use x402_chain::network::Network;
use x402_chain::reason::Reason;
use x402_chain::schemes::exact;
use x402_chain::schemes::exact::ExactPayment;
use x402_chain::schemes::exact::rules::{OnchainContext, OnchainVerdict, SchemeRules, UNREAD_PAYER};
use x402_chain::time::UnixMillis;
use x402_chain::trace::CodeKind;

const UNREAD_MESSAGE: &str =
    "the code at the payer's address could not be read, so the signature is not verified: ask again";

/// What the chain's answers make of a payment, and why that counts; `None` where no provider gave a usable answer.
pub type ChainDecision = Option<(OnchainVerdict, VerdictBasis)>;

/// What the chain says of a payment.
enum ChainAnswer {
    /// How the rules came out, what is at the payer's address, and why that counts.
    Checked(SchemeRules, CodeKind, VerdictBasis),
    /// None of our signers can pay for the gas.
    SignersUnfunded,
    /// No provider gave a usable answer, or a price at which it could be sent.
    Unavailable,
}

/// Begins with the chain.
pub(super) fn begin(mut payment: PlannedPayment<'_>) -> PlanStep<'_> {
    if let Some((reason, message)) = payment.late.take() {
        let checks = payment.checks();
        return book(payment, PaymentFinding::Refused(checks, reason, message), None);
    }
    if payment.settles() && (payment.signers.is_empty() || payment.network.settle.is_none()) {
        let message = "nothing is settled on this network".to_owned();
        let finding = PaymentFinding::Refused(Checks::none(), Reason::NetworkNotEnabled, message);
        return book(payment, finding, None);
    }
    PlanStep::FindOut(PlanQuestion::RefreshLater(Box::new(RefreshLater { payment })))
}

/// What is refreshed once the request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshKind {
    /// What our signers hold.
    Balances,
    /// For whom our signers send nothing.
    Holds,
}

/// Not before a caller whom the ledger refuses is known: one costs no call, not even after the answer.
pub struct RefreshLater<'a> {
    payment: PlannedPayment<'a>,
}

impl<'a> RefreshLater<'a> {
    /// Whose signers.
    #[must_use]
    pub const fn network(&self) -> &'static Network {
        self.payment.network
    }

    /// What.
    #[must_use]
    pub fn kind(&self) -> RefreshKind {
        if self.payment.settles() { RefreshKind::Balances } else { RefreshKind::Holds }
    }

    /// Goes on.
    #[must_use]
    pub fn then(self) -> PlanStep<'a> {
        if self.payment.signers.is_empty() {
            // Where nobody would send it, the recipient stands in for the sender.
            let recipient = self.payment.terms.pay_to();
            return ask(self.payment, vec![recipient], None);
        }
        PlanStep::FindOut(PlanQuestion::CheckSigners(Box::new(CheckSigners { payment: self.payment })))
    }
}

/// Which signers of the network cannot pay for a transaction.
pub struct CheckSigners<'a> {
    payment: PlannedPayment<'a>,
}

impl<'a> CheckSigners<'a> {
    /// The network.
    #[must_use]
    pub const fn network(&self) -> &'static Network {
        self.payment.network
    }

    /// Goes on with those that can pay, or with all where none is known to; on Solana the payer has chosen.
    #[must_use]
    pub fn then(self, unfunded: &[Address]) -> PlanStep<'a> {
        let payment = self.payment;
        if payment.network_signers().iter().all(|signer| unfunded.contains(signer)) {
            return found(payment, ChainAnswer::SignersUnfunded, None);
        }
        let all: Vec<Address> = payment.signers.iter().map(|signer| signer.address()).collect();
        let funded: Vec<Address> = all.iter().copied().filter(|signer| !unfunded.contains(signer)).collect();
        let candidates = if funded.is_empty() { all } else { funded };
        PlanStep::FindOut(PlanQuestion::ReadPrice(Box::new(ReadPrice { payment, candidates })))
    }
}

/// What a unit of gas costs, as far as that is known without waiting.
pub struct ReadPrice<'a> {
    payment: PlannedPayment<'a>,
    candidates: Vec<Address>,
}

impl<'a> ReadPrice<'a> {
    /// The network.
    #[must_use]
    pub const fn network(&self) -> &'static Network {
        self.payment.network
    }

    /// Goes on with a price that is known, `Some(None)` where nobody names one; `None` where it must be asked.
    #[must_use]
    pub fn then(self, price: Option<Option<GasPrice>>) -> PlanStep<'a> {
        let Self { payment, candidates } = self;
        let sender = sender(&payment, payment.terms.pay_to(), None);
        match price {
            Some(price) => ask(payment, candidates, price),
            // What needs no chain needs no price.
            None if judge(&payment, &sender, &Facts::new()).is_ok() => ask(payment, candidates, None),
            None => PlanStep::FindOut(PlanQuestion::AwaitPrice(Box::new(AwaitPrice { payment, candidates }))),
        }
    }
}

/// A price that nobody knows yet.
pub struct AwaitPrice<'a> {
    payment: PlannedPayment<'a>,
    candidates: Vec<Address>,
}

impl<'a> AwaitPrice<'a> {
    /// The network.
    #[must_use]
    pub const fn network(&self) -> &'static Network {
        self.payment.network
    }

    /// Goes on with what was answered.
    #[must_use]
    pub fn then(self, price: Option<GasPrice>) -> PlanStep<'a> {
        ask(self.payment, self.candidates, price)
    }
}

/// Asks with the first of the candidates; nothing is settled without a price on EVM.
fn ask(payment: PlannedPayment<'_>, candidates: Vec<Address>, price: Option<GasPrice>) -> PlanStep<'_> {
    if payment.settles() && payment.network.family == Family::Evm && price.is_none() {
        return found(payment, ChainAnswer::Unavailable, None);
    }
    let mut rest = candidates.into_iter();
    let Some(first) = rest.next() else { return found(payment, ChainAnswer::SignersUnfunded, None) };
    let sender = sender(&payment, first, price);
    PlanStep::FindOut(PlanQuestion::AskChain(Box::new(AskChain { payment, sender, rest, is_requoted: false })))
}

fn sender(payment: &PlannedPayment<'_>, address: Address, price: Option<GasPrice>) -> TransactionSender {
    let gas = payment.network.settle.and_then(|settle| settle.gas());
    TransactionSender { address, gas_limit: gas.map(|gas| gas.limit), price }
}

/// What a node's answers make of the payment if `sender` would send it.
fn judge(payment: &PlannedPayment<'_>, sender: &TransactionSender, facts: &Facts) -> Result<OnchainVerdict, Undecided> {
    let (cache, now, settles) = (payment.context.cache, payment.context.now.seconds(), payment.settles());
    let known = OnchainContext { facts, memory: cache, settles, now };
    let judged = exact::verify_onchain(payment.payment, &payment.terms, sender, known);
    let is_unread = matches!(&judged, Err(Undecided::Malformed(nonsense)) if nonsense.hazard == UNREAD_PAYER);
    payment.is_unread.set(payment.is_unread.get() || is_unread);
    judged
}

/// The chain is asked about the very transaction that would be sent.
pub struct AskChain<'a> {
    payment: PlannedPayment<'a>,
    sender: TransactionSender,
    /// Who is asked with if this one cannot pay.
    rest: std::vec::IntoIter<Address>,
    /// Whether its price was quoted anew already: that is done once for each sender.
    is_requoted: bool,
}

impl<'a> AskChain<'a> {
    /// The network.
    #[must_use]
    pub const fn network(&self) -> &'static Network {
        self.payment.network
    }

    /// The rule that decides on a node's answers.
    ///
    /// # Errors
    /// What must be asked first, or that the answers are no evidence.
    pub fn judge(&self, facts: &Facts) -> Result<OnchainVerdict, Undecided> {
        judge(&self.payment, &self.sender, facts)
    }

    /// The signer against whom the answer is held: what one node alone reports is not.
    #[must_use]
    pub fn unfunded(&self, decision: &ChainDecision) -> Option<Address> {
        match decision {
            Some((OnchainVerdict::SignerUnfunded, basis)) if *basis != VerdictBasis::Unconfirmed => {
                Some(self.sender.address)
            }
            Some((OnchainVerdict::SignerUnfunded | OnchainVerdict::Checked(..) | OnchainVerdict::Underpriced, _))
            | None => None,
        }
    }

    /// Goes on with what the chain says.
    #[must_use]
    pub fn then(mut self, decision: ChainDecision) -> PlanStep<'a> {
        let answer = match (decision, self.sender.price) {
            (Some((OnchainVerdict::Underpriced, _)), Some(refused)) if !self.is_requoted => {
                return PlanStep::FindOut(PlanQuestion::Requote(Box::new(Requote { asking: self, refused })));
            }
            (Some((OnchainVerdict::Checked(rules, code), basis)), _) => ChainAnswer::Checked(rules, code, basis),
            (Some((OnchainVerdict::SignerUnfunded, _)), _) => {
                return match self.rest.next() {
                    Some(address) => {
                        let sender = TransactionSender { address, ..self.sender };
                        PlanStep::FindOut(PlanQuestion::AskChain(Box::new(Self { sender, is_requoted: false, ..self })))
                    }
                    None => found(self.payment, ChainAnswer::SignersUnfunded, None),
                };
            }
            (Some((OnchainVerdict::Underpriced, _)) | None, _) => ChainAnswer::Unavailable,
        };
        self.found(answer)
    }

    /// Where nothing is sent, nobody would send it.
    fn found(self, answer: ChainAnswer) -> PlanStep<'a> {
        let sender = (!self.payment.signers.is_empty()).then_some(self.sender);
        found(self.payment, answer, sender)
    }
}

/// A price that the market has left behind is quoted anew, once.
pub struct Requote<'a> {
    asking: AskChain<'a>,
    refused: GasPrice,
}

impl<'a> Requote<'a> {
    /// The network.
    #[must_use]
    pub const fn network(&self) -> &'static Network {
        self.asking.payment.network
    }

    /// The price that a node has refused.
    #[must_use]
    pub const fn refused(&self) -> GasPrice {
        self.refused
    }

    /// Asks once more at another price, where there is one.
    #[must_use]
    pub fn then(self, price: Option<GasPrice>) -> PlanStep<'a> {
        let sender = TransactionSender { price, ..self.asking.sender };
        let asking = AskChain { sender, is_requoted: true, ..self.asking };
        match price {
            Some(_) => PlanStep::FindOut(PlanQuestion::AskChain(Box::new(asking))),
            None => asking.found(ChainAnswer::Unavailable),
        }
    }
}

/// What the chain says becomes the finding.
fn found<'a>(mut payment: PlannedPayment<'a>, answer: ChainAnswer, sender: Option<TransactionSender>) -> PlanStep<'a> {
    let (settles, network) = (payment.settles(), payment.network);
    let price = sender.and_then(|sender| sender.price);
    let worst = worst_cost(&payment.terms, network, price);
    if let Some(terms) = payment.asked.terms.as_mut() {
        terms.signer = sender.map_or(terms.signer, |sender| Some(sender.address));
        terms.worst = worst;
        terms.max_fee_wei = price.and_then(|price| worst_fee_wei(network, price));
    }
    let unexpected = if settles { Reason::UnexpectedSettle } else { Reason::UnexpectedVerify };
    let (rules, code, basis) = match answer {
        ChainAnswer::Unavailable if payment.is_unread.get() => {
            let unread = (Reason::EvmUnverified, UNREAD_MESSAGE.to_owned());
            let finding = PaymentFinding::Refused(payment.checks(), unread.0, unread.1);
            return book(payment, finding, price);
        }
        ChainAnswer::Unavailable => return book(payment, PaymentFinding::Unavailable, price),
        ChainAnswer::SignersUnfunded => {
            let reason = if settles && network.family == Family::Evm { Reason::EvmRelayerPoor } else { unexpected };
            let finding = PaymentFinding::Refused(payment.checks(), reason, UNFUNDED_MESSAGE.to_owned());
            return book(payment, finding, price);
        }
        ChainAnswer::Checked(rules, code, basis) => (rules, code, basis),
    };
    if let Some(terms) = payment.asked.terms.as_mut() {
        terms.has_code = code != CodeKind::None;
    }
    payment.rules.checks.extend(exact::rules::single_provider_check(basis));
    payment.rules.checks.extend(rules.checks);
    payment.rules.checks.extend(exact::rules::unconfirmed_check(basis));
    let checks = payment.checks();
    let finding = match (rules.refusal, sender) {
        (Some((_, message)), _) if basis == VerdictBasis::Unconfirmed => PaymentFinding::Refused(
            checks,
            unexpected,
            format!("only one node reports this: {message}; repeat the request"),
        ),
        (Some((Reason::EvmNonceUsed | Reason::DuplicateSettlement, message)), _) if settles => {
            PaymentFinding::Used(checks, message)
        }
        (Some((reason, message)), _) => PaymentFinding::Refused(checks, reason, message),
        (None, None) => PaymentFinding::Good(checks),
        (None, Some(sender)) => {
            let mut others = payment.network_signers();
            others.retain(|signer| !settles || *signer != sender.address);
            return PlanStep::FindOut(PlanQuestion::ReadHolds(Box::new(ReadHolds { payment, others, price })));
        }
    };
    book(payment, finding, price)
}

/// Until when nothing is sent for a payer, as far as this isolate knows: a settlement of theirs has reverted,
/// whichever of our signers had sent it. To settle, the signer's own Settler is asked anyway, and says it itself.
pub struct ReadHolds<'a> {
    payment: PlannedPayment<'a>,
    others: Vec<Address>,
    price: Option<GasPrice>,
}

impl<'a> ReadHolds<'a> {
    /// The network.
    #[must_use]
    pub const fn network(&self) -> &'static Network {
        self.payment.network
    }

    /// The signers whose word counts.
    #[must_use]
    pub fn signers(&self) -> &[Address] {
        &self.others
    }

    /// Who pays.
    #[must_use]
    pub const fn payer(&self) -> Address {
        self.payment.terms.payer()
    }

    /// Whether what is known is to be refreshed once the request is answered.
    #[must_use]
    pub fn refreshes(&self) -> bool {
        self.payment.settles() && !self.others.is_empty()
    }

    /// Goes on with the latest of these times.
    #[must_use]
    pub fn then(self, until: Option<UnixMillis>) -> PlanStep<'a> {
        let (payment, checks) = (&self.payment, self.payment.checks());
        let reason = if payment.settles() { Reason::UnexpectedSettle } else { Reason::UnexpectedVerify };
        let finding = match until {
            Some(until) => {
                let message = format!(
                    "a settlement of this payer failed on the chain: nothing is sent for them until {}",
                    until.rfc3339()
                );
                PaymentFinding::Refused(checks, reason, message)
            }
            None => PaymentFinding::Good(checks),
        };
        book(self.payment, finding, self.price)
    }
}

/// The ledger is given all that was found out.
fn book(mut payment: PlannedPayment<'_>, finding: PaymentFinding, price: Option<GasPrice>) -> PlanStep<'_> {
    let (held, checks) = (hold_reason(&finding), finding.checks());
    payment.asked.finding = finding;
    let (asked, ready) = payment.into_ready(held, price, checks);
    AskLedger::with_finding(asked, ready)
}

/// The most that a settlement may cost its signer: its gas at the worst price, wei; on Solana the
/// transaction's own fee, lamports.
fn worst_cost(terms: &ExactPayment, network: &Network, price: Option<GasPrice>) -> u128 {
    if let ExactPayment::Svm(terms) = terms {
        return terms.fee_lamports().into();
    }
    let Some(gas) = network.settle.and_then(|settle| settle.gas()) else { return 0 };
    let fee = price.and_then(|price| worst_fee_wei(network, price)).unwrap_or(gas.max_fee_wei);
    u128::from(gas.limit).saturating_mul(fee)
}

/// What the chain is asked about an authorization that is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThirdPartyQuestion {
    /// Which transaction has used it (EVM).
    Authorization(ExpectedTransfer),
    /// Whether this transaction has landed: only we complete a transaction, so that it is an attempt of ours that
    /// was given up (Solana).
    Transaction {
        /// The transaction.
        id: TxId,
        /// Who is paid.
        pay_to: Address,
        /// How much.
        amount: Amount,
    },
}

/// An authorization that is used up may have been used by somebody else, for this very payment.
pub struct FindThirdParty {
    asked: PaymentRequest,
    ready: ReadyPayment,
    question: ThirdPartyQuestion,
}

impl FindThirdParty {
    /// Looks for who has used it, where that can be asked.
    pub(super) fn next<'a>(asked: PaymentRequest, ready: ReadyPayment) -> PlanStep<'a> {
        let (payer, pay_to, amount) = (ready.terms.payer(), ready.terms.pay_to(), ready.terms.amount());
        let question = match (&ready.terms, ready.completed) {
            (ExactPayment::Evm(terms), _) => {
                let transfer = ExpectedTransfer { payer, pay_to, amount, nonce: terms.nonce() };
                ThirdPartyQuestion::Authorization(transfer)
            }
            (ExactPayment::Svm(_), Some(id)) => ThirdPartyQuestion::Transaction { id, pay_to, amount },
            (ExactPayment::Svm(_), None) => return looked_up(asked, ready, ThirdPartyLookup::Unknown),
        };
        PlanStep::FindOut(PlanQuestion::FindThirdParty(Box::new(Self { asked, ready, question })))
    }

    /// The network.
    #[must_use]
    pub const fn network(&self) -> &'static Network {
        self.ready.network
    }

    /// What is asked.
    #[must_use]
    pub const fn question(&self) -> &ThirdPartyQuestion {
        &self.question
    }

    /// Goes on with what was found.
    #[must_use]
    pub fn then<'a>(self, lookup: ThirdPartyLookup) -> PlanStep<'a> {
        looked_up(self.asked, self.ready, lookup)
    }
}

fn looked_up<'a>(mut asked: PaymentRequest, ready: ReadyPayment, lookup: ThirdPartyLookup) -> PlanStep<'a> {
    if let PaymentFinding::Used(checks, message) = &asked.finding {
        let (checks, message) = (checks.clone(), message.clone());
        asked.finding = match lookup {
            ThirdPartyLookup::Found { id, units } => PaymentFinding::External(checks, id, units),
            ThirdPartyLookup::Nothing => {
                let reason = match ready.terms {
                    ExactPayment::Evm(_) => Reason::EvmNonceUsed,
                    ExactPayment::Svm(_) => Reason::SvmFailed,
                };
                PaymentFinding::Refused(checks, reason, message)
            }
            ThirdPartyLookup::Unknown => {
                let message = "the authorization is used, and no node reports by which transaction: repeat the request";
                PaymentFinding::Refused(checks, Reason::UnexpectedSettle, message.to_owned())
            }
        };
    }
    AskLedger::with_user(asked, ready)
}

//! The checks on the chain: by the transaction that a signer would send, with one signer after another until one can
//! pay for it.

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

/// The rules' result on the chain's answers, and why it counts; `None` where no provider gave a usable answer.
pub type ChainDecision = Option<(OnchainVerdict, VerdictBasis)>;

/// What the chain's providers answered about a payment.
enum ChainAnswer {
    /// The rules with their results, what code is at the payer's address, and why the answer counts.
    Checked(SchemeRules, CodeKind, VerdictBasis),
    /// None of our signers can pay for the gas.
    SignersUnfunded,
    /// No provider gave a usable answer, or a price at which it could be sent.
    Unavailable,
}

/// The first step on the chain, or the refusal that makes it needless.
pub(super) fn begin(mut payment: PlannedPayment<'_>) -> PlanStep<'_> {
    if let Some((reason, message)) = payment.late.take() {
        let checks = payment.checks();
        return send_finding(payment, PaymentFinding::Refused(checks, reason, message), None);
    }
    if payment.settles() && (payment.signers.is_empty() || payment.network.settle.is_none()) {
        let message = "nothing is settled on this network".to_owned();
        let finding = PaymentFinding::Refused(Checks::none(), Reason::NetworkNotEnabled, message);
        return send_finding(payment, finding, None);
    }
    PlanStep::FindOut(PlanQuestion::RefreshLater(Box::new(RefreshLater { payment })))
}

/// What is refreshed after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshKind {
    /// The balances of our signers.
    Balances,
    /// The payers for whom our signers send nothing.
    Holds,
}

/// A refresh of what the isolate remembers, after the answer. It comes after the ledger's refusals, so that a refused
/// caller causes no call.
pub struct RefreshLater<'a> {
    payment: PlannedPayment<'a>,
}

impl<'a> RefreshLater<'a> {
    /// The network whose signers it is about.
    #[must_use]
    pub const fn network(&self) -> &'static Network {
        self.payment.network
    }

    /// What is refreshed: balances on settle, holds on verify.
    #[must_use]
    pub fn kind(&self) -> RefreshKind {
        if self.payment.settles() { RefreshKind::Balances } else { RefreshKind::Holds }
    }

    /// The next step.
    #[must_use]
    pub fn then(self) -> PlanStep<'a> {
        if self.payment.signers.is_empty() {
            // Where no signer would send it, the recipient stands in for the sender.
            let recipient = self.payment.terms.pay_to();
            return ask(self.payment, vec![recipient], None);
        }
        PlanStep::FindOut(PlanQuestion::CheckSigners(Box::new(CheckSigners { payment: self.payment })))
    }
}

/// The question which signers of the network cannot pay for a transaction.
pub struct CheckSigners<'a> {
    payment: PlannedPayment<'a>,
}

impl<'a> CheckSigners<'a> {
    /// The payment's network.
    #[must_use]
    pub const fn network(&self) -> &'static Network {
        self.payment.network
    }

    /// The next step, with the signers that can pay, or with all where none is known to. On Solana the payer has chosen
    /// one.
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

/// The question for the remembered price of a unit of gas.
pub struct ReadPrice<'a> {
    payment: PlannedPayment<'a>,
    candidates: Vec<Address>,
}

impl<'a> ReadPrice<'a> {
    /// The payment's network.
    #[must_use]
    pub const fn network(&self) -> &'static Network {
        self.payment.network
    }

    /// The next step. `price` is `None` where providers must be asked, and `Some(None)` where none quotes a price within
    /// the cap, or nothing is sent on the network.
    #[must_use]
    pub fn then(self, price: Option<Option<GasPrice>>) -> PlanStep<'a> {
        let Self { payment, candidates } = self;
        let sender = sender(&payment, payment.terms.pay_to(), None);
        match price {
            Some(price) => ask(payment, candidates, price),
            // Checks that need no chain need no price.
            None if judge(&payment, &sender, &Facts::new()).is_ok() => ask(payment, candidates, None),
            None => PlanStep::FindOut(PlanQuestion::AwaitPrice(Box::new(AwaitPrice { payment, candidates }))),
        }
    }
}

/// The question for the price of a unit of gas, to the providers.
pub struct AwaitPrice<'a> {
    payment: PlannedPayment<'a>,
    candidates: Vec<Address>,
}

impl<'a> AwaitPrice<'a> {
    /// The payment's network.
    #[must_use]
    pub const fn network(&self) -> &'static Network {
        self.payment.network
    }

    /// The next step; `None` where no provider quotes a price within the cap.
    #[must_use]
    pub fn then(self, price: Option<GasPrice>) -> PlanStep<'a> {
        ask(self.payment, self.candidates, price)
    }
}

/// Asks the chain with the first of the candidates. On EVM nothing is settled without a price.
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

/// The rules' result on a node's answers, if `sender` would send the payment.
fn judge(payment: &PlannedPayment<'_>, sender: &TransactionSender, facts: &Facts) -> Result<OnchainVerdict, Undecided> {
    let (cache, now, settles) = (payment.context.cache, payment.context.now.seconds(), payment.settles());
    let known = OnchainContext { facts, memory: cache, settles, now };
    let judged = exact::verify_onchain(payment.payment, &payment.terms, sender, known);
    let is_unread = matches!(&judged, Err(Undecided::Malformed(nonsense)) if nonsense.hazard == UNREAD_PAYER);
    payment.is_unread.set(payment.is_unread.get() || is_unread);
    judged
}

/// The question to the chain: the very transaction that would be sent is simulated.
pub struct AskChain<'a> {
    payment: PlannedPayment<'a>,
    sender: TransactionSender,
    /// The signers that are tried next if this one cannot pay.
    rest: std::vec::IntoIter<Address>,
    /// Whether its price was quoted again: that is done once for each signer.
    is_requoted: bool,
}

impl<'a> AskChain<'a> {
    /// The payment's network.
    #[must_use]
    pub const fn network(&self) -> &'static Network {
        self.payment.network
    }

    /// The rule that decides on a node's answers.
    ///
    /// # Errors
    /// [`Undecided::Missing`] with the calls that must be made first; [`Undecided::Malformed`] for unusable answers.
    pub fn judge(&self, facts: &Facts) -> Result<OnchainVerdict, Undecided> {
        judge(&self.payment, &self.sender, facts)
    }

    /// The signer that counts as unfunded by this answer. The report of one node alone does not count.
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

    /// The next step: a new price, the next signer, or the finding.
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

    /// The finding, with the signer that would send it; none where nothing is sent.
    fn found(self, answer: ChainAnswer) -> PlanStep<'a> {
        let sender = (!self.payment.signers.is_empty()).then_some(self.sender);
        found(self.payment, answer, sender)
    }
}

/// The question for a price in place of one that a node has refused as below the market.
pub struct Requote<'a> {
    asking: AskChain<'a>,
    refused: GasPrice,
}

impl<'a> Requote<'a> {
    /// The payment's network.
    #[must_use]
    pub const fn network(&self) -> &'static Network {
        self.asking.payment.network
    }

    /// The price that a node has refused.
    #[must_use]
    pub const fn refused(&self) -> GasPrice {
        self.refused
    }

    /// Asks the chain once more at another price; `None` where there is none.
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

/// Makes the finding of the chain's answer; a good payment's holds are looked up first.
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
            return send_finding(payment, finding, price);
        }
        ChainAnswer::Unavailable => return send_finding(payment, PaymentFinding::Unavailable, price),
        ChainAnswer::SignersUnfunded => {
            let reason = if settles && network.family == Family::Evm { Reason::EvmRelayerPoor } else { unexpected };
            let finding = PaymentFinding::Refused(payment.checks(), reason, UNFUNDED_MESSAGE.to_owned());
            return send_finding(payment, finding, price);
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
    send_finding(payment, finding, price)
}

/// The question until when nothing is sent for a payer, as far as this isolate knows: one of their settlements has
/// reverted, whichever signer had sent it. On settle the signer's own Settler decides, so only other signers are asked
/// about.
pub struct ReadHolds<'a> {
    payment: PlannedPayment<'a>,
    others: Vec<Address>,
    price: Option<GasPrice>,
}

impl<'a> ReadHolds<'a> {
    /// The payment's network.
    #[must_use]
    pub const fn network(&self) -> &'static Network {
        self.payment.network
    }

    /// The signers whose holds count.
    #[must_use]
    pub fn signers(&self) -> &[Address] {
        &self.others
    }

    /// The payer's address.
    #[must_use]
    pub const fn payer(&self) -> Address {
        self.payment.terms.payer()
    }

    /// Whether the holds are refreshed after the answer.
    #[must_use]
    pub fn refreshes(&self) -> bool {
        self.payment.settles() && !self.others.is_empty()
    }

    /// The next step. `until` is the latest of the signers' times.
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
        send_finding(self.payment, finding, self.price)
    }
}

/// Sends the finding to the ledger.
fn send_finding(mut payment: PlannedPayment<'_>, finding: PaymentFinding, price: Option<GasPrice>) -> PlanStep<'_> {
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

/// What is asked about an authorization that is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThirdPartyQuestion {
    /// Which transaction has used it (EVM).
    Authorization(ExpectedTransfer),
    /// Whether this transaction is in a block: only we complete a transaction, so that it is an attempt of ours that
    /// was given up (Solana).
    Transaction {
        /// The transaction's id.
        id: TxId,
        /// The address that is paid.
        pay_to: Address,
        /// The amount, in the asset's atomic units.
        amount: Amount,
    },
}

/// The search for the transaction by which a third party has used the authorization for this very payment.
pub struct FindThirdParty {
    asked: PaymentRequest,
    ready: ReadyPayment,
    question: ThirdPartyQuestion,
}

impl FindThirdParty {
    /// Begins the search, where the transaction can be asked about.
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

    /// The payment's network.
    #[must_use]
    pub const fn network(&self) -> &'static Network {
        self.ready.network
    }

    /// The question to the chain.
    #[must_use]
    pub const fn question(&self) -> &ThirdPartyQuestion {
        &self.question
    }

    /// The next step: the ledger, with the result.
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
    AskLedger::with_third_party(asked, ready)
}

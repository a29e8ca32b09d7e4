//! Checks a payment before the ledger records it: first without the chain, then on it.

use crate::app;
use crate::app::App;
use crate::clients;
use crate::clients::penalized;
use crate::request::IncomingRequest;
use crate::rpc::third_party;
use crate::rpc::third_party::ThirdPartyLookup;
use crate::rpc::{gas_price, registry, signer_balance};
use crate::{isolate, rpc};
use sha2::{Digest, Sha256};
use std::cell::Cell;
use worker::Context;
use x402_chain::address::{Address, Family, TxId};
use x402_chain::checks::Checks;
use x402_chain::confirm::VerdictBasis;
use x402_chain::evm::sender::GasPrice;
use x402_chain::evm::sender::TransactionSender;
use x402_chain::evm::tx::worst_fee_wei;
use x402_chain::facts::{Facts, Undecided};
use x402_chain::network::Network;
use x402_chain::reason::Reason;
use x402_chain::schemes::exact;
use x402_chain::schemes::exact::rules::{OnchainContext, OnchainVerdict, UNREAD_PAYER};
use x402_chain::schemes::exact::svm;
use x402_chain::signer::Signer;
use x402_chain::time::UnixSeconds;
use x402_chain::trace::CodeKind;
use x402_chain::x402;
use x402_chain::x402::{Payment, X402Version};
use x402_core::settlement::payment::{
    PaymentAction, PaymentFinding, PaymentRequest, PaymentTerms, authorization_id, transaction_authorization_id,
};

const UNREAD_MESSAGE: &str =
    "the code at the payer's address could not be read, so the signature is not verified: ask again";

/// A payment with a complete authorization.
pub(super) struct ReadyPayment {
    pub(super) network: &'static Network,
    pub(super) network_text: String,
    pub(super) terms: exact::ExactPayment,
    /// Each rule that was checked, with its result.
    pub(super) checks: Checks,
    /// Why nothing new may be sent for it.
    pub(super) held: Option<(Reason, String)>,
    /// The price at which it was simulated (EVM).
    pub(super) price: Option<GasPrice>,
    /// From when on the authorization is invalid (EVM `validBefore`).
    pub(super) valid_before: Option<UnixSeconds>,
}

/// A payment after the checks that need no chain.
pub(super) struct OffchainPayment<'a> {
    payment: &'a Payment,
    network: &'static Network,
    network_text: String,
    terms: exact::ExactPayment,
    rules: exact::rules::SchemeRules,
    /// The refusal, if the authorization has expired and every other check passed.
    late: Option<(Reason, String)>,
    /// Our signers that may send it, the payer's own first; empty where nothing is sent.
    signers: Vec<&'a Signer>,
    /// Whether a node answered, but not what code is at the payer's address.
    is_unread: Cell<bool>,
}

impl OffchainPayment<'_> {
    /// The payment for the settler, where the chain was not asked.
    pub(super) fn ready(self, held: Option<(Reason, String)>) -> ReadyPayment {
        self.into_ready(held, None)
    }

    fn into_ready(self, held: Option<(Reason, String)>, price: Option<GasPrice>) -> ReadyPayment {
        ReadyPayment {
            network: self.network,
            network_text: self.network_text,
            checks: Checks::none(),
            held,
            price,
            valid_before: self.terms.valid_before(),
            terms: self.terms,
        }
    }
}

/// Runs the checks that need no chain. `None` where the finding is complete: no record could change it.
pub(super) async fn check_offchain<'a>(
    app: &'a App,
    context: &Context,
    incoming: &IncomingRequest,
    payment: &'a Payment,
    asked: &mut PaymentRequest,
) -> Option<OffchainPayment<'a>> {
    let refuse = |reason: Reason, message: &str| PaymentFinding::Refused(Checks::none(), reason, message.to_owned());
    let Some(network) = x402::network_named(&payment.requirements.network) else {
        asked.finding = refuse(Reason::InvalidNetwork, "the network is not known");
        return None;
    };
    asked.network = Some(network.key.to_owned());
    if incoming.caller.is_none_or(|caller| caller.environment != network.environment) {
        asked.finding = refuse(Reason::NetworkNotEnabled, "the network belongs to the other environment");
        return None;
    }
    asked.chain_on = registry::is_chain_allowed(app, context, network, incoming.now).await;
    let signers = app.settings.signers(network.family, network.environment);
    let own: Vec<Address> = signers.iter().map(Signer::address).collect();
    let exact::OffchainVerdict { mut rules, payment: terms } =
        exact::verify_offchain(payment, network, &own, incoming.now.seconds());
    asked.payer = terms.as_ref().map_or_else(|| exact::payer_named(payment), |terms| Some(terms.payer()));
    // An expired payment may have been settled in time: then only its record answers.
    let (terms, late) = match (terms, rules.refusal.take()) {
        (Some(terms), late) => (terms, late),
        (None, refusal) => {
            let (reason, message) = refusal.unwrap_or((Reason::InvalidPayload, "the payload is malformed".to_owned()));
            asked.finding = PaymentFinding::Refused(Checks::new(&rules.checks), reason, message);
            return None;
        }
    };
    let (authorization, signers) = authorization_and_signers(&terms, network, signers)?;
    let signer = signers.first().map(|signer| signer.address());
    let own_key = late.is_some() && matches!(&terms, exact::ExactPayment::Evm(terms) if terms.is_signed_by_payer());
    asked.terms = Some(PaymentTerms { signer, own_key, ..payment_terms(payment, network, &terms, authorization) });
    if !asked.chain_on {
        return None;
    }
    Some(OffchainPayment {
        payment,
        network,
        network_text: asked.network_text.clone(),
        terms,
        rules,
        late,
        signers,
        is_unread: Cell::new(false),
    })
}

/// Runs the checks that need the chain.
pub(super) async fn check_onchain(
    app: &App,
    context: &Context,
    incoming: &IncomingRequest,
    mut free: OffchainPayment<'_>,
    asked: &mut PaymentRequest,
) -> ReadyPayment {
    if let Some((reason, message)) = free.late.take() {
        asked.finding = PaymentFinding::Refused(Checks::new(&free.rules.checks), reason, message.clone());
        return free.ready(Some((reason, message)));
    }
    let settles = asked.verb == PaymentAction::Settle;
    if settles && (free.signers.is_empty() || free.network.settle.is_none()) {
        let (reason, message) = (Reason::NetworkNotEnabled, "nothing is settled on this network".to_owned());
        asked.finding = PaymentFinding::Refused(Checks::none(), reason, message.clone());
        return free.ready(Some((reason, message)));
    }
    // Not earlier: a caller whom the ledger refuses costs no call, not even after the answer.
    match asked.verb {
        PaymentAction::Settle => signer_balance::refresh_balances_later(app, context, free.network, incoming.now),
        PaymentAction::Verify => clients::settler::refresh_holds_later(app, context, free.network, incoming.now),
    }
    let ChainResult { answer: said, sender } = ask_chain(app, context, incoming, &free, settles).await;
    let price = sender.and_then(|sender| sender.price);
    if let Some(terms) = asked.terms.as_mut() {
        terms.signer = sender.map_or(terms.signer, |sender| Some(sender.address));
        terms.worst = worst_cost(&free, price);
        terms.max_fee_wei = price.and_then(|price| worst_fee_wei(free.network, price));
    }
    asked.finding = match said {
        ChainAnswer::Unavailable if free.is_unread.get() => {
            PaymentFinding::Refused(Checks::new(&free.rules.checks), Reason::EvmUnverified, UNREAD_MESSAGE.to_owned())
        }
        ChainAnswer::Unavailable => PaymentFinding::Unavailable,
        ChainAnswer::SignersUnfunded => {
            let reason = match (settles, free.network.family) {
                (true, Family::Evm) => Reason::EvmRelayerPoor,
                (true, Family::Svm) => Reason::UnexpectedSettle,
                (false, _) => Reason::UnexpectedVerify,
            };
            PaymentFinding::Refused(
                Checks::new(&free.rules.checks),
                reason,
                signer_balance::UNFUNDED_MESSAGE.to_owned(),
            )
        }
        ChainAnswer::Checked(rules, code, basis) => {
            if let Some(terms) = asked.terms.as_mut() {
                terms.has_code = code != CodeKind::None;
            }
            free.rules.checks.extend(exact::rules::single_provider_check(basis));
            free.rules.checks.extend(rules.checks);
            free.rules.checks.extend(exact::rules::unconfirmed_check(basis));
            let checks = Checks::new(&free.rules.checks);
            match rules.refusal {
                Some((_, message)) if basis == VerdictBasis::Unconfirmed => {
                    let reason = if settles { Reason::UnexpectedSettle } else { Reason::UnexpectedVerify };
                    PaymentFinding::Refused(
                        checks,
                        reason,
                        format!("only one node reports this: {message}; repeat the request"),
                    )
                }
                None => match payer_hold_message(app, context, &free, (sender, settles), incoming) {
                    Some(message) if settles => PaymentFinding::Refused(checks, Reason::UnexpectedSettle, message),
                    Some(message) => PaymentFinding::Refused(checks, Reason::UnexpectedVerify, message),
                    None => PaymentFinding::Good(checks),
                },
                Some((Reason::EvmNonceUsed | Reason::DuplicateSettlement, message)) if settles => {
                    PaymentFinding::Used(checks, message)
                }
                Some((reason, message)) => PaymentFinding::Refused(checks, reason, message),
            }
        }
    };
    free.into_ready(hold_reason(&asked.finding), price)
}

/// Why nothing is sent for a payer now, as far as this isolate knows: one of its settlements reverted, whichever signer
/// sent it. On settle, the signer's own settler decides.
fn payer_hold_message(
    app: &App,
    context: &Context,
    free: &OffchainPayment<'_>,
    (sender, settles): (Option<TransactionSender>, bool),
    incoming: &IncomingRequest,
) -> Option<String> {
    let (network, now, own) = (free.network, incoming.now, sender?.address);
    let signers = app.settings.signers(network.family, network.environment).iter().map(Signer::address);
    let others: Vec<Address> = signers.filter(|signer| !settles || *signer != own).collect();
    if settles && !others.is_empty() {
        clients::settler::refresh_holds_later(app, context, network, now);
    }
    let payer = free.terms.payer();
    let until = others.iter().filter_map(|signer| penalized::held_until(network, signer, &payer, now)).max()?;
    Some(format!("a settlement of this payer failed on the chain: nothing is sent for them until {}", until.rfc3339()))
}

/// The chain's answer about a payment, and which signer would send it at which price.
struct ChainResult {
    answer: ChainAnswer,
    /// `None` where no signer would send it.
    sender: Option<TransactionSender>,
}

/// What the chain's providers answered about a payment.
enum ChainAnswer {
    /// The rules with their results, what code is at the payer's address, and why the answer counts.
    Checked(exact::rules::SchemeRules, CodeKind, VerdictBasis),
    /// None of our signers can pay for the gas.
    SignersUnfunded,
    /// No provider gave a usable answer, or a price at which it could be sent.
    Unavailable,
}

/// Simulates the very transaction that would be sent, with one signer after another until one can pay.
async fn ask_chain(
    app: &App,
    context: &Context,
    incoming: &IncomingRequest,
    free: &OffchainPayment<'_>,
    settles: bool,
) -> ChainResult {
    let (network, nobody) = (free.network, |said| ChainResult { answer: said, sender: None });
    if !free.signers.is_empty() && signer_balance::all_unfunded(app, network, incoming.now).await {
        return nobody(ChainAnswer::SignersUnfunded);
    }
    let memory = isolate::verification_cache();
    let judge = |sender: &TransactionSender, facts: &Facts| {
        let known = OnchainContext { facts, memory: &memory, settles, now: incoming.now.seconds() };
        let judged = exact::verify_onchain(free.payment, &free.terms, sender, known);
        let is_unread = matches!(&judged, Err(Undecided::Malformed(nonsense)) if nonsense.hazard == UNREAD_PAYER);
        free.is_unread.set(free.is_unread.get() || is_unread);
        judged
    };
    let mut sender = TransactionSender {
        // Where no signer would send it, the recipient stands in for the sender.
        address: free.terms.pay_to(),
        gas_limit: network.settle.and_then(|settle| settle.gas()).map(|gas| gas.limit),
        price: None,
    };
    if !free.signers.is_empty() {
        sender.price = match gas_price::cached_price(app, context, network, incoming.now) {
            Some(price) => price,
            // Checks that need no chain need no price.
            None if judge(&sender, &Facts::new()).is_ok() => None,
            None => gas_price::await_price(app, network).await,
        };
    }
    if settles && network.family == Family::Evm && sender.price.is_none() {
        return nobody(ChainAnswer::Unavailable);
    }
    for signer in funded_signers(free, incoming) {
        sender.address = signer;
        let (said, price) = ask_with_sender(app, network, sender, &judge).await;
        sender.price = price;
        match said {
            ChainAnswer::SignersUnfunded => {}
            ChainAnswer::Checked(..) | ChainAnswer::Unavailable => {
                return ChainResult { answer: said, sender: Some(sender) };
            }
        }
    }
    if free.signers.is_empty() {
        let (said, _) = ask_with_sender(app, network, sender, &judge).await;
        return nobody(said);
    }
    nobody(ChainAnswer::SignersUnfunded)
}

/// Simulates with one signer; a price that is now below the market is quoted again, once.
async fn ask_with_sender(
    app: &App,
    network: &'static Network,
    mut sender: TransactionSender,
    judge: &impl Fn(&TransactionSender, &Facts) -> Result<OnchainVerdict, Undecided>,
) -> (ChainAnswer, Option<GasPrice>) {
    let providers = app.settings.providers(network);
    let first = rpc::decide_by_providers(network, &providers, |facts| judge(&sender, facts)).await;
    let verdict = match (first, sender.price) {
        (Some((OnchainVerdict::Underpriced, _)), Some(refused)) => {
            sender.price = gas_price::requote_price(app, network, refused).await;
            match sender.price {
                Some(_) => rpc::decide_by_providers(network, &providers, |facts| judge(&sender, facts)).await,
                None => None,
            }
        }
        (first, _) => first,
    };
    let said = match verdict {
        Some((OnchainVerdict::Checked(rules, payer), basis)) => ChainAnswer::Checked(rules, payer, basis),
        Some((OnchainVerdict::SignerUnfunded, basis)) => {
            // The report of one node alone does not mark the signer as unfunded.
            if basis != VerdictBasis::Unconfirmed {
                signer_balance::note_unfunded(network, sender.address, app::now());
            }
            ChainAnswer::SignersUnfunded
        }
        Some((OnchainVerdict::Underpriced, _)) | None => ChainAnswer::Unavailable,
    };
    (said, sender.price)
}

/// The signers that can pay for a transaction, or all where none is known to; on Solana the payer has chosen one.
fn funded_signers(free: &OffchainPayment<'_>, incoming: &IncomingRequest) -> Vec<Address> {
    let all: Vec<Address> = free.signers.iter().map(|signer| signer.address()).collect();
    let is_able = |signer: &Address| !signer_balance::is_unfunded(free.network, signer, incoming.now);
    let rich: Vec<Address> = all.iter().copied().filter(is_able).collect();
    if rich.is_empty() { all } else { rich }
}

/// A used authorization may have been used by a third party, for this very payment.
pub(super) async fn find_third_party(app: &App, ready: &ReadyPayment, asked: &mut PaymentRequest) {
    let PaymentFinding::Used(checks, message) = &asked.finding else { return };
    let (checks, message, network, terms) = (checks.clone(), message.clone(), ready.network, &ready.terms);
    let (payer, pay_to, amount) = (terms.payer(), terms.pay_to(), terms.amount());
    let (lookup, refusal) = match terms {
        exact::ExactPayment::Evm(terms) => {
            let signed = third_party::ExpectedTransfer { payer, pay_to, amount, nonce: terms.nonce() };
            (third_party::find_settlement(app, network, &signed, None).await, Reason::EvmNonceUsed)
        }
        // Only we complete a Solana transaction: an attempt of ours that was given up was mined after all.
        exact::ExactPayment::Svm(terms) => {
            let lookup = match completed_transaction(terms, app.settings.signers(network.family, network.environment)) {
                Some((_, id)) => third_party::find_landed(app, network, id, (&pay_to, amount)).await,
                None => ThirdPartyLookup::Unknown,
            };
            (lookup, Reason::SvmFailed)
        }
    };
    asked.finding = match lookup {
        ThirdPartyLookup::Found { id, units } => PaymentFinding::External(checks, id, units),
        ThirdPartyLookup::Nothing => PaymentFinding::Refused(checks, refusal, message),
        ThirdPartyLookup::Unknown => {
            let message =
                "the authorization is used, and no node reports by which transaction: repeat the request".to_owned();
            PaymentFinding::Refused(checks, Reason::UnexpectedSettle, message)
        }
    };
}

/// The signer that a Solana payment names as its fee payer, and the id that the transaction gets by its signature.
fn completed_transaction<'a>(terms: &svm::SvmExactPayment, signers: &'a [Signer]) -> Option<(&'a Signer, TxId)> {
    let signer = signers.iter().find(|signer| signer.address() == terms.fee_payer())?;
    Some((signer, terms.transaction().clone().sign(signer.svm()?)?.id))
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

/// What the chain accepts only once, and the signers that may serve it, in order. Each payer has a first signer of its
/// own, always the same; payers are spread evenly. On Solana the payer's transaction names the signer.
fn authorization_and_signers<'a>(
    terms: &exact::ExactPayment,
    network: &Network,
    signers: &'a [Signer],
) -> Option<(String, Vec<&'a Signer>)> {
    match terms {
        exact::ExactPayment::Evm(terms) => {
            let payer = terms.payer();
            let [first, second, ..]: [u8; 32] =
                Sha256::digest(format!("{}/{}", network.caip2, payer.unchecksummed())).into();
            let at = usize::from(u16::from_be_bytes([first, second])).checked_rem(signers.len()).unwrap_or(0);
            let (before, from) = signers.split_at_checked(at)?;
            Some((authorization_id(network, &payer, &terms.nonce()), from.iter().chain(before).collect()))
        }
        exact::ExactPayment::Svm(terms) => {
            let (signer, id) = completed_transaction(terms, signers)?;
            Some((transaction_authorization_id(network, &id), vec![signer]))
        }
    }
}

/// The terms for the ledger. They are made from parsed values, so that another spelling is no second payment.
fn payment_terms(
    payment: &Payment,
    network: &Network,
    terms: &exact::ExactPayment,
    authorization: String,
) -> PaymentTerms {
    let (payer, pay_to, amount) = (terms.payer(), terms.pay_to(), terms.amount());
    // In version 2 the buyer chooses the resource text, so it binds nothing.
    let resource = payment.resource.as_deref().filter(|_| payment.version == X402Version::One).unwrap_or("");
    let asset = network.asset.text;
    let required = format!("exact\n{}\n{asset}\n{amount}\n{}\n{resource}", network.caip2, pay_to.unchecksummed());
    let proof = match terms {
        exact::ExactPayment::Evm(terms) => hex::encode(Sha256::digest(terms.signature())),
        exact::ExactPayment::Svm(_) => String::new(),
    };
    PaymentTerms {
        authorization,
        fingerprint: hex::encode(Sha256::digest(required)),
        payer,
        pay_to,
        amount,
        signer: None,
        proof,
        valid_before: terms.valid_before(),
        worst: 0,
        has_code: false,
        max_fee_wei: None,
        own_key: false,
    }
}

/// The most that a settlement may cost its signer: its gas at the worst price, wei; on Solana the
/// transaction's own fee, lamports.
fn worst_cost(free: &OffchainPayment<'_>, price: Option<GasPrice>) -> u128 {
    if let exact::ExactPayment::Svm(terms) = &free.terms {
        return terms.fee_lamports().into();
    }
    let Some(gas) = free.network.settle.and_then(|settle| settle.gas()) else { return 0 };
    let fee = price.and_then(|price| worst_fee_wei(free.network, price)).unwrap_or(gas.max_fee_wei);
    u128::from(gas.limit).saturating_mul(fee)
}

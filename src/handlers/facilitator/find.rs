//! What a payment is found to be: judged for free, then by the chain, before the
//! ledger books it.

use crate::app;
use crate::app::App;
use crate::clients;
use crate::clients::holds;
use crate::request::Incoming;
use crate::rpc::external;
use crate::rpc::external::Lookup;
use crate::rpc::{gas, quotes, registry};
use crate::{isolate, rpc};
use sha2::{Digest, Sha256};
use std::cell::Cell;
use worker::Context;
use x402_chain::address::{Address, Family, TxId};
use x402_chain::checks::Checks;
use x402_chain::confirm::Basis;
use x402_chain::evm::sender::Price;
use x402_chain::evm::sender::Sender;
use x402_chain::evm::tx::worst_fee_wei;
use x402_chain::facts::{Facts, Unknown};
use x402_chain::network::Network;
use x402_chain::reason::Reason;
use x402_chain::schemes::exact;
use x402_chain::schemes::exact::rules::{ChainVerdict, Known, UNREAD_PAYER};
use x402_chain::schemes::exact::svm;
use x402_chain::signer::Signer;
use x402_chain::time::UnixSeconds;
use x402_chain::trace::CodeKind;
use x402_chain::x402;
use x402_chain::x402::{Payment, Version};
use x402_core::settlement::payment::{Asked, Finding, Terms, Verb, authorization, transaction};

const UNREAD_MESSAGE: &str =
    "the code at the payer's address could not be read, so the signature is not verified: ask again";

/// A payment whose authorization is whole.
pub(super) struct Ready {
    pub(super) network: &'static Network,
    pub(super) network_text: String,
    pub(super) terms: exact::Terms,
    /// Each rule that was looked at, with its outcome.
    pub(super) checks: Checks,
    /// Why nothing new may be sent for it.
    pub(super) held: Option<(Reason, String)>,
    /// The price at which it was simulated (EVM).
    pub(super) price: Option<Price>,
    /// From when on the authorization is worthless (EVM).
    pub(super) valid_before: Option<UnixSeconds>,
}

/// A payment as far as it is free to judge.
pub(super) struct Free<'a> {
    payment: &'a Payment,
    network: &'static Network,
    network_text: String,
    terms: exact::Terms,
    rules: exact::rules::Rules,
    /// Its time is over, and nothing else is wrong with it.
    late: Option<(Reason, String)>,
    /// Who of us may send it, the payer's own signer first; none where nothing is sent.
    signers: Vec<&'a Signer>,
    /// Whether a node answered, but not which code is at the payer's address.
    is_unread: Cell<bool>,
}

impl Free<'_> {
    /// The same for the Settler, where nothing was asked of the chain.
    pub(super) fn ready(self, held: Option<(Reason, String)>) -> Ready {
        self.seen(held, None)
    }

    fn seen(self, held: Option<(Reason, String)>, price: Option<Price>) -> Ready {
        Ready {
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

/// Judges what is free to judge. `None` where the finding is made: nothing that is recorded can help.
pub(super) async fn free<'a>(
    app: &'a App,
    context: &Context,
    incoming: &Incoming,
    payment: &'a Payment,
    asked: &mut Asked,
) -> Option<Free<'a>> {
    let refuse = |reason: Reason, message: &str| Finding::Refused(Checks::none(), reason, message.to_owned());
    let Some(network) = x402::network_named(&payment.requirements.network) else {
        asked.finding = refuse(Reason::InvalidNetwork, "the network is not known");
        return None;
    };
    asked.network = Some(network.key.to_owned());
    if incoming.caller.is_none_or(|caller| caller.environment != network.environment) {
        asked.finding = refuse(Reason::NetworkNotEnabled, "the network belongs to the other environment");
        return None;
    }
    asked.chain_on = registry::allows(app, context, network, incoming.now).await;
    let signers = app.settings.signers(network.family, network.environment);
    let own: Vec<Address> = signers.iter().map(Signer::address).collect();
    let exact::Judged { mut rules, terms } = exact::judge_free(payment, network, &own, incoming.now.seconds());
    asked.payer = terms.as_ref().map_or_else(|| exact::payer_named(payment), |terms| Some(terms.payer()));
    // What is over may have been settled in time: only what is recorded can help then.
    let (terms, late) = match (terms, rules.refusal.take()) {
        (Some(terms), late) => (terms, late),
        (None, refusal) => {
            let (reason, message) = refusal.unwrap_or((Reason::InvalidPayload, "the payload is malformed".to_owned()));
            asked.finding = Finding::Refused(Checks::new(&rules.checks), reason, message);
            return None;
        }
    };
    let (authorization, signers) = once(&terms, network, signers)?;
    let signer = signers.first().map(|signer| signer.address());
    let own_key = late.is_some() && matches!(&terms, exact::Terms::Evm(terms) if terms.is_own_key());
    asked.terms = Some(Terms { signer, own_key, ..brief(payment, network, &terms, authorization) });
    if !asked.chain_on {
        return None;
    }
    Some(Free {
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

/// Judges what the chain must be asked for.
pub(super) async fn on_chain(
    app: &App,
    context: &Context,
    incoming: &Incoming,
    mut free: Free<'_>,
    asked: &mut Asked,
) -> Ready {
    if let Some((reason, message)) = free.late.take() {
        asked.finding = Finding::Refused(Checks::new(&free.rules.checks), reason, message.clone());
        return free.ready(Some((reason, message)));
    }
    let settles = asked.verb == Verb::Settle;
    if settles && (free.signers.is_empty() || free.network.settle.is_none()) {
        let (reason, message) = (Reason::NetworkNotEnabled, "nothing is settled on this network".to_owned());
        asked.finding = Finding::Refused(Checks::none(), reason, message.clone());
        return free.ready(Some((reason, message)));
    }
    // Not before this: a caller whom the ledger refuses costs no call, not even after the answer.
    match asked.verb {
        Verb::Settle => gas::refresh_later(app, context, free.network, incoming.now),
        Verb::Verify => clients::settler::refresh_holds_later(app, context, free.network, incoming.now),
    }
    let Seen { said, sender } = see(app, context, incoming, &free, settles).await;
    let price = sender.and_then(|sender| sender.price);
    if let Some(terms) = asked.terms.as_mut() {
        terms.signer = sender.map_or(terms.signer, |sender| Some(sender.address));
        terms.worst = worst(&free, price);
        terms.max_fee_wei = price.and_then(|price| worst_fee_wei(free.network, price));
    }
    asked.finding = match said {
        Said::Nothing if free.is_unread.get() => {
            Finding::Refused(Checks::new(&free.rules.checks), Reason::EvmUnverified, UNREAD_MESSAGE.to_owned())
        }
        Said::Nothing => Finding::Unavailable,
        Said::Poor => {
            let reason = match (settles, free.network.family) {
                (true, Family::Evm) => Reason::EvmRelayerPoor,
                (true, Family::Svm) => Reason::UnexpectedSettle,
                (false, _) => Reason::UnexpectedVerify,
            };
            Finding::Refused(Checks::new(&free.rules.checks), reason, gas::POOR_MESSAGE.to_owned())
        }
        Said::Judged(rules, code, basis) => {
            if let Some(terms) = asked.terms.as_mut() {
                terms.has_code = code != CodeKind::None;
            }
            free.rules.checks.extend(exact::rules::single_provider(basis));
            free.rules.checks.extend(rules.checks);
            free.rules.checks.extend(exact::rules::unconfirmed(basis));
            let checks = Checks::new(&free.rules.checks);
            match rules.refusal {
                Some((_, message)) if basis == Basis::Unconfirmed => {
                    let reason = if settles { Reason::UnexpectedSettle } else { Reason::UnexpectedVerify };
                    Finding::Refused(checks, reason, format!("one node alone reports this: {message}; ask again"))
                }
                None => match held_payer(app, context, &free, (sender, settles), incoming) {
                    Some(message) if settles => Finding::Refused(checks, Reason::UnexpectedSettle, message),
                    Some(message) => Finding::Refused(checks, Reason::UnexpectedVerify, message),
                    None => Finding::Good(checks),
                },
                Some((Reason::EvmNonceUsed | Reason::DuplicateSettlement, message)) if settles => {
                    Finding::Used(checks, message)
                }
                Some((reason, message)) => Finding::Refused(checks, reason, message),
            }
        }
    };
    free.seen(held(&asked.finding), price)
}

/// Why nothing is sent for a payer now, as far as this isolate knows: a settlement of theirs has reverted,
/// whichever of our signers had sent it. To settle, the signer's own Settler is asked anyway, and says it itself.
fn held_payer(
    app: &App,
    context: &Context,
    free: &Free<'_>,
    (sender, settles): (Option<Sender>, bool),
    incoming: &Incoming,
) -> Option<String> {
    let (network, now, own) = (free.network, incoming.now, sender?.address);
    let signers = app.settings.signers(network.family, network.environment).iter().map(Signer::address);
    let others: Vec<Address> = signers.filter(|signer| !settles || *signer != own).collect();
    if settles && !others.is_empty() {
        clients::settler::refresh_holds_later(app, context, network, now);
    }
    let payer = free.terms.payer();
    let until = others.iter().filter_map(|signer| holds::until(network, signer, &payer, now)).max()?;
    Some(format!("a settlement of this payer failed on the chain: nothing is sent for them until {}", until.rfc3339()))
}

/// What the chain says of a payment, and who of us would send it at which price.
struct Seen {
    said: Said,
    /// `None` where nobody would.
    sender: Option<Sender>,
}

/// What the chain says.
enum Said {
    /// How the rules came out, what is at the payer's address, and why that counts.
    Judged(exact::rules::Rules, CodeKind, Basis),
    /// None of our signers can pay for the gas.
    Poor,
    /// No provider gave a usable answer, or a price at which it could be sent.
    Nothing,
}

/// Asks the chain about the very transaction that would be sent, with one signer after another until one can pay.
async fn see(app: &App, context: &Context, incoming: &Incoming, free: &Free<'_>, settles: bool) -> Seen {
    let (network, nobody) = (free.network, |said| Seen { said, sender: None });
    if !free.signers.is_empty() && gas::all_poor(app, network, incoming.now).await {
        return nobody(Said::Poor);
    }
    let memory = isolate::memory();
    let judge = |sender: &Sender, facts: &Facts| {
        let known = Known { facts, memory: &memory, settles, now: incoming.now.seconds() };
        let judged = exact::judge_on_chain(free.payment, &free.terms, sender, known);
        let is_unread = matches!(&judged, Err(Unknown::Malformed(nonsense)) if nonsense.hazard == UNREAD_PAYER);
        free.is_unread.set(free.is_unread.get() || is_unread);
        judged
    };
    let mut sender = Sender {
        // Where nobody would send it, the recipient stands in for the sender.
        address: free.terms.pay_to(),
        gas_limit: network.settle.and_then(|settle| settle.gas()).map(|gas| gas.limit),
        price: None,
    };
    if !free.signers.is_empty() {
        sender.price = match quotes::known(app, context, network, incoming.now) {
            Some(price) => price,
            // What needs no chain needs no price.
            None if judge(&sender, &Facts::new()).is_ok() => None,
            None => quotes::asked(app, network).await,
        };
    }
    if settles && network.family == Family::Evm && sender.price.is_none() {
        return nobody(Said::Nothing);
    }
    for signer in able(free, incoming) {
        sender.address = signer;
        let (said, price) = ask(app, network, sender, &judge).await;
        sender.price = price;
        match said {
            Said::Poor => {}
            Said::Judged(..) | Said::Nothing => return Seen { said, sender: Some(sender) },
        }
    }
    if free.signers.is_empty() {
        let (said, _) = ask(app, network, sender, &judge).await;
        return nobody(said);
    }
    nobody(Said::Poor)
}

/// Asks with one sender; a price that the market has left behind is quoted anew, once.
async fn ask(
    app: &App,
    network: &'static Network,
    mut sender: Sender,
    judge: &impl Fn(&Sender, &Facts) -> Result<ChainVerdict, Unknown>,
) -> (Said, Option<Price>) {
    let providers = app.settings.providers(network);
    let first = rpc::decide(network, &providers, |facts| judge(&sender, facts)).await;
    let verdict = match (first, sender.price) {
        (Some((ChainVerdict::Underpriced, _)), Some(refused)) => {
            sender.price = quotes::anew(app, network, refused).await;
            match sender.price {
                Some(_) => rpc::decide(network, &providers, |facts| judge(&sender, facts)).await,
                None => None,
            }
        }
        (first, _) => first,
    };
    let said = match verdict {
        Some((ChainVerdict::Judged(rules, payer), basis)) => Said::Judged(rules, payer, basis),
        Some((ChainVerdict::Poor, basis)) => {
            // What one node alone reports is not held against the signer.
            if basis != Basis::Unconfirmed {
                gas::note_poor(network, sender.address, app::now());
            }
            Said::Poor
        }
        Some((ChainVerdict::Underpriced, _)) | None => Said::Nothing,
    };
    (said, sender.price)
}

/// The signers that can pay for a transaction, or all where none is known to; on Solana the payer has chosen.
fn able(free: &Free<'_>, incoming: &Incoming) -> Vec<Address> {
    let all: Vec<Address> = free.signers.iter().map(|signer| signer.address()).collect();
    let is_able = |signer: &Address| !gas::is_poor(free.network, signer, incoming.now);
    let rich: Vec<Address> = all.iter().copied().filter(is_able).collect();
    if rich.is_empty() { all } else { rich }
}

/// An authorization that is used up may have been used by somebody else, for this very payment.
pub(super) async fn externally(app: &App, ready: &Ready, asked: &mut Asked) {
    let Finding::Used(checks, message) = &asked.finding else { return };
    let (checks, message, network, terms) = (checks.clone(), message.clone(), ready.network, &ready.terms);
    let (payer, pay_to, amount) = (terms.payer(), terms.pay_to(), terms.amount());
    let (lookup, refusal) = match terms {
        exact::Terms::Evm(terms) => {
            let signed = external::Signed { payer, pay_to, amount, nonce: terms.nonce() };
            (external::find(app, network, &signed, None).await, Reason::EvmNonceUsed)
        }
        // Only we complete a transaction: an attempt of ours that was given up has landed after all.
        exact::Terms::Svm(terms) => {
            let lookup = match completed(terms, app.settings.signers(network.family, network.environment)) {
                Some((_, id)) => external::landed(app, network, id, (&pay_to, amount)).await,
                None => Lookup::Unknown,
            };
            (lookup, Reason::SvmFailed)
        }
    };
    asked.finding = match lookup {
        Lookup::Found { id, units } => Finding::External(checks, id, units),
        Lookup::Nothing => Finding::Refused(checks, refusal, message),
        Lookup::Unknown => {
            let message = "the payment is used, and no node answers now by which transaction: ask again".to_owned();
            Finding::Refused(checks, Reason::UnexpectedSettle, message)
        }
    };
}

/// The signer that a Solana payment names as its fee payer, and the id of the transaction once it has signed.
fn completed<'a>(terms: &svm::Terms, signers: &'a [Signer]) -> Option<(&'a Signer, TxId)> {
    let signer = signers.iter().find(|signer| signer.address() == terms.fee_payer())?;
    Some((signer, terms.wire().clone().signed(signer.svm()?)?.id))
}

/// Why nothing new may be sent for a payment.
fn held(finding: &Finding) -> Option<(Reason, String)> {
    match finding {
        Finding::Good(_) | Finding::External(..) => None,
        Finding::Refused(_, reason, message) => Some((*reason, message.clone())),
        Finding::Used(_, message) => Some((Reason::EvmNonceUsed, message.clone())),
        Finding::Unavailable | Finding::Deferred => Some((
            Reason::UnexpectedSettle,
            "no node answers now whether the payment is good, or at what price it could be sent".to_owned(),
        )),
    }
}

/// What the chain lets happen once, and which signers may serve it, in their order: a payer's own first, always the
/// same, and each is as many payers' as the others. On Solana the payer's transaction names the one.
fn once<'a>(terms: &exact::Terms, network: &Network, signers: &'a [Signer]) -> Option<(String, Vec<&'a Signer>)> {
    match terms {
        exact::Terms::Evm(terms) => {
            let payer = terms.payer();
            let [first, second, ..]: [u8; 32] = Sha256::digest(format!("{}/{}", network.caip2, payer.plain())).into();
            let at = usize::from(u16::from_be_bytes([first, second])).checked_rem(signers.len()).unwrap_or(0);
            let (before, from) = signers.split_at_checked(at)?;
            Some((authorization(network, &payer, &terms.nonce()), from.iter().chain(before).collect()))
        }
        exact::Terms::Svm(terms) => {
            let (signer, id) = completed(terms, signers)?;
            Some((transaction(network, &id), vec![signer]))
        }
    }
}

/// What the ledger decides by. The texts are of parsed values: spelling makes no second payment.
fn brief(payment: &Payment, network: &Network, terms: &exact::Terms, authorization: String) -> Terms {
    let (payer, pay_to, amount) = (terms.payer(), terms.pay_to(), terms.amount());
    // In version 2 the resource is the buyer's own text: it binds nothing.
    let resource = payment.resource.as_deref().filter(|_| payment.version == Version::One).unwrap_or("");
    let asset = network.asset.text;
    let required = format!("exact\n{}\n{asset}\n{amount}\n{}\n{resource}", network.caip2, pay_to.plain());
    let proof = match terms {
        exact::Terms::Evm(terms) => hex::encode(Sha256::digest(terms.signature())),
        exact::Terms::Svm(_) => String::new(),
    };
    Terms {
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
fn worst(free: &Free<'_>, price: Option<Price>) -> u128 {
    if let exact::Terms::Svm(terms) = &free.terms {
        return terms.fee_lamports().into();
    }
    let Some(gas) = free.network.settle.and_then(|settle| settle.gas()) else { return 0 };
    let fee = price.and_then(|price| worst_fee_wei(free.network, price)).unwrap_or(gas.max_fee_wei);
    u128::from(gas.limit).saturating_mul(fee)
}

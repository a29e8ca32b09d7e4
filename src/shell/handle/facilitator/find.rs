//! What a payment is found to be: judged for free, then by the chain, before the
//! ledger books it.

use super::nonce;
use crate::address::{Address, Family};
use crate::chain::exact::{self, Known};
use crate::chain::facts::Facts;
use crate::ledger::payment::{Asked, Finding, Terms, Verb, authorization, transaction};
use crate::network::Network;
use crate::payment::Checks;
use crate::payment::x402::{self, Payment};
use crate::reason::Reason;
use crate::shell::app::App;
use crate::shell::http::Incoming;
use crate::shell::{external, gas, isolate, registry, rpc};
use crate::signer::Signer;
use crate::time::UnixMillis;
use sha2::{Digest, Sha256};
use worker::Context;

/// A payment whose authorization is whole.
pub(super) struct Ready {
    pub(super) network: &'static Network,
    pub(super) network_text: String,
    pub(super) terms: exact::Terms,
    /// Why nothing new may be sent for it.
    pub(super) held: Option<(Reason, String)>,
}

/// Judges a payment: what is free, then what the chain must tell.
pub(super) async fn find(
    app: &App,
    context: &Context,
    incoming: &Incoming,
    payment: &Payment,
    asked: &mut Asked,
) -> Option<Ready> {
    let refuse = |reason: Reason, told: &str| Finding::Refused(Checks::none(), reason, told.to_owned());
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
    let now = incoming.now.seconds();
    let signers = app.settings.signers(network.family, network.environment);
    let own: Vec<Address> = signers.iter().map(Signer::address).collect();
    let exact::Judged { mut rules, terms } = exact::judge_free(payment, network, &own, now);
    asked.payer = terms.as_ref().map_or_else(|| exact::payer_named(payment), |terms| Some(terms.payer()));
    let (terms, late) = match (terms, rules.refusal.take()) {
        (Some(terms), None) => (terms, None),
        // What is over may have been settled in time, and is then told again.
        (Some(terms), Some(refusal)) if asked.verb == Verb::Settle => (terms, Some(refusal)),
        (_, refusal) => {
            let (reason, told) = refusal.unwrap_or((Reason::InvalidPayload, "the payload is malformed".to_owned()));
            asked.finding = Finding::Refused(Checks::new(&rules.checks), reason, told);
            return None;
        }
    };
    if asked.verb == Verb::Settle {
        gas::refresh_later(app, context, network, incoming.now);
    }
    let able = able(network, signers, incoming.now);
    let (authorization, signer) = once(&terms, network, &able)?;
    asked.terms = Some(brief(payment, network, &terms, authorization, able.get(signer).copied()));
    if !asked.chain_on {
        return None;
    }
    if let Some((reason, told)) = late {
        asked.finding = Finding::Refused(Checks::new(&rules.checks), reason, told.clone());
        return Some(Ready { network, network_text: asked.network_text.clone(), terms, held: Some((reason, told)) });
    }
    if asked.verb == Verb::Settle && (signers.is_empty() || network.settle.is_none()) {
        asked.finding = refuse(Reason::NetworkNotEnabled, "nothing is settled on this network");
        return None;
    }
    // Where nobody would send it, the recipient stands in for the sender.
    let sender = able.get(signer).map_or_else(|| terms.pay_to(), |signer| signer.address());
    let memory = isolate::memory();
    let settles = asked.verb == Verb::Settle;
    let judge =
        |facts: &Facts| exact::judge_on_chain(payment, &terms, &sender, Known { facts, memory: &memory, settles, now });
    asked.finding = match rpc::decide(network, &app.settings.providers(network), judge).await {
        None => Finding::Unavailable,
        Some(told) => {
            rules.checks.extend(told.checks);
            match told.refusal {
                None => Finding::Good(Checks::new(&rules.checks)),
                Some((reason, told)) => Finding::Refused(Checks::new(&rules.checks), reason, told),
            }
        }
    };
    if asked.verb == Verb::Settle {
        externally(app, network, &terms, asked).await;
    }
    let held = held(&asked.finding);
    Some(Ready { network, network_text: asked.network_text.clone(), terms, held })
}

/// The signers that can pay for a transaction, or all where none is known to; on Solana the payer has chosen.
fn able<'a>(network: &Network, signers: &'a [Signer], now: UnixMillis) -> Vec<&'a Signer> {
    let rich = signers.iter().filter(|signer| !gas::is_poor(network, &signer.address(), now));
    let rich: Vec<&Signer> = rich.collect();
    if rich.is_empty() || network.family == Family::Svm { signers.iter().collect() } else { rich }
}

/// An authorization that is used up may have been used by somebody else, for this very payment.
async fn externally(app: &App, network: &'static Network, terms: &exact::Terms, asked: &mut Asked) {
    if let (Finding::Refused(_, Reason::EvmNonceUsed, _), Some(nonce)) = (&asked.finding, nonce(terms)) {
        let signed = external::Signed { payer: terms.payer(), pay_to: terms.pay_to(), amount: terms.amount(), nonce };
        if let external::Lookup::Found { id, .. } = external::find(app, network, &signed, None).await {
            asked.finding = Finding::External(asked.finding.checks(), id);
        }
    }
}

/// Why nothing new may be sent for a payment.
fn held(finding: &Finding) -> Option<(Reason, String)> {
    match finding {
        Finding::Good(_) | Finding::External(..) => None,
        Finding::Refused(_, reason, told) => Some((*reason, told.clone())),
        Finding::Unavailable | Finding::Deferred => {
            Some((Reason::UnexpectedSettle, "the chain does not tell now whether the payment is good".to_owned()))
        }
    }
}

/// What the chain lets happen once, and which signer serves it: always the
/// same. On EVM each serves as many as the others; on Solana the payer's
/// transaction names it.
fn once(terms: &exact::Terms, network: &Network, signers: &[&Signer]) -> Option<(String, usize)> {
    match terms {
        exact::Terms::Evm(terms) => {
            let text = authorization(network, &terms.payer(), &terms.nonce());
            let [first, second, ..]: [u8; 32] = Sha256::digest(&text).into();
            let at = usize::from(u16::from_be_bytes([first, second])).checked_rem(signers.len()).unwrap_or(0);
            Some((text, at))
        }
        exact::Terms::Svm(terms) => {
            let at = signers.iter().position(|signer| signer.address() == terms.fee_payer())?;
            let signed = terms.wire().clone().signed(signers.get(at)?.svm()?)?;
            Some((transaction(network, &signed.id), at))
        }
    }
}

/// What the ledger decides by. Both texts are of parsed values: spelling makes no second payment.
fn brief(
    payment: &Payment,
    network: &Network,
    terms: &exact::Terms,
    authorization: String,
    signer: Option<&Signer>,
) -> Terms {
    let asset = network.asset.text;
    let (payer, pay_to, amount) = (terms.payer(), terms.pay_to(), terms.amount());
    let resource = payment.resource.as_deref().unwrap_or("");
    let required = format!("exact\n{}\n{asset}\n{amount}\n{}\n{resource}", network.caip2, pay_to.plain());
    let signer = signer.map(Signer::address);
    Terms { authorization, fingerprint: hex::encode(Sha256::digest(required)), payer, pay_to, amount, signer }
}

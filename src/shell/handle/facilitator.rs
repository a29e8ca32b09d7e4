//! `/facilitator/*`: the open x402 protocol, on the same key, quota and ledger.

use super::verify::{guard, idempotency, limited};
use crate::address::{Address, Family};
use crate::api::{Reply, facilitator};
use crate::chain::evm::tx::Message;
use crate::chain::exact::{self, Known};
use crate::chain::facts::Facts;
use crate::error::{Code, Fault};
use crate::ledger::payment::{Asked, Finding, Reserved, Terms, Verb, authorization, transaction};
use crate::network::{NETWORKS, Network};
use crate::payment::Checks;
use crate::payment::x402::{self, Payment};
use crate::reason::Reason;
use crate::settle::{Cargo, Flight};
use crate::shell::app::{self, App};
use crate::shell::http::Incoming;
use crate::shell::isolate::{self, Refused};
use crate::shell::ledgers::{self, Ask, Envelope, Told, View};
use crate::shell::response::Outgoing;
use crate::shell::{external, gas, registry, rpc, settlers};
use crate::signer::Signer;
use crate::tenant::key::Caller;
use crate::time::UnixMillis;
use alloy_primitives::B256;
use sha2::{Digest, Sha256};
use worker::Context;

/// `POST /facilitator/verify`.
pub(super) async fn verify(app: &App, context: &Context, incoming: &Incoming) -> Result<Outgoing, Fault> {
    let (outgoing, _) = book(app, context, incoming, Verb::Verify).await?;
    Ok(outgoing)
}

/// `POST /facilitator/settle`: the ledger reserves, the Settler sends, the ledger holds the end.
pub(super) async fn settle(app: &App, context: &Context, incoming: &Incoming) -> Result<Outgoing, Fault> {
    let (outgoing, ready) = book(app, context, incoming, Verb::Settle).await?;
    let (told, ready) = match (outgoing, ready) {
        (Outgoing::Passed(told), Some(ready)) if told.status() == 202 => (told, ready),
        (outgoing, _) => return Ok(outgoing),
    };
    let Reserved { mut settlement, signer } = serde_json::from_str(&told.text().await?).map_err(Fault::internal)?;
    let caller = incoming.caller()?;
    let cargo = cargo(&ready).ok_or_else(|| Fault::internal("a settlement on a network that is only read"))?;
    let flight = Flight {
        settlement: settlement.id,
        attempt: settlement.attempts.len(),
        tenant: caller.tenant,
        environment: caller.environment,
        network: ready.network.key.to_owned(),
        signer: signer.ok_or_else(|| Fault::internal("a settlement without a signer"))?,
        held: ready.held,
        cargo,
        payer: ready.terms.payer(),
        pay_to: ready.terms.pay_to(),
        amount: ready.terms.amount(),
        nonce: nonce(&ready.terms),
    };
    let report = settlers::settle(app, &flight, ready.network).await?;
    settlement.status = report.status;
    settlement.reason = report.reason;
    settlement.transaction = report.transaction;
    let mut reply = facilitator::settled(&ready.network_text, &settlement, &report.told, report.external);
    reply.headers.extend(told.rates());
    Ok(reply.into())
}

const fn nonce(terms: &exact::Terms) -> Option<B256> {
    match terms {
        exact::Terms::Evm(terms) => Some(terms.nonce()),
        exact::Terms::Svm(_) => None,
    }
}

/// What the Settler is to send.
fn cargo(ready: &Ready) -> Option<Cargo> {
    match &ready.terms {
        exact::Terms::Evm(terms) => {
            let Address::Evm(to) = ready.network.asset.address else { return None };
            let gas_limit = ready.network.settle?.gas()?.limit;
            Some(Cargo::Evm(Message { to, data: terms.calldata().into(), gas_limit }))
        }
        exact::Terms::Svm(terms) => Some(Cargo::Svm(terms.text().to_owned())),
    }
}

/// `GET /facilitator/supported`: what is settled here; with a key, what is open to its tenant.
pub(super) async fn supported(app: &App, context: &Context, incoming: &Incoming) -> Result<Reply, Fault> {
    let off = registry::off(app, context, incoming.now).await;
    let settles = |network: &&'static Network| {
        network.settle.is_some()
            && !app.settings.signers(network.family, network.environment).is_empty()
            && !off.iter().any(|chain| chain == network.key)
    };
    let mut networks: Vec<&'static Network> = NETWORKS.iter().filter(settles).collect();
    let mut headers = Vec::new();
    if let Some(caller) = &incoming.caller {
        let envelope = envelope(app, incoming, caller, Ask::Account { key: caller.hash, view: View::Chains, off });
        let told = ledgers::ask(app, &envelope, None).await?;
        if told.status() != 200 {
            let fault = Fault::new(Code::InvalidApiKey, "the API key is missing or not valid");
            return Err(if told.status() == 403 {
                Fault::new(Code::TenantSuspended, "this tenant is not active")
            } else {
                fault
            });
        }
        let chains: Chains = serde_json::from_str(&told.text().await?).map_err(Fault::internal)?;
        networks.retain(|network| {
            network.environment == caller.environment && chains.enabled_chains.iter().any(|chain| chain == network.key)
        });
        headers = told.rates();
    }
    let networks = gas::affordable(app, context, networks, incoming.now).await;
    let signers = |network: &Network| app.settings.signers(network.family, network.environment);
    // A seller is always named the same fee payer, and all of them together name each as often.
    let at = incoming.caller.map_or(0, |caller| usize::from(caller.tenant.0.last().copied().unwrap_or(0)));
    let fee_payer = |network: &Network| {
        let own = signers(network);
        own.get(at.checked_rem(own.len())?).map(|signer| signer.address().to_string())
    };
    let kinds = networks.iter().map(|network| (*network, fee_payer(network).filter(|_| network.family == Family::Svm)));
    let signers = networks.iter().flat_map(|network| signers(network)).map(Signer::address);
    let mut reply = Reply::json(200, &facilitator::supported(kinds, signers));
    reply.headers = headers;
    Ok(reply)
}

/// The one member that is read of `supported-chains`.
#[derive(serde::Deserialize)]
struct Chains {
    enabled_chains: Vec<String>,
}

/// What a request was found to be, and the payment where it is one that can go on.
async fn book(
    app: &App,
    context: &Context,
    incoming: &Incoming,
    verb: Verb,
) -> Result<(Outgoing, Option<Ready>), Fault> {
    let caller = incoming.caller()?;
    let body = x402::Body::parse(&incoming.body)
        .map_err(|error| Fault::new(Code::InvalidJson, "the body must be a JSON object").because(error))?;
    guard(app, &caller).await?;
    let read = x402::read(&body);
    let mut asked = Asked {
        key: caller.hash,
        request_id: incoming.request_id,
        verb,
        network_text: match &read {
            Ok(payment) => payment.requirements.network.clone(),
            Err(malformed) => malformed.network.clone(),
        },
        network: None,
        pay_to_taken: false,
        chain_on: true,
        payer: None,
        terms: None,
        finding: Finding::Unavailable,
        daily: app.settings.daily(),
        idempotency: if verb == Verb::Settle { idempotency(incoming)? } else { None },
        identifier: read.as_ref().ok().and_then(|payment| payment.identifier.clone()),
        // It names a settlement.
        random: if verb == Verb::Settle { u128::from_be_bytes(app::random()?).to_string() } else { String::new() },
    };
    match isolate::refused(caller.hash, incoming.now) {
        Some(refused @ Refused::Limited { .. }) => return Ok((limited(app, incoming, &refused).into(), None)),
        Some(Refused::AskFirst) => {
            let deferred = Asked { finding: Finding::Deferred, ..asked.clone() };
            let told = ask(app, incoming, &caller, deferred).await?;
            if told.status() != 204 {
                return Ok((told.into(), None));
            }
        }
        None => {}
    }
    let mut ready = None;
    match read {
        Ok(payment) => ready = find(app, context, incoming, &payment, &mut asked).await,
        Err(malformed) => asked.finding = Finding::Refused(Checks::none(), malformed.reason, malformed.message),
    }
    let told = ask(app, incoming, &caller, asked).await?; // book
    Ok((told.into(), ready))
}

/// A payment whose authorization is whole.
struct Ready {
    network: &'static Network,
    network_text: String,
    terms: exact::Terms,
    /// Why nothing new may be sent for it.
    held: Option<(Reason, String)>,
}

/// Judges a payment: what is free, then what the chain must tell.
async fn find(
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
        if let Some(id) = external::find(app, network, &signed).await {
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

fn envelope(app: &App, incoming: &Incoming, caller: &Caller, ask: Ask) -> Envelope {
    Envelope {
        tenant: caller.tenant,
        environment: caller.environment,
        request_id: incoming.request_id,
        origin: app.origin.clone(),
        path: incoming.path.clone(),
        ask,
    }
}

async fn ask(app: &App, incoming: &Incoming, caller: &Caller, asked: Asked) -> Result<Told, Fault> {
    let envelope = envelope(app, incoming, caller, Ask::Payment(Box::new(asked)));
    ledgers::ask(app, &envelope, None).await?.remember(caller, incoming.now)
}

/// `GET` on a `POST` route: what it takes.
pub(super) fn hint(incoming: &Incoming) -> Outgoing {
    facilitator::hint(&incoming.path).into()
}

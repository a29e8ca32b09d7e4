//! `/facilitator/*`: the open x402 protocol, on the same key, quota and ledger.

mod find;

use super::verify::{guard, idempotency, limited};
use crate::address::{Address, Family};
use crate::api::{Reply, facilitator};
use crate::chain::evm::tx::Message;
use crate::chain::exact;
use crate::error::{Code, Fault};
use crate::ledger::payment::{Asked, Finding, Reserved, Verb};
use crate::network::{NETWORKS, Network};
use crate::payment::Checks;
use crate::payment::x402;
use crate::settle::{Cargo, Flight};
use crate::shell::app::{self, App};
use crate::shell::http::Incoming;
use crate::shell::isolate::{self, Refused};
use crate::shell::ledgers::{self, Ask, Envelope, Told, View};
use crate::shell::response::Outgoing;
use crate::shell::{gas, registry, settlers};
use crate::signer::Signer;
use crate::tenant::key::Caller;
use alloy_primitives::B256;
use find::Ready;
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
        valid_before: ready.valid_before,
        price: ready.price,
        max_fee_wei: ready.max_fee_wei,
        free: false,
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
        exact::Terms::Evm(_) => {
            let Address::Evm(to) = ready.network.asset.address else { return None };
            let gas_limit = ready.network.settle?.gas()?.limit;
            Some(Cargo::Evm(Message { to, data: ready.calldata()?, gas_limit }))
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
        Ok(payment) => {
            if let Some(free) = find::free(app, context, incoming, &payment, &mut asked).await {
                let found = find::on_chain(app, context, incoming, free, &mut asked).await;
                if verb == Verb::Settle {
                    find::look_up_external(app, found.network, &found.terms, &mut asked).await;
                }
                ready = Some(found);
            }
        }
        Err(malformed) => asked.finding = Finding::Refused(Checks::none(), malformed.reason, malformed.message),
    }
    let told = ask(app, incoming, &caller, asked).await?; // book
    Ok((told.into(), ready))
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

//! The addresses at which a tenant is paid, registered by itself: with a proof, or derived.

use super::admin::{one_recipient, reload_previous_holders};
use super::directory::reload_tenant;
use crate::app;
use crate::app::App;
use crate::d1;
use crate::d1::proofs::{self, Registration};
use crate::isolate;
use crate::request::IncomingRequest;
use crate::rpc;
use futures_util::future::{Either, select};
use std::pin::pin;
use std::time::Duration;
use worker::Delay;
use x402_api::ApiReply;
use x402_api::admin::{RECIPIENTS_MAX, RecipientAlone, RecipientView, check_room};
use x402_api::body::invalid;
use x402_api::recipients::{
    AddressProof, ChallengeView, RecipientAdded, challenge, default_for, invalid_proof, proven_recipient,
};
use x402_api::records::ListPage;
use x402_chain::address::{Address, Family};
use x402_chain::id::AuditId;
use x402_chain::network::{Environment, Network};
use x402_chain::ownership::{Ownership, ProofKind, check_ownership};
use x402_chain::svm::{TokenAccountState, read_token_account, token_account, token_balance_call};
use x402_core::audit::AuditAction;
use x402_core::error::{ErrorCode, Fault};
use x402_core::tenancy::proof::{CHALLENGE_MS, Challenge, ProofNonce, challenge_expiry, check_registration};

/// How long the answer waits for the state of a token account: it is a hint, and the address is registered before.
const TOKEN_ACCOUNT_MS: u64 = 3_000;
/// The proof of an address that the service has derived, as it is stored.
const DERIVED: &str = "derived";

/// Whether the caller sees an environment: a key sees its own alone.
fn is_seen(incoming: &IncomingRequest, environment: Environment) -> bool {
    incoming.caller.is_none_or(|caller| caller.environment == environment)
}

/// `GET /v1/recipients`: of both environments, or of the key's.
pub(super) async fn list_recipients(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let mut data = d1::list_recipients(&app.db()?, incoming.tenant()?).await?;
    data.retain(|each| is_seen(incoming, each.environment));
    Ok(ApiReply::json(200, &ListPage { data, next_cursor: None }))
}

/// `POST /v1/recipients/challenge`: the message to sign.
pub(super) async fn ask_for_challenge(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let tenant = incoming.tenant()?;
    let (network, address) = challenge(&incoming.body)?;
    check(app, incoming, network, Some(&address)).await?;
    let new = Challenge {
        service: &app.origin,
        tenant,
        network,
        address: &address,
        nonce: ProofNonce::new(app::random()?),
        expires_at: challenge_expiry(incoming.now),
    };
    if !proofs::put_challenge(&app.db()?, &new, incoming.now).await? {
        let detail = "too many challenges are open: use one of them, or wait until they end";
        return Err(Fault::new(ErrorCode::RateLimited, detail).after(CHALLENGE_MS / 1_000));
    }
    let (message, nonce, expires_at) = (new.message(), new.nonce.to_string(), new.expires_at.rfc3339());
    Ok(ApiReply::json(201, &ChallengeView { message, nonce, expires_at }))
}

/// Checks whether the tenant may register an address on a chain.
async fn check(
    app: &App,
    incoming: &IncomingRequest,
    network: &Network,
    address: Option<&Address>,
) -> Result<(), Fault> {
    if !is_seen(incoming, network.environment) {
        let detail = format!("'{}' is a {} chain, and the key is not", network.key, network.environment.name());
        return Err(Fault::new(ErrorCode::EnvironmentMismatch, detail).at("chain"));
    }
    let (tenant, _) = d1::read_tenant(&app.db()?, incoming.tenant()?).await?;
    check_registration(tenant.tier, network, address, isolate::sanctions().as_deref())
}

/// `POST /v1/recipients`: registers an address that signs the challenge's message, or derives one.
pub(super) async fn add_recipient(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let tenant = incoming.tenant()?;
    let new = proven_recipient(&incoming.body)?;
    let (db, network) = (app.db()?, new.network);
    check(app, incoming, network, new.proof.as_ref().map(|proof| &proof.address)).await?;
    if let Some(proof) = &new.proof
        && let Some(nonce) = proof.nonce
        && proofs::has_proven(&db, nonce, (tenant, network, &proof.address), incoming.now).await?
    {
        // The answer to the same request was lost.
        let recipient = one_recipient(app, tenant, &proof.address, Some(network.environment)).await?;
        return added(app, incoming, network, (&proof.address, recipient)).await;
    }
    let held = d1::list_recipients(&db, tenant).await?;
    check_room(&held, new.proof.as_ref().map(|proof| (&proof.address, network.environment)))?;
    let (address, nonce, kind, child) = match new.proof {
        Some(proof) => {
            let kind = check_proof(app, incoming, network, &proof).await?;
            (proof.address, proof.nonce, Some(kind), None)
        }
        None => {
            let (address, child) = derive(app, incoming, network).await?;
            (address, None, None, Some(child))
        }
    };
    let registration = Registration {
        network,
        address: &address,
        proof: kind.map_or(DERIVED, ProofKind::name),
        only_here: kind == Some(ProofKind::Erc1271),
        nonce,
        child,
        loss: AuditId::new(incoming.now, app::random()?),
        default: new.default,
    };
    let made = incoming.change(AuditAction::RecipientAdded, address.to_string())?;
    let made = made.of(network.environment).detail(network.key);
    let registered = proofs::register(&db, &registration, &made).await?.ok_or_else(|| {
        let detail = "the address belongs, or belonged, to another tenant in this environment";
        Fault::new(ErrorCode::RecipientTaken, detail).at("address")
    })?;
    // Where a ledger is not reached, `directory_events` makes it load the change.
    let _ = reload_previous_holders(app, incoming, registered.losers).await;
    added(app, incoming, network, (&address, registered.recipient)).await
}

/// An address of the operator's key, with its index.
async fn derive(app: &App, incoming: &IncomingRequest, network: &Network) -> Result<(Address, u32), Fault> {
    let (db, tenant) = (app.db()?, incoming.tenant()?);
    let (view, _) = d1::read_tenant(&db, tenant).await?;
    view.tier.check_derivation()?;
    let xpub = app.settings.xpub().ok_or_else(|| invalid("address", "cannot be derived: EVM_XPUB is not set"))?;
    let of = (tenant, network.environment);
    let child = proofs::open_child(&db, of, RECIPIENTS_MAX, incoming.now).await?;
    let child = child.ok_or_else(|| invalid("address", "is one too many, with those that are being derived"))?;
    let address = xpub.address(child).ok_or_else(|| Fault::internal("a derived public key has no address"))?;
    Ok((address, child))
}

/// The answer about an address that is registered, as it was written. A ledger that is not reached is no error, nor a
/// directory that fails from here on: `derive` would make another address if it were repeated.
async fn added(
    app: &App,
    incoming: &IncomingRequest,
    network: &'static Network,
    (address, recipient): (&Address, RecipientView),
) -> Result<ApiReply, Fault> {
    let in_force = reload_tenant(app, incoming, incoming.tenant()?).await.is_ok();
    let account = match token_account(network, address) {
        Some(account) => Some((account, token_account_state(app, network, &account).await)),
        None => None,
    };
    Ok(ApiReply::json(201, &RecipientAdded::new((recipient, in_force), account)))
}

/// How the signature proves the address.
///
/// # Errors
/// `INVALID_PROOF`; `CHAIN_UNAVAILABLE` where a contract would have to be asked and no provider answers.
async fn check_proof(
    app: &App,
    incoming: &IncomingRequest,
    network: &'static Network,
    proof: &AddressProof,
) -> Result<ProofKind, Fault> {
    let unknown = || {
        let why = "the challenge is unknown, of another tenant, chain or address, was used or tried five times, or has \
                   ended after ten minutes: ask for another";
        invalid_proof(why).at("nonce")
    };
    let (nonce, tenant) = (proof.nonce.ok_or_else(unknown)?, incoming.tenant()?);
    let of = (tenant, network, &proof.address);
    let row = proofs::try_challenge(&app.db()?, nonce, of, incoming.now).await?.ok_or_else(unknown)?;
    let asked = Challenge {
        service: &row.service,
        tenant,
        network,
        address: &proof.address,
        nonce,
        expires_at: row.expires_at,
    };
    let message = asked.message();
    let providers = app.settings.providers(network);
    // An address that is given to the wrong tenant is paid to the wrong one: a node alone is not believed.
    let decided = rpc::decide_by_agreement(network, &providers, |facts| {
        check_ownership(network, &proof.address, &message, &proof.signature, facts)
    });
    match decided.await {
        Some(Ownership::Proven(kind)) => Ok(kind),
        Some(Ownership::Refused(why)) => Err(invalid_proof(why).at("signature")),
        None => {
            let detail =
                "the chain's providers gave no usable answer about the contract at the address, or different ones";
            Err(Fault::new(ErrorCode::ChainUnavailable, detail).after(2))
        }
    }
}

/// What the chain reports of a token account; `None` where it gives no answer in time.
async fn token_account_state(app: &App, network: &'static Network, account: &Address) -> Option<TokenAccountState> {
    let calls = [token_balance_call(account)];
    let providers = app.settings.providers(network);
    let asking = rpc::call_all(network, &providers, &calls);
    let deadline = Delay::from(Duration::from_millis(TOKEN_ACCOUNT_MS));
    match select(pin!(asking), pin!(deadline)).await {
        Either::Left((facts, _)) => calls.first().and_then(|call| read_token_account(&facts, call)),
        Either::Right(_) => None,
    }
}

/// The address that the path names, and the environments in which the caller's tenant has, or had, it.
async fn named(app: &App, incoming: &IncomingRequest) -> Result<(Address, Vec<RecipientView>), Fault> {
    let none = || Fault::new(ErrorCode::NotFound, "no such recipient");
    let text = incoming.param(0);
    let address = [Family::Evm, Family::Svm].into_iter().find_map(|family| Address::parse(family, text));
    let (address, mut all) = (address.ok_or_else(none)?, d1::list_recipients(&app.db()?, incoming.tenant()?).await?);
    let written = address.to_string();
    all.retain(|each| each.address == written && is_seen(incoming, each.environment));
    if all.is_empty() { Err(none()) } else { Ok((address, all)) }
}

/// `PATCH /v1/recipients/{address}`: makes it the default of a chain.
pub(super) async fn change_recipient(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let tenant = incoming.tenant()?;
    let network = default_for(&incoming.body)?;
    let (address, mut all) = named(app, incoming).await?;
    let is_own = all.iter().any(|each| {
        let covers = each.only_on.as_ref().is_none_or(|chains| chains.iter().any(|chain| chain == network.key));
        each.environment == network.environment && each.removed_at.is_none() && covers
    });
    if address.family() != network.family || !is_own {
        let rule = "names a chain on which the address is not the tenant's: register it there first";
        return Err(invalid("default_for", rule));
    }
    let (view, _) = d1::read_tenant(&app.db()?, tenant).await?;
    check_registration(view.tier, network, None, None).map_err(|fault| fault.at("default_for"))?;
    let made = incoming.change(AuditAction::RecipientDefault, address.to_string())?;
    let made = made.of(network.environment).detail(network.key);
    proofs::put_default(&app.db()?, (network, &address), &made).await?;
    reload_tenant(app, incoming, tenant).await?;
    all.retain(|each| each.environment == network.environment);
    let mut recipient = all.pop().ok_or_else(|| Fault::new(ErrorCode::NotFound, "no such recipient"))?;
    if !recipient.default_for.iter().any(|chain| chain == network.key) {
        recipient.default_for.push(network.key.to_owned());
        recipient.default_for.sort();
    }
    Ok(ApiReply::json(200, &RecipientAlone { recipient }))
}

/// `DELETE /v1/recipients/{address}`: retires it in both environments, or in the key's. It can only come back to this
/// tenant.
pub(super) async fn retire_recipient(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let tenant = incoming.tenant()?;
    let (address, mut data) = named(app, incoming).await?;
    for each in &mut data {
        let made = incoming.change(AuditAction::RecipientRetired, address.to_string())?.of(each.environment);
        proofs::retire(&app.db()?, each.environment, &made).await?;
        each.removed_at.get_or_insert_with(|| incoming.now.rfc3339());
        each.default_for.clear();
    }
    reload_tenant(app, incoming, tenant).await?;
    Ok(ApiReply::json(200, &ListPage { data, next_cursor: None }))
}

//! Addresses that sellers register by themselves: challenges, proven and derived addresses, defaults, retirement.

use super::change::{Actor, Change, change};
use super::keys::touch_statement;
use super::recipients::previous_holders;
use super::rows::ChallengeRow;
use super::{BoundValue, all, batch, result_of, rows_of, sql, statement};
use worker::D1Database;
use x402_api::admin::RecipientView;
use x402_chain::address::Address;
use x402_chain::id::{AuditId, TenantId};
use x402_chain::network::{Environment, NETWORKS, Network};
use x402_chain::time::{DAY_MS, UnixMillis};
use x402_core::audit::AuditAction;
use x402_core::error::Fault;
use x402_core::tenancy::proof::{CHALLENGES_MADE_MAX, CHALLENGES_MAX, Challenge, PROOF_TRIES_MAX, ProofNonce};

/// A request for a child that took longer than this has failed.
const CHILD_AGAIN_MS: u64 = 60_000;

/// Stores a challenge; `false` where the tenant has the most that may hold at a time.
pub(crate) async fn put_challenge(db: &D1Database, new: &Challenge<'_>, now: UnixMillis) -> Result<bool, Fault> {
    let (nonce, tenant, address) = (new.nonce.to_string(), new.tenant.to_string(), new.address.to_string());
    let bind = [
        BoundValue::Text(&nonce),
        BoundValue::Text(&tenant),
        BoundValue::Text(new.network.environment.name()),
        BoundValue::Text(new.network.key),
        BoundValue::Text(&address),
        BoundValue::Text(new.service),
        BoundValue::Ms(now),
        BoundValue::Ms(new.expires_at),
        BoundValue::Number(CHALLENGES_MAX),
        BoundValue::Number(PROOF_TRIES_MAX),
        BoundValue::Number(CHALLENGES_MADE_MAX),
    ];
    Ok(!all(db, sql::CHALLENGE_PUT, &bind).await?.is_empty())
}

/// Counts a try of a challenge and returns it; `None` where it is unknown, of another tenant, chain or address, used, tried
/// too often, or has ended.
pub(crate) async fn try_challenge(
    db: &D1Database,
    nonce: ProofNonce,
    (tenant, network, address): (TenantId, &Network, &Address),
    now: UnixMillis,
) -> Result<Option<ChallengeRow>, Fault> {
    let (nonce, tenant, address) = (nonce.to_string(), tenant.to_string(), address.to_string());
    let bind = [
        BoundValue::Text(&nonce),
        BoundValue::Text(&tenant),
        BoundValue::Text(network.environment.name()),
        BoundValue::Text(network.key),
        BoundValue::Text(&address),
        BoundValue::Number(PROOF_TRIES_MAX),
        BoundValue::Ms(now),
    ];
    Ok(all(db, sql::CHALLENGE_TRY, &bind).await?.into_iter().next())
}

/// Whether a challenge was used by this tenant for an address that is still the tenant's.
pub(crate) async fn has_proven(
    db: &D1Database,
    nonce: ProofNonce,
    (tenant, network, address): (TenantId, &Network, &Address),
    now: UnixMillis,
) -> Result<bool, Fault> {
    let (nonce, tenant, address) = (nonce.to_string(), tenant.to_string(), address.to_string());
    let bind = [
        BoundValue::Text(&nonce),
        BoundValue::Text(&tenant),
        BoundValue::Text(network.environment.name()),
        BoundValue::Text(network.key),
        BoundValue::Text(&address),
        BoundValue::Ms(now),
    ];
    Ok(!all(db, sql::CHALLENGE_USED, &bind).await?.is_empty())
}

/// Deletes challenges that ended a day ago.
pub(crate) async fn purge_challenges(db: &D1Database, now: UnixMillis) -> Result<(), Fault> {
    let before = BoundValue::Ms(UnixMillis(now.0.saturating_sub(DAY_MS)));
    result_of(statement(db, sql::CHALLENGES_PURGE, &[before])?).await.map(|_| ())
}

/// An address that is to be registered by its tenant.
pub(crate) struct Registration<'a> {
    pub(crate) network: &'static Network,
    pub(crate) address: &'a Address,
    /// The kind of proof, as it is stored.
    pub(crate) proof: &'static str,
    /// Whether the proof holds on this chain alone.
    pub(crate) only_here: bool,
    /// The challenge that is used; `None` for an address that is derived.
    pub(crate) nonce: Option<ProofNonce>,
    /// The index of the child that is registered; `None` for an address that is proven.
    pub(crate) child: Option<u32>,
    /// The id of the entry in the audit log of the tenant that loses the address, if there is one.
    pub(crate) loss: AuditId,
    /// Whether it is the chain's default; `None`: if the chain has none.
    pub(crate) default: Option<bool>,
}

/// An address that was registered.
pub(crate) struct Registered {
    /// As the batch that registered it has left it.
    pub(crate) recipient: RecipientView,
    /// The tenants that lost it.
    pub(crate) losers: Vec<TenantId>,
}

/// Registers an address; `None` where it belongs, or belonged, to another tenant.
///
/// # Errors
/// `INVALID_PROOF` where the challenge was used before.
pub(crate) async fn register(
    db: &D1Database,
    new: &Registration<'_>,
    made: &Change,
) -> Result<Option<Registered>, Fault> {
    let (tenant, address, now) = (made.tenant.to_string(), new.address.to_string(), BoundValue::Ms(made.at));
    let (tenant, address) = (BoundValue::Text(&tenant), BoundValue::Text(&address));
    let (name, chain) = (BoundValue::Text(new.network.environment.name()), BoundValue::Text(new.network.key));
    let only_on = format!("[\"{}\"]", new.network.key);
    let by = made.actor.text();
    let prove = [
        name,
        address,
        tenant,
        now,
        BoundValue::Text(new.proof),
        BoundValue::Maybe(new.only_here.then_some(only_on.as_str())),
        BoundValue::Text(&by),
    ];
    let proof = BoundValue::Text(new.proof);
    let other = all(db, sql::OTHER_HOLDER, &[tenant, name, address]).await?.into_iter().find_map(|row| row.tenant);
    let nonce = new.nonce.map(|nonce| nonce.to_string());
    let mut statements = vec![
        statement(db, sql::PROOF_LOSER, &[tenant, name, address, proof])?,
        statement(db, sql::CHALLENGE_USE, &[BoundValue::Text(nonce.as_deref().unwrap_or_default())])?,
        statement(db, sql::PROOF_LOSER_TOUCH, &[tenant, name, address, proof, now])?,
    ];
    if let Some(other) = other {
        statements.extend(loss(new, other, made).statements(db)?);
    }
    let place = statements.len();
    statements.push(statement(db, sql::RECIPIENT_PROVE, &prove)?);
    statements.extend(made.statements(db)?);
    if new.default != Some(false) {
        let replace = BoundValue::Number(u64::from(new.default == Some(true)));
        statements.push(statement(db, sql::DEFAULT_PUT_HELD, &[tenant, chain, address, name, replace])?);
        statements.extend(made.statements_as(db, AuditAction::RecipientDefault)?);
    }
    if let Some(other) = other {
        let (other, chains) = (other.to_string(), chains_of(new.network.environment)?);
        let bind = [BoundValue::Text(&other), name, address, BoundValue::Text(&chains)];
        statements.push(statement(db, sql::DEFAULTS_LOST, &bind)?);
    }
    if let Some(child) = new.child {
        statements.push(statement(db, sql::DERIVED_DONE, &[BoundValue::Number(u64::from(child))])?);
    }
    statements.push(touch_statement(db, made)?);
    statements.push(statement(db, sql::RECIPIENT_OF, &[tenant, name, address])?);
    statements.push(statement(db, sql::DEFAULTS_OF, &[tenant])?);
    let results = batch(db, statements).await?;
    let (Some(losers), Some(proven), [.., recipient, defaults]) = (results.first(), results.get(place), &results[..])
    else {
        return Err(Fault::internal("a batch gave fewer results than it has statements"));
    };
    if rows_of(sql::RECIPIENT_PROVE, proven)?.is_empty() {
        return Ok(None);
    }
    let defaults = rows_of(sql::DEFAULTS_OF, defaults)?;
    let recipient = rows_of(sql::RECIPIENT_OF, recipient)?.first().map(|row| row.view(&defaults));
    let recipient = recipient.ok_or_else(|| Fault::internal("a batch did not register its address"))?;
    Ok(Some(Registered { recipient, losers: previous_holders(core::slice::from_ref(losers))? }))
}

/// What is recorded for the tenant that loses the address.
fn loss(new: &Registration<'_>, loser: TenantId, made: &Change) -> Change {
    Change {
        id: new.loss,
        tenant: loser,
        environment: Some(new.network.environment),
        actor: Actor::System,
        action: AuditAction::RecipientRetired,
        subject: new.address.to_string(),
        detail: Some("another tenant has proven it".to_owned()),
        ip_prefix: String::new(),
        user_agent: None,
        at: made.at,
    }
}

/// The keys of an environment's chains, as a JSON list.
fn chains_of(environment: Environment) -> Result<String, Fault> {
    let of = NETWORKS.iter().filter(|network| network.environment == environment);
    serde_json::to_string(&of.map(|network| network.key).collect::<Vec<_>>()).map_err(Fault::internal)
}

/// The index of a child of the operator's key for a seller: one that was asked for a minute ago and registered nowhere, or a
/// new one. `None` where the tenant has `most` addresses. It is open until [`register`] has registered it.
pub(crate) async fn open_child(
    db: &D1Database,
    (tenant, environment): (TenantId, Environment),
    most: usize,
    now: UnixMillis,
) -> Result<Option<u32>, Fault> {
    let tenant = tenant.to_string();
    let (tenant, name) = (BoundValue::Text(&tenant), BoundValue::Text(environment.name()));
    let before = BoundValue::Ms(UnixMillis(now.0.saturating_sub(CHILD_AGAIN_MS)));
    let again = all(db, sql::DERIVED_AGAIN, &[tenant, name, BoundValue::Ms(now), before]).await?;
    if let Some(row) = again.first() {
        return Ok(Some(row.number));
    }
    let most = BoundValue::Number(u64::try_from(most).map_err(Fault::internal)?);
    let new = all(db, sql::DERIVED_OPEN, &[tenant, name, BoundValue::Ms(now), most]).await?;
    Ok(new.first().map(|row| row.number))
}

/// Makes an address of the tenant of `made` the default of a chain; nothing is recorded where it is that already, or is not
/// the tenant's there.
pub(crate) async fn put_default(
    db: &D1Database,
    (network, address): (&Network, &Address),
    made: &Change,
) -> Result<(), Fault> {
    let (tenant, address) = (made.tenant.to_string(), address.to_string());
    let bind = [
        BoundValue::Text(&tenant),
        BoundValue::Text(network.key),
        BoundValue::Text(&address),
        BoundValue::Text(network.environment.name()),
        BoundValue::Number(1),
    ];
    change(db, (sql::DEFAULT_PUT_HELD, &bind), made, vec![touch_statement(db, made)?]).await.map(|_| ())
}

/// Retires the address that is the subject of `made` in one environment; it can only come back to its tenant.
pub(crate) async fn retire(db: &D1Database, environment: Environment, made: &Change) -> Result<(), Fault> {
    let tenant = made.tenant.to_string();
    let (tenant, address) = (BoundValue::Text(&tenant), BoundValue::Text(&made.subject));
    let chains = chains_of(environment)?;
    let bind = [BoundValue::Ms(made.at), tenant, address, BoundValue::Text(environment.name())];
    let then = vec![
        statement(db, sql::DEFAULTS_RETIRE, &[tenant, address, BoundValue::Text(&chains)])?,
        touch_statement(db, made)?,
    ];
    change(db, (sql::RECIPIENT_RETIRE, &bind), made, then).await.map(|_| ())
}

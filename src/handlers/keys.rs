//! Keys of a tenant: list, make, rotate, revoke. Both ledgers of the tenant load a change before it is answered, so that it
//! holds for the next request. Where one is not reached, [`crate::directory_events`] makes it load the change: a new key's
//! text, which is shown once, is answered all the same.

use super::directory::{issue_key, key_id, reload_tenant};
use crate::app::App;
use crate::d1;
use crate::d1::change::{Actor, Change};
use crate::d1::deletions;
use crate::d1::keys::{self, KeyRotation, KeyToPut, REPORTS_SPAN_MS};
use crate::request::IncomingRequest;
use x402_api::ApiReply;
use x402_api::admin::{self, KEYS_MAX, KeyAlone, KeyCreated, KeyView, NewKey, ROTATED_MAX};
use x402_api::body::invalid;
use x402_api::keys::{LeakReceived, grace_ms, leak_report};
use x402_api::records::ListPage;
use x402_chain::id::{KeyId, TenantId};
use x402_chain::network::Environment;
use x402_chain::time::UnixMillis;
use x402_core::audit::AuditAction;
use x402_core::error::{ErrorCode, Fault};
use x402_core::tenancy::allow_list::{AllowedNetwork, is_within};
use x402_core::tenancy::key::{self, KeyHash};
use x402_core::tenancy::role::Role;
use x402_core::tenancy::tenant::Scope;

/// A tenant, and who changes it.
type Owner = (TenantId, Actor);

fn no_key() -> Fault {
    Fault::new(ErrorCode::NotFound, "no such API key")
}

async fn one_key(app: &App, tenant: TenantId, id: KeyId) -> Result<KeyView, Fault> {
    keys::read_key(&app.db()?, tenant, id).await?.ok_or_else(no_key)
}

/// The key of a tenant that a path names.
///
/// # Errors
/// `NOT_FOUND`, also for another tenant's.
pub(super) async fn named(app: &App, tenant: TenantId, id: &str) -> Result<KeyView, Fault> {
    one_key(app, tenant, KeyId::parse(id).ok_or_else(no_key)?).await
}

/// A tenant's keys, the newest first; with an environment, those of it.
pub(super) async fn list(app: &App, tenant: TenantId, environment: Option<Environment>) -> Result<ApiReply, Fault> {
    let mut data = keys::list_keys(&app.db()?, tenant).await?;
    data.retain(|key| environment.is_none_or(|environment| key.environment == environment));
    Ok(ApiReply::json(200, &ListPage { data, next_cursor: None }))
}

/// `most`: of those that hold.
fn too_many(most: usize) -> Fault {
    invalid("name", &format!("is one too many: a tenant can have {most} keys that hold"))
}

/// Checks whether the maker of a change that was not stored may still make such a key.
///
/// # Errors
/// `KEY_NOT_ACTIVE`, `INSUFFICIENT_ROLE`.
async fn check_maker(app: &App, scopes: &[Scope], made: &Change) -> Result<(), Fault> {
    if keys::may_make(&app.db()?, scopes, made).await? {
        return Ok(());
    }
    Err(match made.actor {
        Actor::Key(_) => {
            Fault::new(ErrorCode::KeyNotActive, "this key was revoked or replaced meanwhile, or has expired")
        }
        Actor::Person(_) | Actor::Address(_) | Actor::Operator | Actor::System => {
            Fault::new(ErrorCode::InsufficientRole, "your role in the tenant was taken away meanwhile")
        }
    })
}

/// Makes a key.
pub(super) async fn create(
    app: &App,
    incoming: &IncomingRequest,
    (tenant, actor): Owner,
    new: &NewKey,
) -> Result<ApiReply, Fault> {
    let db = app.db()?;
    // Fails where there is no such tenant.
    d1::read_tenant(&db, tenant).await?;
    let text = issue_key(app, tenant, (new.kind, new.environment))?;
    let id = key_id(incoming.now)?;
    let put = KeyToPut {
        id,
        environment: new.environment,
        kind: new.kind,
        name: &new.name,
        hash: KeyHash::of(&text),
        last_four: key::last_four(&text).to_owned(),
        scopes: &new.scopes,
        expires_at: new.expires_at,
        allow_list: &new.allow_list,
    };
    let made = incoming.change_by(actor, tenant, AuditAction::KeyCreated, id.to_string())?;
    let made = made.detail(new.environment.name()).of(new.environment);
    if !keys::create_key(&db, &put, &made).await? {
        let deletion = deletions::read_deletion(&db, tenant).await?;
        deletion.map_or(Ok(()), |row| row.deletion.check_none())?;
        check_maker(app, &new.scopes, &made).await?;
        return Err(too_many(KEYS_MAX));
    }
    let api_key = KeyView {
        id: id.to_string(),
        name: new.name.clone(),
        environment: new.environment,
        kind: new.kind,
        prefix: key::prefix(new.kind, new.environment),
        last_four: Some(key::last_four(&text).to_owned()),
        scopes: new.scopes.clone(),
        allow_list: new.allow_list.clone(),
        created_at: incoming.now.rfc3339(),
        expires_at: new.expires_at.map(UnixMillis::rfc3339),
        rotated_from: None,
        grace_until: None,
        revoked_at: None,
        last_used_at: None,
    };
    key_created(app, incoming, tenant, (api_key, text)).await
}

/// The answer to a new key, made of what was written: a request that is repeated would make another one, and nobody would
/// have the text of this one. So neither a directory that fails after the write is an error, nor a ledger that is not
/// reached.
async fn key_created(
    app: &App,
    incoming: &IncomingRequest,
    tenant: TenantId,
    (api_key, key): (KeyView, String),
) -> Result<ApiReply, Fault> {
    let in_force = reload_tenant(app, incoming, tenant).await.is_ok();
    Ok(ApiReply::json(201, &KeyCreated { api_key, key, in_force }))
}

/// Revokes a key.
pub(super) async fn revoke(
    app: &App,
    incoming: &IncomingRequest,
    owner: Owner,
    key: KeyView,
) -> Result<ApiReply, Fault> {
    let tenant = owner.0;
    revoke_because(app, incoming, owner, (&key, key.environment.name().to_owned())).await?;
    reload_tenant(app, incoming, tenant).await?;
    let revoked_at = key.revoked_at.unwrap_or_else(|| incoming.now.rfc3339());
    Ok(ApiReply::json(200, &KeyAlone { api_key: KeyView { revoked_at: Some(revoked_at), ..key } }))
}

async fn revoke_because(
    app: &App,
    incoming: &IncomingRequest,
    (tenant, actor): Owner,
    (key, detail): (&KeyView, String),
) -> Result<(), Fault> {
    let id = KeyId::parse(&key.id).ok_or_else(no_key)?;
    let made = incoming.change_by(actor, tenant, AuditAction::KeyRevoked, key.id.as_str())?;
    keys::revoke_key(&app.db()?, id, &made.detail(detail).of(key.environment)).await
}

/// What a key would allow.
struct Reach<'a> {
    environment: Environment,
    scopes: &'a [Scope],
    /// When it ends, RFC 3339; `None`: never.
    expires_at: Option<&'a str>,
    allow_list: &'a [AllowedNetwork],
}

/// Checks that whoever manages the tenant may hold a key: nobody gets more by a new key than he has. A key with the scope
/// `manage` does what only an owner may, though nothing to members.
async fn check_reach(app: &App, incoming: &IncomingRequest, wanted: Reach<'_>) -> Result<(), Fault> {
    let Some(own) = &incoming.managing_key else { return check_role(incoming, wanted.scopes) };
    let more = |detail: String| Err(Fault::new(ErrorCode::InsufficientScope, detail));
    if let Some(scope) = wanted.scopes.iter().find(|scope| !own.scopes.contains(scope)) {
        return more(format!("this key lacks the scope '{}', and gives no key more than it has", scope.name()));
    }
    check_environment(incoming, wanted.environment)?;
    let own = one_key(app, incoming.tenant()?, own.id).await?;
    if own.grace_until.is_some() {
        let detail = "this key was rotated, and makes no other: use the one that has replaced it";
        return Err(Fault::new(ErrorCode::KeyNotActive, detail));
    }
    if let Some(end) = own.expires_at.filter(|end| wanted.expires_at.is_none_or(|wanted| wanted > end.as_str())) {
        return more(format!("this key ends at {end}, and gives no key a later end: name 'expires_at'"));
    }
    if !is_within(wanted.allow_list, &own.allow_list) {
        return more("this key has an 'allow_list', and gives no key a network outside of it".to_owned());
    }
    Ok(())
}

/// Checks that only an owner makes, rotates or revokes a key with the scope `manage` in a session.
fn check_role(incoming: &IncomingRequest, scopes: &[Scope]) -> Result<(), Fault> {
    if incoming.managing_key.is_none() && scopes.contains(&Scope::Manage) && incoming.session()?.role < Role::Owner {
        let detail = "only an owner manages keys with the scope 'manage': they may do what an owner may";
        return Err(Fault::new(ErrorCode::InsufficientRole, detail));
    }
    Ok(())
}

/// Checks that a key manages keys of its own environment; a session manages both.
fn check_environment(incoming: &IncomingRequest, environment: Environment) -> Result<(), Fault> {
    match incoming.caller {
        Some(caller) if caller.environment != environment => {
            let detail = format!("a {} key manages no {} keys", caller.environment.name(), environment.name());
            Err(Fault::new(ErrorCode::EnvironmentMismatch, detail))
        }
        Some(_) | None => Ok(()),
    }
}

/// `GET /v1/api-keys`: a key sees those of its own environment.
pub(super) async fn list_own(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    list(app, incoming.tenant()?, incoming.environment()).await
}

/// `POST /v1/api-keys`.
pub(super) async fn create_own(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let new = admin::new_key(&incoming.body, incoming.now)?;
    let expires_at = new.expires_at.map(UnixMillis::rfc3339);
    let NewKey { environment, scopes, allow_list, .. } = &new;
    let wanted = Reach { environment: *environment, scopes, expires_at: expires_at.as_deref(), allow_list };
    check_reach(app, incoming, wanted).await?;
    create(app, incoming, (incoming.tenant()?, incoming.actor()?), &new).await
}

/// `DELETE /v1/api-keys/{key_id}`.
pub(super) async fn revoke_own(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let tenant = incoming.tenant()?;
    let key = named(app, tenant, incoming.param(0)).await?;
    check_environment(incoming, key.environment)?;
    check_role(incoming, &key.scopes)?;
    revoke(app, incoming, (tenant, incoming.actor()?), key).await
}

/// `POST /v1/api-keys/{key_id}/rotate`: another key takes the place of this one, which holds until its grace time ends.
pub(super) async fn rotate_own(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let (grace, tenant, now) = (grace_ms(&incoming.body)?, incoming.tenant()?, incoming.now);
    let old = named(app, tenant, incoming.param(0)).await?;
    let KeyView { environment, scopes, expires_at, allow_list, .. } = &old;
    let wanted = Reach { environment: *environment, scopes, expires_at: expires_at.as_deref(), allow_list };
    check_reach(app, incoming, wanted).await?;
    let id = KeyId::parse(&old.id).ok_or_else(no_key)?;
    let text = issue_key(app, tenant, (old.kind, old.environment))?;
    let new = key_id(now)?;
    let made = incoming.change(AuditAction::KeyRotated, old.id.as_str())?;
    let made = made.detail(new.to_string()).of(old.environment);
    let rotation = KeyRotation {
        old: id,
        grace_until: now.plus(grace),
        new,
        hash: KeyHash::of(&text),
        last_four: key::last_four(&text),
    };
    let db = app.db()?;
    if !keys::rotate_key(&db, &rotation, &made).await? {
        let after = one_key(app, tenant, id).await?;
        let holds = after.revoked_at.is_none() && after.grace_until.is_none();
        let has_expired = after.expires_at.is_some_and(|end| end <= now.rfc3339());
        if holds && !has_expired {
            check_maker(app, &old.scopes, &made).await?;
            return Err(too_many(ROTATED_MAX));
        }
        let detail = "the key is revoked, has expired or was rotated before";
        return Err(Fault::new(ErrorCode::KeyNotActive, detail));
    }
    let api_key = KeyView {
        id: new.to_string(),
        last_four: Some(key::last_four(&text).to_owned()),
        created_at: now.rfc3339(),
        rotated_from: Some(old.id),
        grace_until: None,
        revoked_at: None,
        last_used_at: None,
        ..old
    };
    key_created(app, incoming, tenant, (api_key, text)).await
}

/// `POST /v1/api-keys/revoke-leaked`: the answer is the same whatever the text is.
pub(super) async fn revoke_leaked(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let report = leak_report(&incoming.body)?;
    let db = app.db()?;
    if !keys::count_report(&db, &incoming.client.ip_prefix(), incoming.now).await? {
        let detail = "too many reports from this network: try again later";
        return Err(Fault::new(ErrorCode::RateLimited, detail).after(REPORTS_SPAN_MS / 1_000));
    }
    if let Some(caller) = key::read_any(&report.key, app.settings.peppers())
        && let Some(found) = keys::find_key(&db, caller.tenant, caller.hash).await?
    {
        let place = report.url.as_deref().unwrap_or("reported without a place");
        let detail = format!("{}, leaked: {place}", found.environment.name());
        revoke_because(app, incoming, (caller.tenant, Actor::System), (&found, detail)).await?;
        // A ledger that is not reached loads the change within minutes; an error would show which texts are keys.
        let _ = reload_tenant(app, incoming, caller.tenant).await;
    }
    Ok(ApiReply::json(202, &LeakReceived { received: true }))
}

//! What operators and people do alike with the directory: issue keys, and make ledgers load a change.

use crate::app;
use crate::app::App;
use crate::clients;
use crate::d1;
use crate::d1::change::{Actor, Change};
use crate::d1::keys::KeyToPut;
use crate::request::IncomingRequest;
use futures_util::future::join_all;
use x402_api::admin::FirstKeys;
use x402_chain::id::{KeyId, TenantId};
use x402_chain::network::Environment;
use x402_chain::time::UnixMillis;
use x402_core::audit::AuditAction;
use x402_core::error::{ErrorCode, Fault};
use x402_core::messages::ledger::LedgerMessage;
use x402_core::tenancy::key;
use x402_core::tenancy::key::{KeyHash, KeyKind};
use x402_core::tenancy::tenant::Scope;

/// The text of a new key.
///
/// # Errors
/// `INTERNAL` without randomness or pepper.
pub(super) fn issue_key(app: &App, tenant: TenantId, of: (KeyKind, Environment)) -> Result<String, Fault> {
    key::issue(tenant, of, app::random()?, app.settings.peppers())
        .ok_or_else(|| Fault::internal("no pepper is configured for signing keys"))
}

/// The id of a new key.
///
/// # Errors
/// `INTERNAL` without randomness.
pub(super) fn key_id(now: UnixMillis) -> Result<KeyId, Fault> {
    Ok(KeyId::new(now, app::random()?))
}

/// A new key that is to be stored, with what is recorded of it.
pub(super) type RecordedKey = (KeyToPut<'static>, Change);

/// The first keys of a new tenant: their texts, and what is stored of them.
///
/// # Errors
/// As [`issue_key`].
pub(super) fn first_keys(
    app: &App,
    incoming: &IncomingRequest,
    (tenant, actor): (TenantId, &Actor),
) -> Result<(FirstKeys, [RecordedKey; 2]), Fault> {
    let issue = |environment: Environment| {
        let text = issue_key(app, tenant, (KeyKind::Bearer, environment))?;
        let put = KeyToPut {
            id: key_id(incoming.now)?,
            environment,
            kind: KeyKind::Bearer,
            name: "first",
            hash: KeyHash::of(&text),
            last_four: key::last_four(&text).to_owned(),
            scopes: &Scope::FIRST,
            expires_at: None,
            allow_list: &[],
        };
        let made = incoming.change_by(actor.clone(), tenant, AuditAction::KeyCreated, put.id.to_string())?;
        Ok::<_, Fault>((text, (put, made.detail(environment.name()).of(environment))))
    };
    let ((live, live_put), (test, test_put)) = (issue(Environment::Live)?, issue(Environment::Test)?);
    Ok((FirstKeys { live, test }, [live_put, test_put]))
}

/// A change is stored, and a ledger may not have loaded it. [`crate::directory_events`] makes it load the change.
fn not_loaded() -> Fault {
    let detail = "the change is stored, but a ledger has not loaded it yet: it takes effect within minutes, or when the \
                  same request is answered with success";
    Fault::new(ErrorCode::ChangeNotLoaded, detail).after(1)
}

/// Makes both ledgers load the directory's copy, after a change is stored.
///
/// # Errors
/// `CHANGE_NOT_LOADED`: one may not have done so.
pub(super) async fn reload_ledgers(
    app: &App,
    incoming: &IncomingRequest,
    tenant: TenantId,
    version: u64,
    region: Option<&str>,
) -> Result<(), Fault> {
    let one = |environment| async move {
        let envelope = incoming.envelope(app, (tenant, environment), LedgerMessage::Reload { version });
        clients::ledger::call_ledger(app, &envelope, region).await
    };
    for response in join_all(Environment::ALL.map(one)).await {
        match response {
            Ok(response) if response.is_done() => {}
            Ok(_) => return Err(not_loaded()),
            Err(fault) => return Err(not_loaded().because(fault.cause().unwrap_or(&fault.detail))),
        }
    }
    Ok(())
}

/// Makes both ledgers load the directory's present copy of a tenant, after a change is stored.
///
/// # Errors
/// `CHANGE_NOT_LOADED`, also where the directory fails.
pub(super) async fn reload_tenant(app: &App, incoming: &IncomingRequest, tenant: TenantId) -> Result<(), Fault> {
    let read = d1::read_tenant(&app.db()?, tenant).await;
    let (_, version) = read.map_err(|fault| not_loaded().because(fault.cause().unwrap_or(&fault.detail)))?;
    reload_ledgers(app, incoming, tenant, version, None).await
}

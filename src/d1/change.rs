//! Changes of the directory. One batch holds the change, its entry in the audit log and its event: [`change`].

use super::rows::{AuditRow, TenantToLoad, UnshippedEvent};
use super::{BoundValue, all, batch, result_of, rows_of, sql, statement};
use crate::storage::{FromRow, Present, Statement};
use worker::{D1Database, D1PreparedStatement};
use x402_api::audit::AuditQuery;
use x402_chain::id::{AuditId, KeyId, PersonId, TenantId};
use x402_chain::network::Environment;
use x402_chain::time::UnixMillis;
use x402_core::audit::{ActorKind, AuditAction, CHANGES_HOUR_MAX, CHANGES_SPAN_MS};
use x402_core::error::Fault;

/// Who makes a change.
#[derive(Clone)]
pub(crate) enum Actor {
    /// A person who is signed in.
    Person(PersonId),
    /// The person with this address, who may be written by an earlier statement of the batch.
    Address(String),
    /// A key of the tenant.
    Key(KeyId),
    /// An operator.
    Operator,
    /// The service itself.
    System,
}

impl Actor {
    /// The id, the address, or who it is else.
    pub(super) fn text(&self) -> String {
        self.stored().1
    }

    /// The id of a person or a key of the tenant, by which a statement checks that it may still make the change.
    pub(super) fn of_tenant(&self) -> Option<String> {
        match self {
            Self::Person(id) => Some(id.to_string()),
            Self::Key(id) => Some(id.to_string()),
            Self::Address(_) | Self::Operator | Self::System => None,
        }
    }

    /// The kind as stored, and the id or the address.
    fn stored(&self) -> (ActorKind, String) {
        match self {
            Self::Person(id) => (ActorKind::Person, id.to_string()),
            Self::Address(email) => (ActorKind::Person, email.clone()),
            Self::Key(id) => (ActorKind::Key, id.to_string()),
            Self::Operator => (ActorKind::Operator, ActorKind::Operator.name().to_owned()),
            Self::System => (ActorKind::System, ActorKind::System.name().to_owned()),
        }
    }
}

/// What the audit log records of a change, and the event that it causes (`AuditAction::event`).
/// [`crate::request::IncomingRequest::change`] makes one of a request.
pub(crate) struct Change {
    /// The entry's id; the event's is of the same bits.
    pub(crate) id: AuditId,
    pub(crate) tenant: TenantId,
    /// The environment of a key or an address; `None` where the change is about the tenant as a whole, whose event then
    /// goes to the records of `live`.
    pub(crate) environment: Option<Environment>,
    pub(crate) actor: Actor,
    pub(crate) action: AuditAction,
    /// To whom or to what.
    pub(crate) subject: String,
    /// The new value.
    pub(crate) detail: Option<String>,
    pub(crate) ip_prefix: String,
    pub(crate) user_agent: Option<String>,
    pub(crate) at: UnixMillis,
}

impl Change {
    /// Sets the new value.
    pub(crate) fn detail(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    /// Sets the environment that the change is about.
    pub(crate) const fn of(mut self, environment: Environment) -> Self {
        self.environment = Some(environment);
        self
    }

    /// The statements that write the entry and the event. They come in the batch of the change, right after the statement
    /// that makes it: where that has changed no row, or the entry is there already, nothing is written. So the same change
    /// may follow each of several statements of which the first that changes a row counts.
    pub(crate) fn statements(&self, db: &D1Database) -> Result<[D1PreparedStatement; 2], Fault> {
        self.statements_as(db, self.action)
    }

    /// Whether the change is refused where the tenant has too many entries. Whoever arrives by a proof of his address is
    /// bounded by mails; operators and the service itself are not.
    const fn is_bounded(&self, action: AuditAction) -> bool {
        match self.actor {
            Actor::Person(_) | Actor::Key(_) => action.is_bounded(),
            Actor::Address(_) | Actor::Operator | Actor::System => false,
        }
    }

    /// The same under another action: what is recorded if the statement before it is the first that changes a row.
    pub(super) fn statements_as(
        &self,
        db: &D1Database,
        action: AuditAction,
    ) -> Result<[D1PreparedStatement; 2], Fault> {
        let (kind, actor) = self.actor.stored();
        let (id, event, tenant) = (self.id.to_string(), self.id.event().to_string(), self.tenant.to_string());
        let holder = self.actor.of_tenant().filter(|_| action.is_owners());
        // Ids begin with their times.
        let since = AuditId::new(UnixMillis(self.at.0.saturating_sub(CHANGES_SPAN_MS)), [0; 10]).to_string();
        let entry = [
            BoundValue::Text(&id),
            BoundValue::Text(&tenant),
            BoundValue::Text(action.name()),
            BoundValue::Text(&self.subject),
            BoundValue::Maybe(self.detail.as_deref()),
            BoundValue::Text(&self.ip_prefix),
            BoundValue::Maybe(self.user_agent.as_deref()),
            BoundValue::Ms(self.at),
            BoundValue::Text(kind.name()),
            BoundValue::Text(&actor),
            BoundValue::Maybe(self.environment.map(Environment::name)),
            if self.is_bounded(action) { BoundValue::Number(CHANGES_HOUR_MAX) } else { BoundValue::Maybe(None) },
            BoundValue::Text(&since),
            BoundValue::Maybe(holder.as_deref()),
        ];
        let happened = [
            BoundValue::Text(&event),
            BoundValue::Text(self.environment.unwrap_or(Environment::Live).name()),
            BoundValue::Text(action.event().name()),
            BoundValue::Text(&id),
            BoundValue::Number(action.event().concerns_ledgers().into()),
        ];
        Ok([statement(db, sql::AUDIT_PUT, &entry)?, statement(db, sql::EVENT_PUT, &happened)?])
    }
}

/// Makes a change with its entry and its event, then runs `then`, in one batch; whether the change changed a row. The
/// statement returns a row if it does. What is in `then` runs either way: it must bind the tenant of `made`.
///
/// # Errors
/// `RATE_LIMITED` where people and keys of the tenant have changed too much in the last hour; `INSUFFICIENT_ROLE` where whoever
/// makes the change was removed, or the key revoked, meanwhile.
pub(super) async fn change(
    db: &D1Database,
    (of, bind): (Statement<Present>, &[BoundValue<'_>]),
    made: &Change,
    then: Vec<D1PreparedStatement>,
) -> Result<bool, Fault> {
    let mut statements = vec![statement(db, of, bind)?];
    statements.extend(made.statements(db)?);
    statements.extend(then);
    let rows = batch(db, statements).await?.first().map(|result| rows_of(of, result)).transpose()?;
    Ok(rows.is_some_and(|rows| !rows.is_empty()))
}

/// Makes a change that concerns any number of tenants, with an entry and an event of each, in one batch; how many rows it
/// changed. The statement returns each.
pub(super) async fn change_of_many(
    db: &D1Database,
    (of, bind): (Statement<Present>, &[BoundValue<'_>]),
    made: &[Change],
) -> Result<usize, Fault> {
    let mut statements = vec![statement(db, of, bind)?];
    for each in made {
        // It counts the event before it as a change: where the first wrote an entry, all do.
        statements.extend(each.statements(db)?);
    }
    let rows = batch(db, statements).await?.first().map(|result| rows_of(of, result)).transpose()?;
    Ok(rows.map_or(0, |rows| rows.len()))
}

/// Entries of a tenant before an id, the newest first; with an environment, those about it, and with `live` those about the
/// tenant as a whole too. They are found by their ids, which begin with their times.
pub(crate) async fn list_audit(
    db: &D1Database,
    (tenant, environment): (TenantId, Option<Environment>),
    wanted: &AuditQuery,
    (before, limit): (Option<&str>, u64),
) -> Result<Vec<AuditRow>, Fault> {
    let first_of = |at: UnixMillis| AuditId::new(at, [0; 10]).to_string();
    let (tenant, since) = (tenant.to_string(), wanted.since.map_or_else(String::new, first_of));
    // Greater than every id, for the first page.
    let until = wanted.until.map_or_else(|| "aud_~".to_owned(), first_of);
    let bind = [
        BoundValue::Text(&tenant),
        BoundValue::Text(before.unwrap_or(&until).min(&until)),
        BoundValue::Text(&since),
        BoundValue::Maybe(wanted.action.map(AuditAction::name)),
        BoundValue::Maybe(wanted.actor.as_deref()),
        BoundValue::Number(limit),
        BoundValue::Maybe(environment.map(Environment::name)),
    ];
    all(db, sql::AUDIT_OF, &bind).await
}

/// Whether a ledger of the tenant may not have loaded a change.
pub(crate) async fn has_unshipped(db: &D1Database, tenant: TenantId) -> Result<bool, Fault> {
    Ok(!all(db, sql::EVENTS_WAIT, &[BoundValue::Text(&tenant.to_string())]).await?.is_empty())
}

fn at_time(time: Option<UnixMillis>) -> BoundValue<'static> {
    time.map_or(BoundValue::Maybe(None), BoundValue::Ms)
}

/// Whose changes are wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ChangesOf {
    /// All.
    All,
    /// Those of one time: of a request.
    Time(UnixMillis),
    /// Those of one tenant.
    Tenant(TenantId),
}

/// Reads rows by a statement that binds a time or null, a limit, and a tenant or null.
async fn changes_of<T: FromRow>(
    db: &D1Database,
    sql: Statement<T>,
    of: ChangesOf,
    limit: u64,
) -> Result<Vec<T>, Fault> {
    let (time, tenant) = match of {
        ChangesOf::All => (None, None),
        ChangesOf::Time(time) => (Some(time), None),
        ChangesOf::Tenant(tenant) => (None, Some(tenant.to_string())),
    };
    all(db, sql, &[at_time(time), BoundValue::Number(limit), BoundValue::Maybe(tenant.as_deref())]).await
}

/// Events that ledgers hold and that were not shipped, those tried least first.
pub(crate) async fn unshipped_events(db: &D1Database, of: ChangesOf, limit: u64) -> Result<Vec<UnshippedEvent>, Fault> {
    changes_of(db, sql::EVENTS_UNSHIPPED, of, limit).await
}

/// Whether an event of the tenant is not shipped.
pub(crate) async fn has_events_left(db: &D1Database, tenant: TenantId) -> Result<bool, Fault> {
    Ok(!all(db, sql::EVENTS_LEFT, &[BoundValue::Text(&tenant.to_string())]).await?.is_empty())
}

/// Tenants whose ledgers may not hold what has caused events: at most so many that have such events.
pub(crate) async fn tenants_to_load(db: &D1Database, of: ChangesOf, limit: u64) -> Result<Vec<TenantToLoad>, Fault> {
    changes_of(db, sql::TENANTS_TO_LOAD, of, limit).await
}

/// Notes that ledgers hold what has caused a tenant's events up to one, or, without a time, that this was tried.
pub(crate) async fn note_loaded(
    db: &D1Database,
    (tenant, last): (TenantId, u64),
    loaded: Option<UnixMillis>,
) -> Result<(), Fault> {
    let bind = [at_time(loaded), BoundValue::Text(&tenant.to_string()), BoundValue::Number(last)];
    result_of(statement(db, sql::EVENTS_LOADED, &bind)?).await.map(|_| ())
}

/// Events that are shipped and that webhook endpoints may not have, those tried least first.
pub(crate) async fn unheard_events(db: &D1Database, of: ChangesOf, limit: u64) -> Result<Vec<UnshippedEvent>, Fault> {
    changes_of(db, sql::EVENTS_UNHEARD, of, limit).await
}

/// Notes that events were shipped, or, without a time, that they were tried; and since when webhook endpoints have them.
pub(crate) async fn note_events(
    db: &D1Database,
    ids: &[String],
    (shipped, heard): (Option<UnixMillis>, Option<UnixMillis>),
) -> Result<(), Fault> {
    let ids = serde_json::to_string(ids).map_err(Fault::internal)?;
    let bind = [at_time(shipped), BoundValue::Text(&ids), at_time(heard)];
    result_of(statement(db, sql::EVENTS_NOTE, &bind)?).await.map(|_| ())
}

/// Notes that webhook endpoints have shipped events, or, without a time, that they were tried.
pub(crate) async fn note_heard(db: &D1Database, ids: &[String], heard: Option<UnixMillis>) -> Result<(), Fault> {
    let ids = serde_json::to_string(ids).map_err(Fault::internal)?;
    result_of(statement(db, sql::EVENTS_HEARD, &[at_time(heard), BoundValue::Text(&ids)])?).await.map(|_| ())
}

//! Alerts and notices in the directory. A notice, its mails and the alerts that it names are written in one batch.

#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod rows;
#[allow(unreachable_pub, reason = "public natively, for tests")]
pub mod sql;

use super::change::{Actor, Change, change};
use super::{BoundValue, all, batch, no_tenant, result_of, statement};
use rows::{
    AlertRecipient, AlertSettings, AlertText, ExpiringKey, HourResults, NoticeMail, NoticeToPost, WaitingCount,
    WaitingRow,
};
use worker::{D1Database, D1PreparedStatement};
use x402_chain::id::{AuditId, EventId, MailId, NoticeId, TenantId};
use x402_chain::time::{DAY_MS, UnixMillis};
use x402_core::alert::operator::KeptAlert;
use x402_core::alert::{ALERTS, AlertRow, DueTimes, LISTED_MAX, NOTICES_DAY_MAX};
use x402_core::audit::AuditAction;
use x402_core::error::Fault;
use x402_core::event::EventKind;

/// The most owners of a tenant who get mails.
const RECIPIENTS_MAX: u64 = 20;
/// The most operators' alerts that are open.
const OPEN_MAX: u64 = 1_000;
/// How long notices and their alerts are kept.
const KEPT_MS: u64 = 30 * DAY_MS;

/// An event that is an alert, as a ledger ships it.
pub(crate) struct AlertCopy {
    pub(crate) event: EventId,
    pub(crate) kind: EventKind,
    pub(crate) subject: String,
    /// What its text needs of the event's data.
    pub(crate) data: String,
    pub(crate) at: UnixMillis,
}

/// The statement that writes an alert of a ledger, once.
pub(super) fn alert_statement(
    db: &D1Database,
    tenant: TenantId,
    alert: &AlertCopy,
) -> Result<D1PreparedStatement, Fault> {
    let AlertCopy { event, kind, subject, data, at } = alert;
    let (event, tenant) = (event.to_string(), tenant.to_string());
    let [event, tenant, kind, subject, data] =
        [&event, &tenant, kind.name(), subject.as_str(), data.as_str()].map(BoundValue::Text);
    statement(db, sql::ALERT_PUT, &[event, tenant, kind, subject, data, BoundValue::Ms(*at)])
}

/// Tenants and kinds with alerts of which a notice is due.
pub(crate) async fn waiting(db: &D1Database, now: UnixMillis, limit: u64) -> Result<Vec<WaitingRow>, Fault> {
    let DueTimes { day, gathered, paused } = DueTimes::of(now);
    let [day, gathered, paused] = [day, gathered, paused].map(BoundValue::Ms);
    let kinds: Vec<&str> = ALERTS.iter().map(|row| row.kind.name()).collect();
    let kinds = serde_json::to_string(&kinds).map_err(Fault::internal)?;
    let (most, limit) = (BoundValue::Number(NOTICES_DAY_MAX), BoundValue::Number(limit));
    let bind = [day, most, gathered, paused, limit, BoundValue::Text(&kinds)];
    all(db, sql::ALERTS_WAITING, &bind).await
}

/// How many alerts of a tenant and kind wait, and the texts of the oldest; `None` where none does.
pub(crate) async fn alerts_of(
    db: &D1Database,
    tenant: TenantId,
    row: &AlertRow,
) -> Result<Option<(WaitingCount, Vec<AlertText>)>, Fault> {
    let tenant = tenant.to_string();
    let [tenant, kind] = [&tenant, row.kind.name()].map(BoundValue::Text);
    let Some(count) = all(db, sql::ALERTS_COUNT, &[tenant, kind]).await?.into_iter().next() else { return Ok(None) };
    let newest = count.newest.to_string();
    let bind = [tenant, kind, BoundValue::Text(&newest), BoundValue::Number(LISTED_MAX)];
    Ok(Some((count, all(db, sql::ALERTS_OF, &bind).await?)))
}

/// How a tenant is alerted.
pub(crate) async fn read_settings(db: &D1Database, tenant: TenantId) -> Result<AlertSettings, Fault> {
    let rows = all(db, sql::ALERT_SETTINGS, &[BoundValue::Text(&tenant.to_string())]).await?;
    rows.into_iter().next().ok_or_else(no_tenant)
}

/// Who gets the mails of a tenant's notices.
pub(crate) async fn recipients(db: &D1Database, tenant: TenantId) -> Result<Vec<AlertRecipient>, Fault> {
    let bind = [BoundValue::Text(&tenant.to_string()), BoundValue::Number(RECIPIENTS_MAX)];
    all(db, sql::ALERT_RECIPIENTS, &bind).await
}

/// A notice to write.
pub(crate) struct NewNotice<'a> {
    pub(crate) id: NoticeId,
    pub(crate) text: &'a str,
    pub(crate) at: UnixMillis,
    /// Whether its message is posted.
    pub(crate) is_posted: bool,
    /// Its mails, each with its address.
    pub(crate) mails: &'a [(MailId, String)],
    /// The origin of the mails' links.
    pub(crate) origin: &'a str,
}

impl NewNotice<'_> {
    pub(super) fn due(&self) -> BoundValue<'static> {
        if self.is_posted { BoundValue::Ms(self.at) } else { BoundValue::Maybe(None) }
    }

    /// The statements of its mails, which come after that of the notice.
    pub(super) fn mails(&self, db: &D1Database) -> Result<Vec<D1PreparedStatement>, Fault> {
        let notice = self.id.to_string();
        let put = |(mail, address): &(MailId, String)| {
            let mail = mail.to_string();
            let [mail, address, origin, notice] = [&mail, address.as_str(), self.origin, &notice].map(BoundValue::Text);
            statement(db, sql::NOTICE_MAIL_PUT, &[mail, address, origin, notice, BoundValue::Ms(self.at)])
        };
        self.mails.iter().map(put).collect()
    }
}

/// Writes a notice about the alerts of a tenant and kind that were counted, unless others wait by now: the next run counts anew.
pub(crate) async fn put_notice(
    db: &D1Database,
    (tenant, row): (TenantId, &AlertRow),
    WaitingCount { number, newest }: &WaitingCount,
    new: &NewNotice<'_>,
) -> Result<(), Fault> {
    let (id, tenant, newest) = (new.id.to_string(), tenant.to_string(), newest.to_string());
    let [notice, tenant, kind, text, newest] =
        [&id, &tenant, row.kind.name(), new.text, newest.as_str()].map(BoundValue::Text);
    let bind = [notice, tenant, kind, text, BoundValue::Ms(new.at), new.due(), newest, BoundValue::Number(*number)];
    let mut statements = vec![
        statement(db, sql::NOTICE_PUT, &bind)?,
        statement(db, sql::ALERTS_NOTICED, &[notice, tenant, kind, newest])?,
    ];
    statements.extend(new.mails(db)?);
    batch(db, statements).await.map(|_| ())
}

/// What the mail of a notice is made of; `None` where it was sent.
pub(crate) async fn read_mail(db: &D1Database, mail: MailId) -> Result<Option<NoticeMail>, Fault> {
    Ok(all(db, sql::NOTICE_MAIL_GET, &[BoundValue::Text(&mail.to_string())]).await?.into_iter().next())
}

/// Whose messages are posted one after the other, apart from those of others.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum PostLine {
    /// Operators'.
    Operators,
    /// Those of tenants whose URL did not take long the last time.
    Quick,
    /// Those of other tenants.
    Slow,
}

/// Notices of a line whose message is due, one of each tenant.
pub(crate) async fn notices_to_post(
    db: &D1Database,
    line: PostLine,
    now: UnixMillis,
    limit: u64,
) -> Result<Vec<NoticeToPost>, Fault> {
    let (now, limit) = (BoundValue::Ms(now), BoundValue::Number(limit));
    match line {
        PostLine::Operators => all(db, sql::OPERATOR_NOTICES_TO_POST, &[now, limit]).await,
        PostLine::Quick | PostLine::Slow => {
            let is_slow = BoundValue::Number((line == PostLine::Slow).into());
            all(db, sql::NOTICES_TO_POST, &[now, is_slow, limit]).await
        }
    }
}

/// Begins a try to post a notice's message; the next is due at `next`, if it fails. `false` where another has begun it.
pub(crate) async fn begin_post(
    db: &D1Database,
    notice: &NoticeToPost,
    next: Option<UnixMillis>,
) -> Result<bool, Fault> {
    let next = next.map_or(BoundValue::Maybe(None), BoundValue::Ms);
    let bind = [next, BoundValue::Text(&notice.id.to_string()), BoundValue::Number(notice.tries)];
    Ok(!all(db, sql::NOTICE_POST_BEGIN, &bind).await?.is_empty())
}

/// Notes that a notice's message was taken.
pub(crate) async fn note_posted(db: &D1Database, notice: NoticeId, now: UnixMillis) -> Result<(), Fault> {
    let bind = [BoundValue::Ms(now), BoundValue::Text(&notice.to_string())];
    result_of(statement(db, sql::NOTICE_POSTED, &bind)?).await.map(|_| ())
}

/// Notes that a notice's message is not tried again.
pub(crate) async fn end_post(db: &D1Database, notice: NoticeId) -> Result<(), Fault> {
    result_of(statement(db, sql::NOTICE_POST_END, &[BoundValue::Text(&notice.to_string())])?).await.map(|_| ())
}

/// Notes when a message to a tenant's URL took long; `None`: the last one did not.
pub(crate) async fn note_slow(db: &D1Database, tenant: TenantId, slow: Option<UnixMillis>) -> Result<(), Fault> {
    let slow = slow.map_or(BoundValue::Maybe(None), BoundValue::Ms);
    let bind = [slow, BoundValue::Text(&tenant.to_string())];
    result_of(statement(db, sql::ALERT_SLOW_PUT, &bind)?).await.map(|_| ())
}

/// Keys of which it is to be raised that they end, those of all tenants in turn.
pub(crate) async fn expiring_keys(db: &D1Database, limit: u64, now: UnixMillis) -> Result<Vec<ExpiringKey>, Fault> {
    all(db, sql::KEYS_EXPIRING, &[BoundValue::Ms(now), BoundValue::Number(limit)]).await
}

/// Raises the event that a key ends within so many days, once; `false` where it was.
pub(crate) async fn raise_expiring(
    db: &D1Database,
    key: &ExpiringKey,
    (id, days): (AuditId, u64),
    now: UnixMillis,
) -> Result<bool, Fault> {
    let made = Change {
        id,
        tenant: key.tenant,
        environment: Some(key.environment),
        actor: Actor::System,
        action: AuditAction::KeyExpiring,
        subject: key.id.to_string(),
        detail: Some(key.expires_at.rfc3339()),
        ip_prefix: "unknown".to_owned(),
        user_agent: None,
        at: now,
    };
    let tenant = key.tenant.to_string();
    let bind = [BoundValue::Number(days), BoundValue::Text(&made.subject), BoundValue::Text(&tenant)];
    change(db, (sql::KEY_EXPIRING_NOTE, &bind), &made, Vec::new()).await
}

/// What was wrong at the last check of operators' alerts.
pub(crate) async fn operator_alerts(db: &D1Database) -> Result<Vec<KeptAlert>, Fault> {
    let rows = all(db, sql::OPERATOR_ALERTS, &[BoundValue::Number(OPEN_MAX)]).await?;
    Ok(rows.into_iter().filter_map(|row| row.0).collect())
}

/// When checks have changed something last; 0 where they never have.
pub(crate) async fn checks_changed(db: &D1Database) -> Result<UnixMillis, Fault> {
    Ok(all(db, sql::CHECKS_CHANGED, &[]).await?.into_iter().next().map_or(UnixMillis(0), |row| row.at))
}

/// What checks change of operators' alerts.
#[derive(Default)]
pub(crate) struct CheckChanges {
    pub(crate) kept: Vec<KeptAlert>,
    pub(crate) ended: Vec<KeptAlert>,
}

/// Writes what checks change, with a notice of it if there is one.
///
/// # Errors
/// Where the directory fails, or others have changed something since `before`.
pub(crate) async fn put_checks(
    db: &D1Database,
    (before, now): (UnixMillis, UnixMillis),
    changes: &CheckChanges,
    notice: Option<&NewNotice<'_>>,
) -> Result<(), Fault> {
    let mut statements = vec![statement(db, sql::CHECKS_CHANGE, &[BoundValue::Ms(before), BoundValue::Ms(now)])?];
    let time = |at: Option<UnixMillis>| at.map_or(BoundValue::Maybe(None), BoundValue::Ms);
    for KeptAlert { kind, subject, detail, first, began, notified } in &changes.kept {
        let [kind, subject, detail] = [kind.name(), subject, detail].map(BoundValue::Text);
        let bind = [kind, subject, detail, BoundValue::Ms(*first), time(*began), time(*notified)];
        statements.push(statement(db, sql::OPERATOR_ALERT_PUT, &bind)?);
    }
    for KeptAlert { kind, subject, .. } in &changes.ended {
        statements.push(statement(db, sql::OPERATOR_ALERT_END, &[kind.name(), subject].map(BoundValue::Text))?);
    }
    if let Some(new) = notice {
        statements.extend(operator_notice(db, new)?);
    }
    batch(db, statements).await.map(|_| ())
}

/// Writes a notice to operators.
pub(crate) async fn put_operator_notice(db: &D1Database, new: &NewNotice<'_>) -> Result<(), Fault> {
    batch(db, operator_notice(db, new)?).await.map(|_| ())
}

/// The statements of a notice to operators.
fn operator_notice(db: &D1Database, new: &NewNotice<'_>) -> Result<Vec<D1PreparedStatement>, Fault> {
    let id = new.id.to_string();
    let bind = [BoundValue::Text(&id), BoundValue::Text(new.text), BoundValue::Ms(new.at), new.due()];
    let mut statements = vec![statement(db, sql::OPERATOR_NOTICE_PUT, &bind)?];
    statements.extend(new.mails(db)?);
    Ok(statements)
}

/// Counts verifications that failed in an hour.
pub(crate) async fn add_faults(db: &D1Database, hour: UnixMillis, number: u64) -> Result<(), Fault> {
    let bind = [BoundValue::Ms(hour), BoundValue::Number(number)];
    result_of(statement(db, sql::FAULTS_ADD, &bind)?).await.map(|_| ())
}

/// The verifications of an hour in live.
pub(crate) async fn hour_results(db: &D1Database, hour: UnixMillis) -> Result<HourResults, Fault> {
    let rows = all(db, sql::HOUR_RESULTS, &[BoundValue::Ms(hour)]).await?;
    rows.into_iter().next().ok_or_else(|| Fault::internal("HOUR_RESULTS returned no row"))
}

/// Deletes notices, their alerts and counts that are older than a month.
pub(crate) async fn purge(db: &D1Database, now: UnixMillis) -> Result<(), Fault> {
    let before = UnixMillis(now.0.saturating_sub(KEPT_MS));
    let (notice, event) = (NoticeId::new(before, [0; 10]).to_string(), EventId::new(before, [0; 10]).to_string());
    let statements = vec![
        statement(db, sql::NOTICES_PURGE, &[BoundValue::Text(&notice)])?,
        statement(db, sql::ALERTS_PURGE, &[BoundValue::Text(&event)])?,
        statement(db, sql::FAULTS_PURGE, &[BoundValue::Ms(before)])?,
    ];
    batch(db, statements).await.map(|_| ())
}

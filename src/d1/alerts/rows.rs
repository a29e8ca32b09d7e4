//! The rows about alerts and notices.

use crate::storage::{FromRow, RowReader};
use x402_chain::id::{EventId, KeyId, NoticeId, TenantId};
use x402_chain::network::Environment;
use x402_chain::time::UnixMillis;
use x402_core::alert::operator::{KeptAlert, OPERATORS_TITLE, OperatorAlert};
use x402_core::alert::{AlertRow, WaitingAlerts, alert_row};
use x402_core::billing::notice::BillingNotice;
use x402_core::error::Fault;
use x402_core::event::EventKind;
use x402_core::people::mail::NoticeOf;

/// The kind of an alert.
fn kind(text: &str) -> Option<&'static AlertRow> {
    EventKind::parse(text).and_then(alert_row)
}

/// The kind of operators' notices.
const OPERATORS: &str = "operator";

/// The title of a notice by its kind.
fn title(text: &str) -> Option<&'static str> {
    match text {
        OPERATORS => Some(OPERATORS_TITLE),
        _ => kind(text).map(|row| row.title).or_else(|| BillingNotice::parse(text).map(BillingNotice::title)),
    }
}

/// The next column: null, or a tenant.
fn tenant(row: &mut RowReader) -> Result<Option<TenantId>, Fault> {
    let read = row.get::<Option<String>>()?.map(|text| TenantId::parse(&text).ok_or(()));
    read.transpose().map_err(|()| row.unreadable("is no tenant"))
}

/// Alerts of a tenant and kind that wait. Those of another build's kind wait for it.
pub struct WaitingRow {
    /// Whose they are.
    pub tenant: TenantId,
    /// The row of their kind, and since when they wait; `None` for a kind that this build does not know.
    pub waiting: Option<(&'static AlertRow, WaitingAlerts)>,
}

impl FromRow for WaitingRow {
    const COLUMNS: &'static [&'static str] = &["tenant_id", "kind", "oldest_ms", "last_ms", "in_day"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let (tenant, known) = (row.parse(TenantId::parse)?, kind(&row.get::<String>()?));
        let (oldest, last_notice, notices_in_day) = (row.get()?, row.get()?, row.get()?);
        let waiting =
            |known: &'static AlertRow| (known, WaitingAlerts { kind: known.kind, oldest, last_notice, notices_in_day });
        Ok(Self { tenant, waiting: known.map(waiting) })
    }
}

/// How many alerts of a tenant and kind wait.
pub struct WaitingCount {
    /// That number.
    pub number: u64,
    /// The event of the newest of them.
    pub newest: EventId,
}

impl FromRow for WaitingCount {
    const COLUMNS: &'static [&'static str] = &["number", "newest"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { number: row.get()?, newest: row.parse(EventId::parse)? })
    }
}

/// An alert that waits.
pub struct AlertText {
    /// What the event is about, and what was kept of its data.
    pub text: (String, String),
}

impl FromRow for AlertText {
    const COLUMNS: &'static [&'static str] = &["subject", "data"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { text: (row.get()?, row.get()?) })
    }
}

/// How a tenant is alerted.
pub struct AlertSettings {
    /// Whether its owners get mails.
    pub mails: bool,
    /// Its Slack-compatible URL, sealed.
    pub sealed_url: Option<String>,
    /// The URL's host.
    pub host: Option<String>,
}

impl FromRow for AlertSettings {
    const COLUMNS: &'static [&'static str] = &["alert_mails", "alert_url", "alert_host"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { mails: row.get()?, sealed_url: row.get()?, host: row.get()? })
    }
}

/// An address that gets a tenant's alerts.
pub struct AlertRecipient {
    /// The address.
    pub email: String,
}

impl FromRow for AlertRecipient {
    const COLUMNS: &'static [&'static str] = &["email"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { email: row.get()? })
    }
}

/// What the mail of a notice is made of.
pub struct NoticeMail {
    /// The address that it goes to.
    pub address: String,
    /// The origin of its link.
    pub origin: String,
    /// Whose notice it is.
    pub of: NoticeOf,
    /// The subject line.
    pub title: &'static str,
    /// A paragraph a line.
    pub text: String,
}

impl FromRow for NoticeMail {
    const COLUMNS: &'static [&'static str] = &["address", "origin", "tenant_id", "kind", "text"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let (address, origin, tenant) = (row.get()?, row.get()?, tenant(row)?);
        let (title, is_billing) = row.parse(|kind| Some((title(kind)?, BillingNotice::parse(kind).is_some())))?;
        let of = match tenant {
            None => NoticeOf::Operators,
            Some(tenant) if is_billing => NoticeOf::Billing(tenant),
            Some(tenant) => NoticeOf::Alert(tenant),
        };
        Ok(Self { address, origin, of, title, text: row.get()? })
    }
}

/// A notice whose message is due.
pub struct NoticeToPost {
    /// Its id.
    pub id: NoticeId,
    /// Whose notice it is; `None`: operators'.
    pub tenant: Option<TenantId>,
    /// Its title.
    pub title: &'static str,
    /// A paragraph a line.
    pub text: String,
    /// Tries so far.
    pub tries: u64,
}

impl FromRow for NoticeToPost {
    const COLUMNS: &'static [&'static str] = &["id", "tenant_id", "kind", "text", "post_tries"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let (id, tenant) = (row.parse(NoticeId::parse)?, tenant(row)?);
        Ok(Self { id, tenant, title: row.parse(title)?, text: row.get()?, tries: row.get()? })
    }
}

/// A key that ends soon.
pub struct ExpiringKey {
    /// Its id.
    pub id: KeyId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Of which environment.
    pub environment: Environment,
    /// When it ends.
    pub expires_at: UnixMillis,
}

impl FromRow for ExpiringKey {
    const COLUMNS: &'static [&'static str] = &["id", "tenant_id", "environment", "expires_ms"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let (id, tenant, environment) =
            (row.parse(KeyId::parse)?, row.parse(TenantId::parse)?, row.parse(Environment::parse)?);
        Ok(Self { id, tenant, environment, expires_at: row.get()? })
    }
}

/// What was wrong at the last check; `None` where another build knows the kind.
pub struct KeptAlertRow(pub Option<KeptAlert>);

impl FromRow for KeptAlertRow {
    const COLUMNS: &'static [&'static str] = &["kind", "subject", "detail", "first_ms", "began_ms", "notified_ms"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let kind = OperatorAlert::parse(&row.get::<String>()?);
        let (subject, detail, first, began, notified) = (row.get()?, row.get()?, row.get()?, row.get()?, row.get()?);
        Ok(Self(kind.map(|kind| KeptAlert { kind, subject, detail, first, began, notified })))
    }
}

/// When checks have changed something last.
pub struct CheckedAt {
    /// That time.
    pub at: UnixMillis,
}

impl FromRow for CheckedAt {
    const COLUMNS: &'static [&'static str] = &["changed_ms"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { at: row.get()? })
    }
}

/// The verifications of an hour in live.
pub struct HourResults {
    /// Those that failed with a status of 500 or more.
    pub faults: u64,
    /// Those that were answered with a verdict.
    pub answered: u64,
}

impl FromRow for HourResults {
    const COLUMNS: &'static [&'static str] = &["faults", "answered"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { faults: row.get()?, answered: row.get()? })
    }
}

//! The rows about webhook endpoints.

use crate::storage::{FromRow, RowReader};
use x402_api::webhook_endpoints::{EndpointView, NewEndpoint};
use x402_chain::id::{EndpointId, TenantId};
use x402_chain::network::Environment;
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::tenancy::tenant::TenantStatus;
use x402_core::tenancy::tier::Tier;
use x402_core::webhook::endpoint::{EndpointStatus, PREVIOUS_SECRET_MS};

/// An endpoint, without its secrets.
pub struct EndpointRow {
    /// Its id.
    pub id: EndpointId,
    /// The environment whose events it gets.
    pub environment: Environment,
    url: String,
    events: Vec<String>,
    description: Option<String>,
    status: EndpointStatus,
    disabled_reason: Option<String>,
    previous_until: Option<UnixMillis>,
    secret_lost: Option<UnixMillis>,
    created_at: UnixMillis,
    updated_at: UnixMillis,
}

impl FromRow for EndpointRow {
    const COLUMNS: &'static [&'static str] = &[
        "id",
        "environment",
        "url",
        "events",
        "description",
        "status",
        "disabled_reason",
        "previous_until_ms",
        "secret_lost_ms",
        "created_ms",
        "updated_ms",
    ];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self {
            id: row.parse(EndpointId::parse)?,
            environment: row.parse(Environment::parse)?,
            url: row.get()?,
            events: row.json()?,
            description: row.get()?,
            status: row.parse(EndpointStatus::parse)?,
            disabled_reason: row.get()?,
            previous_until: row.get()?,
            secret_lost: row.get()?,
            created_at: row.get()?,
            updated_at: row.get()?,
        })
    }
}

impl EndpointRow {
    /// The row of an endpoint that was just made.
    #[must_use]
    pub fn new(id: EndpointId, new: NewEndpoint, now: UnixMillis) -> Self {
        Self {
            id,
            environment: new.environment,
            url: new.url.as_str().to_owned(),
            events: new.events,
            description: new.description,
            status: EndpointStatus::Active,
            disabled_reason: None,
            previous_until: None,
            secret_lost: None,
            created_at: now,
            updated_at: now,
        }
    }

    /// The row after a rotation of its secret.
    #[must_use]
    pub fn rotated(self, now: UnixMillis) -> Self {
        Self { previous_until: Some(now.plus(PREVIOUS_SECRET_MS)), secret_lost: None, updated_at: now, ..self }
    }

    /// The endpoint as its tenant sees it.
    #[must_use]
    pub fn view(self, now: UnixMillis) -> EndpointView {
        EndpointView {
            id: self.id.to_string(),
            environment: self.environment,
            url: self.url,
            events: self.events,
            description: self.description,
            status: self.status,
            disabled_reason: self.disabled_reason,
            previous_secret_until: self.previous_until.filter(|until| *until > now).map(UnixMillis::rfc3339),
            secret_lost_since: self.secret_lost.map(UnixMillis::rfc3339),
            created_at: self.created_at.rfc3339(),
            updated_at: self.updated_at.rfc3339(),
        }
    }
}

/// What a message to an endpoint is sent by.
pub struct TargetRow {
    /// Its tenant.
    pub tenant: TenantId,
    /// The environment whose events it gets.
    pub environment: Environment,
    /// Where messages are sent to.
    pub url: String,
    /// Whether it gets messages.
    pub status: EndpointStatus,
    /// The secret, sealed.
    pub secret_sealed: String,
    /// The secret before it, sealed, and until when that signs too.
    pub previous: Option<(String, UnixMillis)>,
    /// Since when it is noted that no pepper opens the secret.
    pub secret_lost: Option<UnixMillis>,
    tier: Tier,
    tenant_status: TenantStatus,
}

impl FromRow for TargetRow {
    const COLUMNS: &'static [&'static str] = &[
        "tenant_id",
        "environment",
        "url",
        "status",
        "secret_sealed",
        "previous_sealed",
        "previous_until_ms",
        "secret_lost_ms",
        "tier",
        "tenant_status",
    ];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let (tenant, environment) = (row.parse(TenantId::parse)?, row.parse(Environment::parse)?);
        let (url, status) = (row.get()?, row.parse(EndpointStatus::parse)?);
        let (secret_sealed, previous): (String, Option<String>) = (row.get()?, row.get()?);
        Ok(Self {
            tenant,
            environment,
            url,
            status,
            secret_sealed,
            previous: previous.zip(row.get()?),
            secret_lost: row.get()?,
            tier: row.parse(Tier::parse)?,
            tenant_status: row.parse(TenantStatus::parse)?,
        })
    }
}

impl TargetRow {
    /// Whether the tenant is served, and its tier includes webhooks.
    #[must_use]
    pub fn may_deliver(&self) -> bool {
        self.tenant_status == TenantStatus::Active && self.tier.plan().webhooks
    }
}

/// Endpoints with a secret that no pepper opens.
#[derive(Default)]
pub struct LostSecrets {
    /// How many there are.
    pub count: u64,
    /// One of them.
    pub first: Option<String>,
}

impl FromRow for LostSecrets {
    const COLUMNS: &'static [&'static str] = &["count", "first"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { count: row.get()?, first: row.get()? })
    }
}

/// An endpoint that was removed.
pub struct RemovedRow {
    /// Its id.
    pub id: EndpointId,
}

impl FromRow for RemovedRow {
    const COLUMNS: &'static [&'static str] = &["id"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { id: row.parse(EndpointId::parse)? })
    }
}

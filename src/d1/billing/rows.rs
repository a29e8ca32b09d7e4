//! The rows about billing.

use crate::storage::{FromRow, RowReader};
use x402_api::billing::{Holdings, TierBy};
use x402_chain::id::TenantId;
use x402_chain::network::{Environment, find_network};
use x402_chain::time::UnixMillis;
use x402_core::billing::state::BillingState;
use x402_core::error::Fault;
use x402_core::tenancy::tenant::TenantStatus;
use x402_core::tenancy::tier::Tier;

/// What is kept of a tenant's billing.
#[derive(Clone, Debug)]
pub struct BillingRow {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its customer at Stripe.
    pub customer: Option<String>,
    /// Its subscription.
    pub state: Option<BillingState>,
    /// Whether there was a trial.
    pub trial_used: bool,
    /// Since when a charge has failed.
    pub past_due_since: Option<UnixMillis>,
    /// How many reads of Stripe have begun.
    pub ticket: u64,
    /// The number of the read that was written last.
    pub read_ticket: u64,
    /// When something is due by time.
    pub due_at: Option<UnixMillis>,
    /// The mark of what was done last of that.
    pub due_done: Option<String>,
    /// Until when a checkout may be paid.
    pub checkout_until: UnixMillis,
    /// The hash of the address and name that were reported to Stripe last.
    pub customer_told: Option<String>,
    /// The second subscription that was reported last.
    pub surplus_told: Option<String>,
}

impl FromRow for BillingRow {
    const COLUMNS: &'static [&'static str] = &[
        "tenant_id",
        "customer_id",
        "state",
        "trial_used",
        "past_due_ms",
        "ticket",
        "read_ticket",
        "due_ms",
        "due_done",
        "checkout_until_ms",
        "customer_told",
        "surplus_told",
    ];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self {
            tenant: row.parse(TenantId::parse)?,
            customer: row.get()?,
            state: row.optional_json()?,
            trial_used: row.get()?,
            past_due_since: row.get()?,
            ticket: row.get()?,
            read_ticket: row.get()?,
            due_at: row.get()?,
            due_done: row.get()?,
            checkout_until: row.get()?,
            customer_told: row.get()?,
            surplus_told: row.get()?,
        })
    }
}

/// What of a tenant matters to its subscription, but the tier.
#[derive(Clone, Debug)]
pub struct StandingRow {
    /// Its contact address.
    pub email: String,
    /// Its name.
    pub company_name: Option<String>,
    /// Whether its requests are served.
    pub status: TenantStatus,
    /// Who sets its tier.
    pub tier_by: TierBy,
    /// Whether its deletion was confirmed.
    pub is_deleting: bool,
}

impl FromRow for StandingRow {
    const COLUMNS: &'static [&'static str] = &["email", "company_name", "status", "tier_by", "is_deleting"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self {
            email: row.get()?,
            company_name: row.get()?,
            status: row.parse(TenantStatus::parse)?,
            tier_by: row.parse(TierBy::parse)?,
            is_deleting: row.get()?,
        })
    }
}

/// A tenant that has a tier by what is paid, and has never had a subscription.
pub struct UnpaidTierRow {
    /// The tenant.
    pub tenant: TenantId,
    /// Its tier.
    pub tier: Tier,
}

impl FromRow for UnpaidTierRow {
    const COLUMNS: &'static [&'static str] = &["id", "tier"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { tenant: row.parse(TenantId::parse)?, tier: row.parse(Tier::parse)? })
    }
}

/// A customer that a tenant has.
pub struct HeldCustomer(pub String);

impl FromRow for HeldCustomer {
    const COLUMNS: &'static [&'static str] = &["customer_id"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self(row.get()?))
    }
}

/// A change at Stripe that has begun.
pub struct Attempt {
    /// Its number.
    pub number: u64,
    /// Whether a try under this number was broken off before.
    pub is_repeat: bool,
}

impl FromRow for Attempt {
    const COLUMNS: &'static [&'static str] = &["attempt", "is_repeat"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { number: row.get()?, is_repeat: row.get()? })
    }
}

/// The customer that a tenant has.
pub struct KeptCustomer(pub String);

impl FromRow for KeptCustomer {
    const COLUMNS: &'static [&'static str] = &["customer_id"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self(row.get()?))
    }
}

/// A tenant for which something is due.
pub struct DueRow {
    /// The tenant.
    pub tenant: TenantId,
    /// When it was due.
    pub at: UnixMillis,
}

impl FromRow for DueRow {
    const COLUMNS: &'static [&'static str] = &["tenant_id", "due_ms"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { tenant: row.parse(TenantId::parse)?, at: row.get()? })
    }
}

/// A tenant with a customer at Stripe.
pub struct BilledTenant(pub TenantId);

impl FromRow for BilledTenant {
    const COLUMNS: &'static [&'static str] = &["tenant_id"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self(row.parse(TenantId::parse)?))
    }
}

/// A tenant whose price is unknown.
pub struct UnknownPriceRow {
    /// The tenant.
    pub tenant: TenantId,
    /// The price.
    pub price: String,
}

impl FromRow for UnknownPriceRow {
    const COLUMNS: &'static [&'static str] = &["tenant_id", "unknown_price"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { tenant: row.parse(TenantId::parse)?, price: row.get()? })
    }
}

/// What a tenant has, by which tiers differ.
pub struct HoldingsRow(pub Holdings);

impl FromRow for HoldingsRow {
    const COLUMNS: &'static [&'static str] = &["chains", "endpoints", "branding", "oidc"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let chains: Vec<String> = row.json()?;
        let is_live = |key: &String| find_network(key).is_some_and(|network| network.environment == Environment::Live);
        let mut chains: Vec<String> = chains.into_iter().filter(is_live).collect();
        chains.sort();
        let (webhook_endpoints, branding, oidc) = (row.get()?, row.get()?, row.get()?);
        Ok(Self(Holdings { chains, webhook_endpoints, branding, oidc }))
    }
}

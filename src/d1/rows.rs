//! The rows that the directory's statements return, and what they mean.

mod outbox;
mod webhooks;

use crate::storage::{FromRow, RowReader};
pub use outbox::{TenantToLoad, UnshippedEvent};
use x402_api::admin::{KeyView, LimitsView, RecipientView, TenantView};
use x402_api::audit::AuditView;
use x402_api::billing::TierBy;
use x402_chain::address::{Address, Family};
use x402_chain::amount::Amount;
use x402_chain::collect::map_of;
use x402_chain::id::{AuditId, KeyId, TenantId};
use x402_chain::network::Environment;
use x402_chain::registry_check::RegistryCheckOutcome;
use x402_chain::time::UnixMillis;
use x402_core::audit::ActorKind;
use x402_core::error::Fault;
use x402_core::records::rollup::{RollupKey, Total};
use x402_core::tenancy::branding::Branding;
use x402_core::tenancy::key::{KeyHash, KeyKind, prefix};
use x402_core::tenancy::tenant::{ApiKey, OwnLimits, Recipient, Tenant, TenantStatus};
use x402_core::tenancy::tier::Tier;
use x402_core::verdict::SanctionsPolicy;
use x402_core::webhook::subscription::WebhookSubscription;

/// A tenant's row.
pub struct TenantRow {
    /// `ten_…`.
    pub id: TenantId,
    /// How often it was changed; a ledger keeps the copy of the greatest.
    pub version: u64,
    email: String,
    company_name: Option<String>,
    tier: Tier,
    status: TenantStatus,
    region: Option<String>,
    limits: OwnLimits,
    sanctions: SanctionsPolicy,
    explain: bool,
    created_at: UnixMillis,
    tier_by: TierBy,
}

impl FromRow for TenantRow {
    const COLUMNS: &'static [&'static str] = &[
        "id",
        "email",
        "company_name",
        "tier",
        "status",
        "region",
        "limits",
        "sanctions",
        "explain",
        "version",
        "created_ms",
        "tier_by",
    ];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self {
            id: row.parse(TenantId::parse)?,
            email: row.get()?,
            company_name: row.get()?,
            tier: row.parse(Tier::parse)?,
            status: row.parse(TenantStatus::parse)?,
            region: row.get()?,
            limits: row.json()?,
            sanctions: row.parse(SanctionsPolicy::parse)?,
            explain: row.get()?,
            version: row.get()?,
            created_at: row.get()?,
            tier_by: row.parse(TierBy::parse)?,
        })
    }
}

impl TenantRow {
    /// The copy that a ledger holds.
    #[must_use]
    pub fn tenant(
        self,
        environment: Environment,
        keys: Vec<ApiKey>,
        recipients: Vec<Recipient>,
        webhooks: Vec<WebhookSubscription>,
    ) -> Tenant {
        Tenant {
            id: self.id,
            environment,
            version: self.version,
            status: self.status,
            tier: self.tier,
            limits: self.limits,
            sanctions: self.sanctions,
            explain: self.explain,
            company_name: self.company_name,
            region: self.region,
            recipients,
            keys,
            webhooks: Some(webhooks),
        }
    }

    /// What operators read, with the tenant's default recipients: chain and address.
    pub fn view<'a>(&self, defaults: impl Iterator<Item = &'a DefaultRow>) -> TenantView {
        TenantView {
            id: self.id.to_string(),
            email: self.email.clone(),
            company_name: self.company_name.clone(),
            tier: self.tier,
            tier_by: self.tier_by,
            status: self.status,
            region: self.region.clone(),
            recipients: map_of(defaults.map(|default| (default.chain.clone(), default.address.clone()))),
            limits: LimitsView::of(self.tier, &self.limits),
            sanctions: self.sanctions,
            explain: self.explain,
            created_at: self.created_at.rfc3339(),
        }
    }
}

/// A key that is not revoked, as a ledger holds it.
impl FromRow for ApiKey {
    const COLUMNS: &'static [&'static str] =
        &["id", "name", "hash", "scopes", "created_ms", "expires_ms", "allow_list"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self {
            id: row.parse(KeyId::parse)?,
            name: row.get()?,
            hash: row.parse(KeyHash::parse)?,
            scopes: row.json()?,
            created_at: row.get()?,
            expires_at: row.get()?,
            allow_list: row.json()?,
        })
    }
}

/// A key as its tenant and operators read it.
impl FromRow for KeyView {
    const COLUMNS: &'static [&'static str] = &[
        "id",
        "environment",
        "kind",
        "name",
        "last_four",
        "scopes",
        "allow_list",
        "created_ms",
        "expires_ms",
        "rotated_from",
        "grace_until_ms",
        "revoked_ms",
        "last_used_ms",
    ];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let optional = |at: Option<UnixMillis>| at.map(UnixMillis::rfc3339);
        let id = row.parse(KeyId::parse)?.to_string();
        let (environment, kind) = (row.parse(Environment::parse)?, row.parse(KeyKind::parse)?);
        Ok(Self {
            id,
            environment,
            kind,
            name: row.get()?,
            prefix: prefix(kind, environment),
            last_four: row.get()?,
            scopes: row.json()?,
            allow_list: row.json()?,
            created_at: row.get::<UnixMillis>()?.rfc3339(),
            expires_at: optional(row.get()?),
            rotated_from: row.get()?,
            grace_until: optional(row.get()?),
            revoked_at: optional(row.get()?),
            last_used_at: optional(row.get()?),
        })
    }
}

/// A JSON list of texts, or null.
fn optional_list(row: &mut RowReader) -> Result<Option<Vec<String>>, Fault> {
    let list = row.get::<Option<String>>()?.map(|text| serde_json::from_str(&text));
    list.transpose().map_err(|_| row.unreadable("is text of another form"))
}

fn address_of(text: &str) -> Option<Address> {
    Address::parse(if text.starts_with("0x") { Family::Evm } else { Family::Svm }, text)
}

/// A recipient in force, as a ledger holds it.
pub struct AddressRow {
    /// The address.
    pub address: Address,
    /// The same as it is stored.
    pub text: String,
    /// Whether the tenant holds it by its first use alone.
    pub first_use: bool,
    /// The chains on which alone it is the tenant's; `None`: all of its family.
    pub only_on: Option<Vec<String>>,
}

impl FromRow for AddressRow {
    const COLUMNS: &'static [&'static str] = &["address", "first_use", "only_on"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let (address, text) = row.parse(|text| Some((address_of(text)?, text.to_owned())))?;
        Ok(Self { address, text, first_use: row.get()?, only_on: optional_list(row)? })
    }
}

/// A recipient as operators read it.
pub struct RecipientRow {
    environment: Environment,
    address: String,
    only_on: Option<Vec<String>>,
    proof: Option<String>,
    created_at: UnixMillis,
    removed_at: Option<UnixMillis>,
}

impl FromRow for RecipientRow {
    const COLUMNS: &'static [&'static str] =
        &["environment", "address", "only_on", "proof", "created_ms", "removed_ms"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self {
            environment: row.parse(Environment::parse)?,
            address: row.get()?,
            only_on: optional_list(row)?,
            proof: row.get()?,
            created_at: row.get()?,
            removed_at: row.get()?,
        })
    }
}

impl RecipientRow {
    /// What operators read, with the chains whose default it is.
    #[must_use]
    pub fn view(&self, defaults: &[DefaultRow]) -> RecipientView {
        let own = defaults.iter().filter(|default| {
            let network = x402_chain::network::by_key(&default.chain);
            default.address == self.address && network.is_some_and(|network| network.environment == self.environment)
        });
        RecipientView {
            address: self.address.clone(),
            environment: self.environment,
            only_on: self.only_on.clone(),
            proof: self.proof.clone(),
            default_for: own.map(|default| default.chain.clone()).collect(),
            created_at: self.created_at.rfc3339(),
            removed_at: self.removed_at.map(UnixMillis::rfc3339),
        }
    }
}

/// A challenge whose signature is checked.
pub struct ChallengeRow {
    /// The origin of the service that asked.
    pub service: String,
    /// Until when the signature counts.
    pub expires_at: UnixMillis,
}

impl FromRow for ChallengeRow {
    const COLUMNS: &'static [&'static str] = &["service", "expires_ms"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { service: row.get()?, expires_at: row.get()? })
    }
}

/// What a tenant shows of itself.
pub struct AppearanceRow {
    /// The address for buyers' questions.
    pub support_address: Option<String>,
    /// Its branding as it is stored, whatever its tier.
    pub branding: Option<Branding>,
    /// The tier, which may show no branding.
    pub tier: Tier,
}

impl FromRow for AppearanceRow {
    const COLUMNS: &'static [&'static str] = &["support_address", "branding", "tier"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let support_address = row.get()?;
        let branding = row.get::<Option<String>>()?.map(|text| serde_json::from_str(&text));
        let branding = branding.transpose().map_err(|_| row.unreadable("is text of another form"))?;
        Ok(Self { support_address, branding, tier: row.parse(Tier::parse)? })
    }
}

/// The index of a child of the operator's key.
pub struct ChildRow {
    /// The BIP-32 index.
    pub number: u32,
}

impl FromRow for ChildRow {
    const COLUMNS: &'static [&'static str] = &["number"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { number: row.get()? })
    }
}

/// A tenant that loses an address.
pub struct PreviousHolderRow {
    /// The tenant; `None` where none loses it.
    pub tenant: Option<TenantId>,
}

impl FromRow for PreviousHolderRow {
    const COLUMNS: &'static [&'static str] = &["tenant_id"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let tenant = row.get::<Option<String>>()?.map(|text| TenantId::parse(&text).ok_or(text));
        let tenant = tenant.transpose().map_err(|_| row.unreadable("is text of another form"))?;
        Ok(Self { tenant })
    }
}

/// A tenant's default recipient on a chain.
pub struct DefaultRow {
    /// Our key of the chain.
    pub chain: String,
    /// The address as it is stored: checksummed on EVM, base58 on Solana.
    pub address: String,
}

impl FromRow for DefaultRow {
    const COLUMNS: &'static [&'static str] = &["chain", "address"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { chain: row.get()?, address: row.get()? })
    }
}

/// The same of one of many tenants.
pub struct TenantDefaultRow {
    /// The tenant whose default it is.
    pub tenant: TenantId,
    /// The chain and the address.
    pub default: DefaultRow,
}

impl FromRow for TenantDefaultRow {
    const COLUMNS: &'static [&'static str] = &["tenant_id", "chain", "address"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { tenant: row.parse(TenantId::parse)?, default: DefaultRow::from_row(row)? })
    }
}

/// A record, by its id.
pub struct RecordBody {
    /// The answer, as JSON.
    pub body: String,
}

impl FromRow for RecordBody {
    const COLUMNS: &'static [&'static str] = &["body"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { body: row.get()? })
    }
}

/// A record or a settlement as it is listed.
pub struct ListedRecord {
    /// `ver_…` or `stl_…`.
    pub id: String,
    /// As it is answered, JSON.
    pub body: String,
}

impl FromRow for ListedRecord {
    const COLUMNS: &'static [&'static str] = &["id", "body"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { id: row.get()?, body: row.get()? })
    }
}

/// A total of records of an hour.
pub struct RollupRow(pub RollupKey, pub Total);

impl FromRow for RollupRow {
    const COLUMNS: &'static [&'static str] = &["start_ms", "chain", "outcome", "count", "amount", "revision"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let key = RollupKey { start: row.get()?, chain: row.get()?, outcome: row.get()? };
        let count = row.get()?;
        Ok(Self(key, Total { count, amount: row.parse(Amount::parse_atomic)?, revision: row.get()? }))
    }
}

/// A tenant's ledger whose period is over and not closed in the directory.
pub struct OpenPeriod {
    /// The tenant, whose ledger ships its rows first.
    pub tenant: TenantId,
    /// The environment of that ledger.
    pub environment: Environment,
    /// The month, as `2026-11`.
    pub period: String,
}

impl FromRow for OpenPeriod {
    const COLUMNS: &'static [&'static str] = &["tenant_id", "environment", "period"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let (tenant, environment) = (row.parse(TenantId::parse)?, row.parse(Environment::parse)?);
        Ok(Self { tenant, environment, period: row.get()? })
    }
}

/// How many flights are stuck on a chain.
pub struct StuckRow {
    /// Our key of the chain.
    pub chain: String,
    /// The number of flights that cannot be carried on, of all signers.
    pub number: u64,
}

impl FromRow for StuckRow {
    const COLUMNS: &'static [&'static str] = &["chain", "number"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { chain: row.get()?, number: row.get()? })
    }
}

/// The registry check's last definite outcome on a chain.
pub struct CheckRow {
    /// Our key of the chain.
    pub chain: String,
    /// The last definite outcome; `Unreachable` only where the chain was never reached.
    pub outcome: RegistryCheckOutcome,
}

impl FromRow for CheckRow {
    const COLUMNS: &'static [&'static str] = &["chain", "outcome"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { chain: row.get()?, outcome: row.parse(RegistryCheckOutcome::parse)? })
    }
}

/// An entry of the audit log.
pub struct AuditRow {
    /// The entry as owners read it.
    pub entry: AuditView,
}

impl FromRow for AuditRow {
    const COLUMNS: &'static [&'static str] =
        &["id", "actor_kind", "actor_id", "action", "subject", "detail", "ip_prefix", "user_agent", "created_ms"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        let id = row.parse(AuditId::parse)?.to_string();
        let (actor_kind, actor) = (row.parse(ActorKind::parse)?, row.get()?);
        let (action, subject, detail) = (row.get()?, row.get()?, row.get()?);
        let (ip_prefix, user_agent) = (row.get()?, row.get()?);
        let created_at = row.get::<UnixMillis>()?.rfc3339();
        let entry = AuditView { id, created_at, actor_kind, actor, action, subject, detail, ip_prefix, user_agent };
        Ok(Self { entry })
    }
}

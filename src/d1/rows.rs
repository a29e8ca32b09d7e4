//! The directory's rows as D1 returns them, and their conversion. Numbers are JavaScript's: exact up to 2^53.

use serde::Deserialize;
use x402_api::admin::{KeyView, LimitsView, RecipientView, TenantView};
use x402_chain::address::{Address, Family};
use x402_chain::id::{KeyId, TenantId};
use x402_chain::network::Environment;
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::tenancy::key::{KeyHash, KeyKind};
use x402_core::tenancy::tenant::{ApiKey, OwnLimits, Recipient, Scope, Tenant, TenantStatus};
use x402_core::tenancy::tier::Tier;
use x402_core::verdict::SanctionsPolicy;

fn unreadable_column(what: &str) -> Fault {
    Fault::internal(format!("a row of the directory has no readable {what}"))
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct TenantRow {
    id: String,
    email: String,
    company_name: Option<String>,
    tier: String,
    status: String,
    region: Option<String>,
    limits: String,
    sanctions: String,
    explain: u64,
    version: u64,
    created_ms: u64,
}

impl TenantRow {
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    fn limits(&self) -> Result<OwnLimits, Fault> {
        serde_json::from_str(&self.limits).map_err(|_| unreadable_column("limits"))
    }

    fn tier(&self) -> Result<Tier, Fault> {
        Tier::parse(&self.tier).ok_or_else(|| unreadable_column("tier"))
    }

    fn status(&self) -> Result<TenantStatus, Fault> {
        TenantStatus::parse(&self.status).ok_or_else(|| unreadable_column("status"))
    }

    fn sanctions(&self) -> Result<SanctionsPolicy, Fault> {
        SanctionsPolicy::parse(&self.sanctions).ok_or_else(|| unreadable_column("sanctions policy"))
    }

    pub(super) fn tenant(
        self,
        environment: Environment,
        keys: Vec<ApiKey>,
        recipients: Vec<Recipient>,
    ) -> Result<Tenant, Fault> {
        Ok(Tenant {
            id: TenantId::parse(&self.id).ok_or_else(|| unreadable_column("id"))?,
            environment,
            version: self.version,
            status: self.status()?,
            tier: self.tier()?,
            limits: self.limits()?,
            sanctions: self.sanctions()?,
            explain: self.explain != 0,
            company_name: self.company_name,
            region: self.region,
            recipients,
            keys,
        })
    }

    pub(super) fn view<'a>(&self, defaults: impl Iterator<Item = &'a DefaultRow>) -> Result<TenantView, Fault> {
        let tier = self.tier()?;
        Ok(TenantView {
            id: self.id.clone(),
            email: self.email.clone(),
            company_name: self.company_name.clone(),
            tier,
            status: self.status()?,
            region: self.region.clone(),
            recipients: defaults.map(|default| (default.chain.clone(), default.address.clone())).collect(),
            limits: LimitsView::of(tier, &self.limits()?),
            sanctions: self.sanctions()?,
            explain: self.explain != 0,
            created_at: UnixMillis(self.created_ms).rfc3339(),
        })
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct KeyRow {
    id: String,
    environment: Option<String>,
    kind: Option<String>,
    name: String,
    hash: String,
    scopes: String,
    created_ms: u64,
    expires_ms: Option<u64>,
    revoked_ms: Option<u64>,
    last_used_ms: Option<u64>,
}

impl KeyRow {
    fn scopes(&self) -> Result<Vec<Scope>, Fault> {
        serde_json::from_str(&self.scopes).map_err(|_| unreadable_column("scopes"))
    }

    pub(super) fn key(self) -> Result<ApiKey, Fault> {
        Ok(ApiKey {
            id: KeyId::parse(&self.id).ok_or_else(|| unreadable_column("key id"))?,
            hash: KeyHash::parse(&self.hash).ok_or_else(|| unreadable_column("key hash"))?,
            scopes: self.scopes()?,
            name: self.name,
            created_at: UnixMillis(self.created_ms),
            expires_at: self.expires_ms.map(UnixMillis),
        })
    }

    pub(super) fn view(&self) -> Result<KeyView, Fault> {
        let time = |ms: Option<u64>| ms.map(|ms| UnixMillis(ms).rfc3339());
        let environment = self.environment.as_deref().and_then(Environment::parse);
        Ok(KeyView {
            id: self.id.clone(),
            name: self.name.clone(),
            environment: environment.ok_or_else(|| unreadable_column("environment"))?,
            kind: self.kind.as_deref().and_then(KeyKind::parse).ok_or_else(|| unreadable_column("kind"))?,
            scopes: self.scopes()?,
            created_at: UnixMillis(self.created_ms).rfc3339(),
            expires_at: time(self.expires_ms),
            revoked_at: time(self.revoked_ms),
            last_used_at: time(self.last_used_ms),
        })
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct RecipientRow {
    environment: Option<String>,
    pub(super) address: String,
    created_ms: Option<u64>,
    removed_ms: Option<u64>,
    first_use: Option<u8>,
}

impl RecipientRow {
    /// Whether the tenant holds it only by its first use.
    pub(super) fn is_first_use(&self) -> bool {
        self.first_use == Some(1)
    }

    pub(super) fn address(&self) -> Option<Address> {
        let family = if self.address.starts_with("0x") { Family::Evm } else { Family::Svm };
        Address::parse(family, &self.address)
    }

    pub(super) fn view(&self, defaults: &[DefaultRow]) -> Result<RecipientView, Fault> {
        let environment = self.environment.as_deref().and_then(Environment::parse);
        let environment = environment.ok_or_else(|| unreadable_column("environment"))?;
        let own = defaults.iter().filter(|default| {
            let network = x402_chain::network::by_key(&default.chain);
            default.address == self.address && network.is_some_and(|network| network.environment == environment)
        });
        Ok(RecipientView {
            address: self.address.clone(),
            environment,
            default_for: own.map(|default| default.chain.clone()).collect(),
            created_at: UnixMillis(self.created_ms.unwrap_or(0)).rfc3339(),
            removed_at: self.removed_ms.map(|ms| UnixMillis(ms).rfc3339()),
        })
    }
}

/// A row with one number.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct NumberRow {
    pub(super) number: u64,
}

/// A tenant that loses an address.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct PreviousHolderRow {
    pub(super) tenant_id: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct DefaultRow {
    pub(super) tenant_id: Option<String>,
    pub(super) chain: String,
    pub(super) address: String,
}

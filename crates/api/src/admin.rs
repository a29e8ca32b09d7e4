//! The operators' routes: request bodies, and what they are answered with.

mod view;

use super::body::{RequestMembers, invalid, missing};
use serde_json::Value;
use std::collections::BTreeMap;
pub use view::{
    FirstKeys, KeyAlone, KeyCreated, KeyView, LimitsView, RecipientAlone, RecipientView, TenantAlone, TenantCreated,
    TenantView,
};
use x402_chain::address::{Address, Family};
use x402_chain::network;
use x402_chain::network::{Environment, NETWORKS, Network};
use x402_chain::time::UnixMillis;
use x402_core::error::{ErrorCode, Fault};
use x402_core::tenancy::key::KeyKind;
use x402_core::tenancy::tenant::{OwnLimits, REGIONS, Scope, TenantStatus};
use x402_core::tenancy::tier::Tier;
use x402_core::verdict::SanctionsPolicy;

const EMAIL_BYTES_MAX: usize = 254;
const NAME_BYTES_MAX: usize = 200;
/// The most keys of a tenant, without revoked ones: the ledger's copy stays small.
pub const KEYS_MAX: usize = 100;
/// The most addresses of a tenant in an environment, for the same reason.
pub const RECIPIENTS_MAX: usize = 1_000;
/// The greatest limit of requests: far above what one ledger can serve.
const LIMIT_MAX: u64 = 1_000_000_000;

/// The text in place of an address that the service is to derive.
const DERIVE: &str = "derive";

/// An address to register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewAddress {
    /// The address that the body names.
    Given(Address),
    /// The next child of the operator's extended public key (EVM).
    Derived,
}

/// A default recipient to set (`Some`) or to remove (`None`).
pub type RecipientChange = (&'static Network, Option<NewAddress>);

/// The body of `POST /v1/admin/tenants`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTenant {
    /// Its e-mail address, in lower case.
    pub email: String,
    /// The company's name.
    pub company_name: Option<String>,
    /// The tier, which sets limits and chains.
    pub tier: Tier,
    /// Where its ledgers are to live.
    pub region: Option<&'static str>,
    /// Its default recipients.
    pub recipients: Vec<(&'static Network, NewAddress)>,
    /// Limits of this tenant, in place of its tier's.
    pub limits: OwnLimits,
    /// What a listed payer means to it.
    pub sanctions: SanctionsPolicy,
    /// Whether a settle's success holds our additions in its body too.
    pub explain: bool,
}

/// The body of `PATCH /v1/admin/tenants/{id}`: what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantChange {
    /// A contact address; it is not verified.
    pub email: Option<String>,
    /// Its name; `Some(None)` removes it.
    pub company_name: Option<Option<String>>,
    /// The tier, which sets limits and chains.
    pub tier: Option<Tier>,
    /// Whether its requests are served: `active`, `suspended` or `cancelled`.
    pub status: Option<TenantStatus>,
    /// Default recipients to set or remove.
    pub recipients: Vec<RecipientChange>,
    /// A JSON merge patch of its own limits (RFC 7396).
    pub limits: BTreeMap<&'static str, Option<i64>>,
    /// What a listed payer means to it.
    pub sanctions: Option<SanctionsPolicy>,
    /// Whether a settle's success holds our additions in its body too.
    pub explain: Option<bool>,
}

/// The body of `POST …/api-keys`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKey {
    /// The name that its owner gives it.
    pub name: String,
    /// The environment that the key belongs to.
    pub environment: Environment,
    /// Whether the key is sent in a header or in the path.
    pub kind: KeyKind,
    /// The scopes that the key is given.
    pub scopes: Vec<Scope>,
    /// When it expires; `None`: never.
    pub expires_at: Option<UnixMillis>,
}

/// The body of `POST …/recipients`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRecipient {
    /// The chain whose default recipient this becomes, or whose family a derived address follows.
    pub network: &'static Network,
    /// The address, or that it is to be derived.
    pub address: NewAddress,
    /// Whether it is the chain's default; where absent: if the chain has none.
    pub default: Option<bool>,
}

/// Reads a new tenant.
///
/// # Errors
/// `INVALID_JSON`, `INVALID_REQUEST`, `INVALID_CHAIN`.
pub fn new_tenant(body: &[u8]) -> Result<NewTenant, Fault> {
    let mut members = RequestMembers::read(body)?;
    let mut recipients = Vec::new();
    for (network, address) in recipient_changes(&mut members)? {
        recipients.push((network, address.ok_or_else(|| invalid("recipients", "must hold addresses"))?));
    }
    let limits = limit_changes(&mut members)?;
    let unsigned = |name: &str| limits.get(name).copied().flatten().and_then(|limit| u64::try_from(limit).ok());
    let tenant = NewTenant {
        email: read_email(&mut members)?.ok_or_else(|| missing("email"))?,
        company_name: members.text("company_name", NAME_BYTES_MAX)?,
        tier: members.typed("tier", TIER_RULE)?.unwrap_or(Tier::Free),
        region: read_region(&mut members)?,
        recipients,
        limits: OwnLimits {
            per_minute: unsigned("per_minute"),
            per_hour: unsigned("per_hour"),
            per_month: limits.get("per_month").copied().flatten(),
        },
        sanctions: members.typed("sanctions", SANCTIONS_RULE)?.unwrap_or_default(),
        explain: members.typed("explain", EXPLAIN_RULE)?.unwrap_or(false),
    };
    members.done()?;
    Ok(tenant)
}

const TIER_RULE: &str = "must be 'free', 'starter', 'pro' or 'enterprise'";
const SANCTIONS_RULE: &str = "must be 'refuse' or 'report'";
const EXPLAIN_RULE: &str = "must be true or false";

/// Reads a change.
///
/// # Errors
/// `INVALID_JSON`, `INVALID_REQUEST`, `INVALID_CHAIN`.
pub fn tenant_change(body: &[u8]) -> Result<TenantChange, Fault> {
    let mut members = RequestMembers::read(body)?;
    if members.raw("region").is_some() {
        return Err(invalid("region", "is chosen when the tenant is made and cannot be changed"));
    }
    let no_name = members.is_null("company_name");
    let name = members.text("company_name", NAME_BYTES_MAX)?;
    let change = TenantChange {
        email: read_email(&mut members)?,
        company_name: if no_name { Some(None) } else { name.map(Some) },
        tier: members.typed("tier", TIER_RULE)?,
        status: members.typed("status", "must be 'active', 'suspended' or 'cancelled'")?,
        recipients: recipient_changes(&mut members)?,
        limits: limit_changes(&mut members)?,
        sanctions: members.typed("sanctions", SANCTIONS_RULE)?,
        explain: members.typed("explain", EXPLAIN_RULE)?,
    };
    members.done()?;
    Ok(change)
}

fn read_email(members: &mut RequestMembers) -> Result<Option<String>, Fault> {
    let Some(text) = members.text("email", EMAIL_BYTES_MAX)? else { return Ok(None) };
    // Only a sent mail can show that an address exists; this refuses what cannot be an address.
    let shaped = text.split_once('@').is_some_and(|(name, host)| {
        !name.is_empty() && !host.is_empty() && !host.contains('@') && !text.contains(char::is_whitespace)
    });
    if shaped { Ok(Some(text.to_lowercase())) } else { Err(invalid("email", "must be an e-mail address")) }
}

fn read_region(members: &mut RequestMembers) -> Result<Option<&'static str>, Fault> {
    let Some(name) = members.text("region", 16)? else { return Ok(None) };
    let known = REGIONS.into_iter().find(|region| *region == name);
    known.map(Some).ok_or_else(|| invalid("region", &format!("must be one of {}", REGIONS.join(", "))))
}

fn recipient_changes(members: &mut RequestMembers) -> Result<Vec<RecipientChange>, Fault> {
    let map: Option<BTreeMap<String, Option<String>>> =
        members.typed("recipients", "must be an object of chains and addresses")?;
    let mut changes = Vec::new();
    for (chain, text) in map.unwrap_or_default() {
        let param = format!("recipients.{chain}");
        let network = find_chain(&chain, &param)?;
        let address = text.map(|text| read_new_address(network, &text, &param)).transpose()?;
        changes.push((network, address));
    }
    Ok(changes)
}

fn find_chain(chain: &str, param: &str) -> Result<&'static Network, Fault> {
    let param = param.chars().take(80).collect::<String>();
    network::find_network(chain).ok_or_else(|| Fault::new(ErrorCode::InvalidChain, "no such chain").at(param))
}

fn read_new_address(network: &Network, text: &str, param: &str) -> Result<NewAddress, Fault> {
    if text == DERIVE {
        let derivable = network.family == Family::Evm;
        return if derivable {
            Ok(NewAddress::Derived)
        } else {
            Err(invalid(param, "cannot be derived on this chain"))
        };
    }
    let address = Address::parse(network.family, text).filter(|address| !address.is_zero());
    let of_token = address == Some(network.asset.address);
    address
        .filter(|_| !of_token)
        .map(NewAddress::Given)
        .ok_or_else(|| invalid(param, "must be an address of the chain, not zero, not the token"))
}

fn limit_changes(members: &mut RequestMembers) -> Result<BTreeMap<&'static str, Option<i64>>, Fault> {
    let rule = "must be an object of per_minute, per_hour and per_month";
    let mut given: BTreeMap<String, Option<Value>> = members.typed("limits", rule)?.unwrap_or_default();
    let mut changes = BTreeMap::new();
    for (name, unlimited) in [("per_minute", false), ("per_hour", false), ("per_month", true)] {
        let Some(value) = given.remove(name) else { continue };
        let limit = value
            .as_ref()
            .map(|value| read_limit(value, unlimited))
            .transpose()
            .map_err(|rule| invalid(&format!("limits.{name}"), rule))?;
        changes.insert(name, limit);
    }
    match given.into_keys().next() {
        Some(other) => {
            Err(invalid(&format!("limits.{}", other.chars().take(64).collect::<String>()), "is not a limit"))
        }
        None => Ok(changes),
    }
}

fn read_limit(value: &Value, unlimited: bool) -> Result<i64, &'static str> {
    match value.as_i64() {
        Some(-1) if unlimited => Ok(-1),
        Some(limit) if u64::try_from(limit).is_ok_and(|limit| limit <= LIMIT_MAX) => Ok(limit),
        Some(_) | None => Err("must be a whole number from 0 to 1000000000 (per_month also -1, unlimited)"),
    }
}

/// Reads a new key.
///
/// # Errors
/// `INVALID_JSON`, `INVALID_REQUEST`.
pub fn new_key(body: &[u8], now: UnixMillis) -> Result<NewKey, Fault> {
    let mut members = RequestMembers::read(body)?;
    let expires_at = match members.text("expires_at", 40)? {
        None => None,
        Some(text) => Some(
            UnixMillis::parse(&text)
                .filter(|end| *end > now)
                .ok_or_else(|| invalid("expires_at", "must be a time to come, in RFC 3339"))?,
        ),
    };
    let scopes: Option<Vec<Scope>> =
        members.typed("scopes", "must be a list of 'verify', 'settle', 'analytics', 'manage'")?;
    let kind: KeyKind = members.typed("kind", "must be 'bearer' or 'url'")?.unwrap_or_default();
    let all_of_kind: &[Scope] = match kind {
        KeyKind::Bearer => &Scope::ALL,
        KeyKind::Url => &Scope::IN_URL,
    };
    let mut scopes =
        scopes.unwrap_or_else(|| Scope::FIRST.to_vec().into_iter().filter(|it| all_of_kind.contains(it)).collect());
    scopes.sort_unstable();
    scopes.dedup();
    if scopes.iter().any(|scope| !all_of_kind.contains(scope)) {
        return Err(invalid("scopes", "of a key of the kind 'url' may only be 'verify' and 'settle'"));
    }
    let key = NewKey {
        name: members.text("name", NAME_BYTES_MAX)?.ok_or_else(|| missing("name"))?,
        environment: members.typed("environment", "must be 'live' or 'test'")?.ok_or_else(|| missing("environment"))?,
        kind,
        scopes,
        expires_at,
    };
    members.done()?;
    if key.scopes.is_empty() { Err(invalid("scopes", "must not be empty")) } else { Ok(key) }
}

/// Reads a new recipient.
///
/// # Errors
/// `INVALID_JSON`, `INVALID_REQUEST`, `INVALID_CHAIN`.
pub fn new_recipient(body: &[u8]) -> Result<NewRecipient, Fault> {
    let mut members = RequestMembers::read(body)?;
    let chain = members.text("chain", 64)?.ok_or_else(|| missing("chain"))?;
    let network = find_chain(&chain, "chain")?;
    let text = members.text("address", 64)?.ok_or_else(|| missing("address"))?;
    let recipient = NewRecipient {
        network,
        address: read_new_address(network, &text, "address")?,
        default: members.typed("default", "must be true or false")?,
    };
    members.done()?;
    Ok(recipient)
}

/// Reads the body of `POST /v1/admin/chains/check`: which chains, all where absent.
///
/// # Errors
/// `INVALID_JSON`, `INVALID_REQUEST`, `INVALID_CHAIN`.
pub fn chains_to_check(body: &[u8]) -> Result<Vec<&'static Network>, Fault> {
    if body.is_empty() {
        return Ok(NETWORKS.iter().collect());
    }
    let mut members = RequestMembers::read(body)?;
    let named: Option<Vec<String>> = members.typed("chains", "must be a list of chains")?;
    members.done()?;
    match named {
        None => Ok(NETWORKS.iter().collect()),
        Some(names) => names.iter().map(|name| find_chain(name, "chains")).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const MERCHANT: &str = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C";

    fn create(body: &Value) -> Result<NewTenant, Fault> {
        new_tenant(body.to_string().as_bytes())
    }

    #[test]
    fn a_tenant_needs_an_email_and_nothing_else() {
        let tenant = create(&json!({"email": "Ann@Example.com"})).expect("reads");
        assert_eq!((tenant.email.as_str(), tenant.tier), ("ann@example.com", Tier::Free));
        let full = json!({"email": "a@b", "company_name": "B", "tier": "pro", "region": "weur",
            "recipients": {"base": MERCHANT, "eip155:137": MERCHANT}, "limits": {"per_minute": 5, "per_month": -1}});
        let tenant = create(&full).expect("reads");
        assert_eq!(tenant.recipients.len(), 2);
        let derived = create(&json!({"email": "a@b", "recipients": {"base": "derive"}})).expect("reads");
        assert_eq!(derived.recipients.first().map(|(_, address)| *address), Some(NewAddress::Derived));
        assert_eq!(tenant.limits, OwnLimits { per_minute: Some(5), per_hour: None, per_month: Some(-1) });
    }

    #[test]
    fn every_wrong_member_of_a_tenant_is_named() {
        for (wrong, param) in [
            (json!({}), "email"),
            (json!({"email": "nobody"}), "email"),
            (json!({"email": "a@b", "tier": "gold"}), "tier"),
            (json!({"email": "a@b", "region": "mars"}), "region"),
            (json!({"email": "a@b", "recipients": {"base": "0x1"}}), "recipients.base"),
            (json!({"email": "a@b", "recipients": {"doge": MERCHANT}}), "recipients.doge"),
            (json!({"email": "a@b", "recipients": {"solana": "derive"}}), "recipients.solana"),
            (json!({"email": "a@b", "limits": {"per_minute": -1}}), "limits.per_minute"),
            (json!({"email": "a@b", "limits": {"per_day": 1}}), "limits.per_day"),
            (json!({"email": "a@b", "status": "active"}), "status"),
        ] {
            let fault = create(&wrong).expect_err(&wrong.to_string());
            assert_eq!(fault.param.as_deref(), Some(param), "{wrong}");
        }
    }

    #[test]
    fn a_change_tells_removal_from_absence() {
        let read = |body: Value| tenant_change(body.to_string().as_bytes());
        let change = read(json!({"company_name": null, "recipients": {"base": null}, "limits": {"per_hour": null}}));
        let change = change.expect("reads");
        assert_eq!(change.company_name, Some(None));
        assert_eq!(change.recipients.first().map(|(_, address)| *address), Some(None));
        assert_eq!(change.limits.get("per_hour"), Some(&None));
        assert_eq!(change.email, None);
        assert_eq!(read(json!({"region": "weur"})).map_err(|fault| fault.param), Err(Some("region".into())));
    }

    #[test]
    fn a_key_ends_in_the_future() {
        let now = UnixMillis(1_795_233_600_000);
        let read = |body: Value| new_key(body.to_string().as_bytes(), now);
        let key = read(json!({"name": "ci", "environment": "test", "scopes": ["verify", "verify"]})).expect("reads");
        assert_eq!(key.scopes, [Scope::Verify]);
        assert!(read(json!({"name": "ci", "environment": "test", "expires_at": "2020-01-01T00:00:00Z"})).is_err());
        assert!(read(json!({"name": "ci", "environment": "test", "scopes": []})).is_err());
        assert!(read(json!({"environment": "test"})).is_err());
        assert_eq!(
            (key.kind, read(json!({"name": "ci", "environment": "test", "kind": "path"})).is_err()),
            (KeyKind::Bearer, true)
        );
    }

    #[test]
    fn a_key_for_urls_verifies_and_settles_and_nothing_else() {
        let read = |scopes: Value| {
            let body = json!({"name": "shop", "environment": "live", "kind": "url", "scopes": scopes});
            new_key(body.to_string().as_bytes(), UnixMillis(0)).map(|key| (key.kind, key.scopes))
        };
        assert_eq!(read(Value::Null), Ok((KeyKind::Url, vec![Scope::Verify, Scope::Settle])));
        assert_eq!(read(json!(["settle"])), Ok((KeyKind::Url, vec![Scope::Settle])));
        for more in ["analytics", "manage"] {
            let refused = read(json!(["verify", more])).map_err(|fault| fault.param);
            assert_eq!(refused, Err(Some("scopes".into())), "{more}");
        }
    }
}

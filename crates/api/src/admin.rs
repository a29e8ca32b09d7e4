//! The operators' routes: what their request bodies mean, and the bodies of their answers.

mod body;
mod view;

use super::body::{check_text, invalid, parse_body};
use crate::billing::TierBy;
pub use body::{ChainsCheckBody, KeyBody, LimitsBody, RecipientBody, TenantBody, TenantPatchBody};
use std::collections::BTreeMap;
pub use view::{
    FirstKeys, KeyAlone, KeyCreated, KeyView, LimitsView, RecipientAlone, RecipientView, TenantAlone, TenantCreated,
    TenantView,
};
use x402_chain::address::{Address, Family};
use x402_chain::collect::set_of;
use x402_chain::network;
use x402_chain::network::{Environment, NETWORKS, Network};
use x402_chain::time::UnixMillis;
use x402_core::error::{ErrorCode, Fault};
use x402_core::tenancy::allow_list::{AllowedNetwork, NETWORKS_MAX};
use x402_core::tenancy::key::KeyKind;
use x402_core::tenancy::tenant::{OwnLimits, REGIONS, Scope, TenantStatus};
use x402_core::tenancy::tier::Tier;
use x402_core::verdict::SanctionsPolicy;

const EMAIL_BYTES_MAX: usize = 254;
const NAME_BYTES_MAX: usize = 200;
/// The most keys of a tenant, without revoked ones: the ledger's copy stays small.
pub const KEYS_MAX: usize = 100;
/// The most with those that a rotation adds: old keys hold beside new ones for a time.
pub const ROTATED_MAX: usize = 200;
/// The most addresses of a tenant in an environment, for the same reason.
pub const RECIPIENTS_MAX: usize = 1_000;
/// The most addresses of a tenant, retired ones included.
pub const RECIPIENT_ROWS_MAX: usize = 4_000;

/// Checks that a tenant that has `all` these addresses may have one more; `None` is an address that nobody has. One that the
/// tenant has in force is none more.
///
/// # Errors
/// `INVALID_REQUEST`.
pub fn check_room(all: &[RecipientView], new: Option<(&Address, Environment)>) -> Result<(), Fault> {
    let own = new.and_then(|(address, environment)| {
        let text = address.to_string();
        all.iter().find(|each| each.address == text && each.environment == environment)
    });
    let in_force = all.iter().filter(|each| each.removed_at.is_none()).count();
    let too_many = match own {
        Some(own) if own.removed_at.is_none() => return Ok(()),
        Some(_) => in_force >= RECIPIENTS_MAX,
        None => in_force >= RECIPIENTS_MAX || all.len() >= RECIPIENT_ROWS_MAX,
    };
    if !too_many {
        return Ok(());
    }
    let rule = format!(
        "is one too many: a tenant can have {RECIPIENTS_MAX} addresses, and {RECIPIENT_ROWS_MAX} with those it has retired"
    );
    Err(invalid("address", &rule))
}
/// The greatest limit that a tenant may have, requests or verdicts: far above what one ledger can serve.
const LIMIT_MAX: i64 = 1_000_000_000;

/// The text that a body has in place of an address, for an address that the service derives.
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
pub(crate) type RecipientChange = (&'static Network, Option<NewAddress>);

/// A tenant to make.
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
    /// What a payer on the sanctions list means.
    pub sanctions: SanctionsPolicy,
    /// Whether the body of a successful settle holds `extra` for every request.
    pub explain: bool,
}

/// A change of a tenant: what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantChange {
    /// A contact address in lower case; nobody has verified it.
    pub email: Option<String>,
    /// Its name; `Some(None)` removes it.
    pub company_name: Option<Option<String>>,
    /// The tier, which sets limits and chains.
    pub tier: Option<Tier>,
    /// Who sets it from now on: the operator where the tier is named.
    pub tier_by: Option<TierBy>,
    /// Whether its requests are served: `active`, `suspended` or `cancelled`.
    pub status: Option<TenantStatus>,
    /// Default recipients to set or remove.
    pub recipients: Vec<RecipientChange>,
    /// A JSON merge patch of its own limits (RFC 7396).
    pub limits: BTreeMap<&'static str, Option<i64>>,
    /// What a payer on the sanctions list means.
    pub sanctions: Option<SanctionsPolicy>,
    /// Whether the body of a successful settle holds `extra` for every request.
    pub explain: Option<bool>,
}

impl TenantChange {
    /// The members that are changed, recipients left out, for the audit log: `status=suspended, email`. Of members with a
    /// few values the new one is named.
    #[must_use]
    pub fn named(&self) -> String {
        let value = |name: &str, value: Option<&str>| value.map(|value| format!("{name}={value}"));
        let member = |name: &str, is_changed: bool| is_changed.then(|| name.to_owned());
        let explain = self.explain.map(|explain| if explain { "true" } else { "false" });
        let all = [
            value("status", self.status.map(TenantStatus::name)),
            value("tier", self.tier.map(|tier| tier.plan().name)),
            value("tier_by", self.tier_by.filter(|by| *by == TierBy::Billing).map(TierBy::name)),
            value("sanctions", self.sanctions.map(SanctionsPolicy::name)),
            value("explain", explain),
            member("email", self.email.is_some()),
            member("company_name", self.company_name.is_some()),
            member("limits", !self.limits.is_empty()),
        ];
        all.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

/// A key to make.
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
    /// The networks from which it may be used, each once; none: from everywhere.
    pub allow_list: Vec<AllowedNetwork>,
}

/// A recipient to register.
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
    let body: TenantBody = parse_body(body)?;
    let mut recipients = Vec::new();
    for (chain, text) in body.recipients.unwrap_or_default() {
        let (network, address) = read_recipient(&chain, &text)?;
        check_named_once(network, &chain, &recipients)?;
        recipients.push((network, address));
    }
    let limits = read_limits(&body.limits.unwrap_or_default())?;
    let own = |name| limits.get(name).copied().flatten();
    let unsigned = |name| own(name).and_then(|limit| u64::try_from(limit).ok());
    Ok(NewTenant {
        email: read_email(&body.email)?,
        company_name: body.company_name.map(read_company_name).transpose()?,
        tier: body.tier.unwrap_or_default(),
        region: body.region.map(|name| read_region(&name)).transpose()?,
        recipients,
        limits: OwnLimits {
            per_minute: unsigned("per_minute"),
            per_hour: unsigned("per_hour"),
            per_month: own("per_month"),
        },
        sanctions: body.sanctions.unwrap_or_default(),
        explain: body.explain.unwrap_or(false),
    })
}

/// Reads a change.
///
/// # Errors
/// `INVALID_JSON`, `INVALID_REQUEST`, `INVALID_CHAIN`.
pub fn tenant_change(body: &[u8]) -> Result<TenantChange, Fault> {
    let body: TenantPatchBody = parse_body(body).map_err(|fault| match fault.param.as_deref() {
        Some("region") => invalid("region", "is chosen when the tenant is made and cannot be changed"),
        Some(_) | None => fault,
    })?;
    let company_name = body.company_name.map(|name| name.map(read_company_name).transpose()).transpose()?;
    let email = body.email.map(|text| read_email(&text)).transpose()?;
    let mut recipients = Vec::new();
    for (chain, text) in body.recipients.unwrap_or_default() {
        let (network, address) = match text {
            Some(text) => read_recipient(&chain, &text).map(|(network, address)| (network, Some(address)))?,
            None => (find_chain(&chain, &recipient_param(&chain))?, None),
        };
        check_named_once(network, &chain, &recipients)?;
        recipients.push((network, address));
    }
    if body.tier.is_some() && body.tier_by == Some(TierBy::Billing) {
        return Err(invalid("tier_by", "a tier that is named is the operator's: leave out one of both"));
    }
    Ok(TenantChange {
        email,
        company_name,
        tier: body.tier,
        tier_by: body.tier.map(|_| TierBy::Operator).or(body.tier_by),
        status: body.status,
        recipients,
        limits: read_limits(&body.limits.unwrap_or_default())?,
        sanctions: body.sanctions,
        explain: body.explain,
    })
}

pub(crate) fn read_email(text: &str) -> Result<String, Fault> {
    read_email_member("email", text)
}

/// Reads the e-mail address of a member of another name.
pub(crate) fn read_email_member(name: &str, text: &str) -> Result<String, Fault> {
    check_text(name, text, EMAIL_BYTES_MAX)?;
    // Only a sent mail can show that an address exists; this refuses what cannot be one address, and nothing else.
    if is_email(text) { Ok(text.to_ascii_lowercase()) } else { Err(invalid(name, "must be an e-mail address")) }
}

/// Whether a text is an address of mail in ASCII: a dot-atom of at most 64 bytes, `@`, and the name of a host (RFC 5321,
/// section 4.1.2). Quoted local parts, comments, names beside the address and several addresses are none.
fn is_email(text: &str) -> bool {
    let is_atom = |atom: &str| {
        !atom.is_empty()
            && atom.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte))
    };
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.split_once('@').is_some_and(|(local, host)| {
        local.len() <= 64 && host.len() <= 253 && local.split('.').all(is_atom) && host.split('.').all(is_label)
    })
}

pub(crate) fn read_company_name(text: String) -> Result<String, Fault> {
    check_text("company_name", &text, NAME_BYTES_MAX).map(|()| text)
}

fn read_region(name: &str) -> Result<&'static str, Fault> {
    let known = REGIONS.into_iter().find(|region| *region == name);
    known.ok_or_else(|| invalid("region", &format!("must be one of {}", REGIONS.join(", "))))
}

/// The path of a default recipient in a tenant's body.
#[must_use]
pub fn recipient_param(chain: &str) -> String {
    format!("recipients.{chain}")
}

fn read_recipient(chain: &str, text: &str) -> Result<(&'static Network, NewAddress), Fault> {
    let param = recipient_param(chain);
    let network = find_chain(chain, &param)?;
    read_new_address(network, text, &param).map(|address| (network, address))
}

/// A chain has two names, our key and its CAIP-2 id: one request names it by one of them.
fn check_named_once<T>(network: &Network, chain: &str, others: &[(&Network, T)]) -> Result<(), Fault> {
    if others.iter().any(|(other, _)| other.key == network.key) {
        return Err(invalid(&recipient_param(chain), &format!("names the chain '{}' a second time", network.key)));
    }
    Ok(())
}

pub(crate) fn find_chain(chain: &str, param: &str) -> Result<&'static Network, Fault> {
    let param = param.chars().take(80).collect::<String>();
    network::find_network(chain).ok_or_else(|| {
        Fault::new(ErrorCode::InvalidChain, "no such chain; GET /v1/supported-chains lists them").at(param)
    })
}

pub(crate) fn read_new_address(network: &Network, text: &str, param: &str) -> Result<NewAddress, Fault> {
    if text == DERIVE {
        let derivable = network.family == Family::Evm;
        return if derivable {
            Ok(NewAddress::Derived)
        } else {
            Err(invalid(param, "cannot be derived on this chain: name an address"))
        };
    }
    let address = Address::parse(network.family, text).filter(|address| !address.is_zero());
    let of_token = address == Some(network.asset.address);
    address
        .filter(|_| !of_token)
        .map(NewAddress::Given)
        .ok_or_else(|| invalid(param, "must be an address of the chain, and neither the zero address nor the token's"))
}

fn read_limits(body: &LimitsBody) -> Result<BTreeMap<&'static str, Option<i64>>, Fault> {
    let mut changes = BTreeMap::new();
    for (name, least, limit) in
        [("per_minute", 0, body.per_minute), ("per_hour", 0, body.per_hour), ("per_month", -1, body.per_month)]
    {
        let Some(limit) = limit else { continue };
        if limit.is_some_and(|limit| !(least..=LIMIT_MAX).contains(&limit)) {
            let rule = format!("must be a whole number from {least} to {LIMIT_MAX}");
            let rule = if least < 0 { format!("{rule}; -1 is unlimited") } else { rule };
            return Err(invalid(&format!("limits.{name}"), &rule));
        }
        changes.insert(name, limit);
    }
    Ok(changes)
}

/// Reads a new key.
///
/// # Errors
/// `INVALID_JSON`, `INVALID_REQUEST`.
pub fn new_key(body: &[u8], now: UnixMillis) -> Result<NewKey, Fault> {
    let body: KeyBody = parse_body(body)?;
    let expires_at = body.expires_at.map(|text| read_expiry(&text, now)).transpose()?;
    let kind = body.kind.unwrap_or_default();
    let all_of_kind: &[Scope] = match kind {
        KeyKind::Bearer => &Scope::ALL,
        KeyKind::Url => &Scope::IN_URL,
    };
    let first = || Scope::FIRST.into_iter().filter(|scope| all_of_kind.contains(scope)).collect();
    let scopes: Vec<Scope> = set_of(body.scopes.unwrap_or_else(first)).into_iter().collect();
    if scopes.iter().any(|scope| !all_of_kind.contains(scope)) {
        return Err(invalid("scopes", "of a key of the kind 'url' may only be 'verify' and 'settle'"));
    }
    check_text("name", &body.name, NAME_BYTES_MAX)?;
    if scopes.is_empty() {
        return Err(invalid("scopes", "must not be empty"));
    }
    let allow_list = read_allow_list(&body.allow_list.unwrap_or_default())?;
    Ok(NewKey { name: body.name, environment: body.environment, kind, scopes, expires_at, allow_list })
}

fn read_allow_list(texts: &[String]) -> Result<Vec<AllowedNetwork>, Fault> {
    if texts.len() > NETWORKS_MAX {
        return Err(invalid("allow_list", &format!("may hold {NETWORKS_MAX} networks at most")));
    }
    let mut networks: Vec<AllowedNetwork> = Vec::new();
    for (at, text) in texts.iter().enumerate() {
        let network = AllowedNetwork::parse(text).ok_or_else(|| {
            invalid(&format!("allow_list[{at}]"), "must be a network in CIDR, as 203.0.113.0/24, or one address")
        })?;
        if !networks.contains(&network) {
            networks.push(network);
        }
    }
    Ok(networks)
}

fn read_expiry(text: &str, now: UnixMillis) -> Result<UnixMillis, Fault> {
    check_text("expires_at", text, 40)?;
    let expiry = UnixMillis::parse(text).filter(|expiry| *expiry > now);
    expiry.ok_or_else(|| invalid("expires_at", "must be a time in the future, in RFC 3339"))
}

/// Reads a new recipient.
///
/// # Errors
/// `INVALID_JSON`, `INVALID_REQUEST`, `INVALID_CHAIN`.
pub fn new_recipient(body: &[u8]) -> Result<NewRecipient, Fault> {
    let body: RecipientBody = parse_body(body)?;
    check_text("chain", &body.chain, 64)?;
    let network = find_chain(&body.chain, "chain")?;
    check_text("address", &body.address, 64)?;
    let address = read_new_address(network, &body.address, "address")?;
    Ok(NewRecipient { network, address, default: body.default })
}

/// Reads the body of `POST /v1/admin/chains/check`: which chains, each once, all where absent.
///
/// # Errors
/// `INVALID_JSON`, `INVALID_REQUEST`, `INVALID_CHAIN`.
pub fn chains_to_check(body: &[u8]) -> Result<Vec<&'static Network>, Fault> {
    let body: ChainsCheckBody = if body.is_empty() { ChainsCheckBody::default() } else { parse_body(body)? };
    match body.chains {
        None => Ok(NETWORKS.iter().collect()),
        Some(names) => {
            let mut networks: Vec<&'static Network> = Vec::new();
            for (at, name) in names.iter().enumerate() {
                let network = find_chain(name, &format!("chains[{at}]"))?;
                if !networks.iter().any(|other| other.key == network.key) {
                    networks.push(network);
                }
            }
            Ok(networks)
        }
    }
}

#[cfg(test)]
mod tests;

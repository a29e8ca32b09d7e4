//! Values that stand in many places: ids, amounts, times, addresses, URLs.

use crate::properties::{ORIGIN, bounded, canonical, stable, text};
use std::net::IpAddr;
use x402_api::billing::TierBy;
use x402_api::webhook_endpoints;
use x402_chain::address as chain_address;
use x402_chain::address::{Address as ChainAddress, Family, TxId};
use x402_chain::amount::Amount;
use x402_chain::id::{
    AuditId, ClaimId, DeletionId, EndpointId, EventId, InvitationId, KeyId, MailId, NoticeId, PersonId, RequestId,
    SessionId, SettlementId, SignInId, TenantId, VerificationId,
};
use x402_chain::network as registry;
use x402_chain::network::Environment;
use x402_chain::registry_check::RegistryCheckOutcome;
use x402_chain::time::{Period, UnixMillis};
use x402_chain::x402 as protocol;
use x402_chain::x402::Scheme;
use x402_core::audit::{ActorKind, AuditAction};
use x402_core::billing;
use x402_core::billing::notice::BillingNotice;
use x402_core::error::ErrorCode;
use x402_core::event::EventKind;
use x402_core::net;
use x402_core::public_url;
use x402_core::public_url::PublicUrl;
use x402_core::tenancy::allow_list::AllowedNetwork;
use x402_core::tenancy::branding::{BrandName, Color, LogoUrl};
use x402_core::tenancy::key::{KeyHash, KeyKind};
use x402_core::tenancy::proof::ProofNonce;
use x402_core::traceparent::TraceParent;
use x402_core::verdict::SanctionsPolicy;
use x402_core::webhook::delivery::DeliveryState;
use x402_core::webhook::endpoint::EndpointStatus;
use x402_core::webhook::subscription;

pub(crate) fn ids(input: &[u8]) -> bool {
    let Some(id) = text(input) else { return false };
    let found = [
        canonical(id, TenantId::parse(id)),
        canonical(id, ClaimId::parse(id)),
        canonical(id, KeyId::parse(id)),
        canonical(id, VerificationId::parse(id)),
        canonical(id, SettlementId::parse(id)),
        canonical(id, RequestId::parse(id)),
        canonical(id, PersonId::parse(id)),
        canonical(id, SignInId::parse(id)),
        canonical(id, SessionId::parse(id)),
        canonical(id, AuditId::parse(id)),
        canonical(id, InvitationId::parse(id)),
        canonical(id, DeletionId::parse(id)),
        canonical(id, MailId::parse(id)),
        canonical(id, EndpointId::parse(id)),
        canonical(id, NoticeId::parse(id)),
        canonical(id, EventId::parse(id)),
    ];
    let read = found.iter().filter(|found| **found).count();
    // A claim is a verification or a settlement.
    assert!(read <= 1 + usize::from(ClaimId::parse(id).is_some()), "an id of two kinds");
    read > 0
}

/// Names of a table: one spelling each.
pub(crate) fn names(input: &[u8]) -> bool {
    let Some(name) = text(input) else { return false };
    let found = [
        canonical(name, Environment::parse(name).map(Environment::name)),
        canonical(name, KeyKind::parse(name).map(KeyKind::name)),
        canonical(name, DeliveryState::parse(name).map(DeliveryState::name)),
        canonical(name, EndpointStatus::parse(name).map(EndpointStatus::name)),
        canonical(name, RegistryCheckOutcome::parse(name).map(RegistryCheckOutcome::name)),
        canonical(name, SanctionsPolicy::parse(name).map(SanctionsPolicy::name)),
        canonical(name, ActorKind::parse(name).map(ActorKind::name)),
        canonical(name, BillingNotice::parse(name).map(BillingNotice::name)),
        canonical(name, billing::parse_paid_tier(name).map(|tier| tier.plan().name)),
        canonical(name, AuditAction::parse(name).map(AuditAction::name)),
        canonical(name, EventKind::parse(name).map(EventKind::name)),
        canonical(name, ErrorCode::parse(name)),
        TierBy::parse(name).is_some(),
        subscription::is_wanted(name),
    ];
    found.contains(&true)
}

pub(crate) fn amount(input: &[u8]) -> bool {
    let Some(number) = text(input) else { return false };
    let atomic = Amount::parse_atomic(number);
    if let Some(amount) = atomic {
        let written = amount.to_string();
        assert_eq!(written, number.trim_start_matches('0').to_owned() + if amount.is_zero() { "0" } else { "" });
        assert_eq!(Amount::parse_atomic(&written), Some(amount));
    }
    let usdc = Amount::parse_usdc(number);
    if let Some(amount) = usdc {
        assert_eq!(Amount::parse_usdc(&amount.usdc()), Some(amount));
        assert!(number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') && number.len() <= 80);
    }
    atomic.is_some() || usdc.is_some()
}

pub(crate) fn instant(input: &[u8]) -> bool {
    let Some(time) = text(input) else { return false };
    let read = UnixMillis::parse(time);
    if let Some(at) = read {
        assert_eq!(UnixMillis::parse(&at.rfc3339()), Some(at), "{}", at.rfc3339());
    }
    let period = Period::parse(time);
    if let Some(period) = period {
        assert!(period.start() <= period.end());
    }
    canonical(time, period) || read.is_some()
}

pub(crate) fn address(input: &[u8]) -> bool {
    let Some(address) = text(input) else { return false };
    let evm = stable(|text| ChainAddress::parse(Family::Evm, text), address);
    // Base58 has one spelling.
    let svm = canonical(address, ChainAddress::parse(Family::Svm, address));
    if let Some(read) = ChainAddress::parse(Family::Evm, address) {
        assert!(read.to_string().eq_ignore_ascii_case(address));
        assert_eq!(ChainAddress::parse(Family::Evm, &read.unchecksummed()), Some(read));
    }
    assert!(!(evm && svm));
    evm || svm
}

pub(crate) fn transaction(input: &[u8]) -> bool {
    let Some(id) = text(input) else { return false };
    let evm = stable(|text| TxId::parse(Family::Evm, text), id);
    let svm = canonical(id, TxId::parse(Family::Svm, id));
    evm || svm
}

pub(crate) fn hex(input: &[u8]) -> bool {
    let Some(digits) = text(input) else { return false };
    let word: Option<[u8; 32]> = chain_address::hex_bytes(digits);
    assert!(word.is_none() || digits.len() == 66);
    let hash = KeyHash::parse(digits);
    assert!(hash.is_none_or(|hash| hash.to_string().eq_ignore_ascii_case(digits)));
    word.is_some() || hash.is_some() || canonical(digits, ProofNonce::parse(digits))
}

pub(crate) fn network(input: &[u8]) -> bool {
    let Some(name) = text(input) else { return false };
    let found = registry::find_network(name);
    assert_eq!(found.is_some(), registry::by_key(name).or_else(|| registry::by_caip2(name)).is_some());
    if let Some(network) = found {
        assert!([network.key, network.caip2].contains(&name));
    }
    let named = protocol::network_named(name);
    assert!(found.is_none() || named.is_some());
    canonical(name, Scheme::parse(name).map(Scheme::name)) || named.is_some()
}

pub(crate) fn traceparent(input: &[u8]) -> bool {
    let Some(header) = text(input) else { return false };
    let Some(read) = TraceParent::parse(header) else { return false };
    let written = read.to_string();
    assert_eq!((written.len(), TraceParent::parse(&written)), (55, Some(read)));
    // Of another version, or with other flags, only the ids stay.
    assert_eq!(written.get(2..52), header.get(2..52));
    true
}

pub(crate) fn public_url(input: &[u8]) -> bool {
    let Some(url) = text(input) else { return false };
    assert_eq!(
        webhook_endpoints::target_url(url, ORIGIN).is_ok(),
        PublicUrl::parse(url).is_some_and(|url| !url.is_at(ORIGIN))
    );
    let Some(read) = PublicUrl::parse(url) else { return false };
    let host = read.host();
    assert!(public_url::is_public_host(host), "{host}");
    assert!(host.parse::<IpAddr>().is_err() && host.is_ascii() && host.contains('.'), "{host}");
    assert!(read.as_str().starts_with(&format!("https://{host}/")), "{}", read.as_str());
    bounded(read.as_str().len(), input, 3, 1);
    let again = PublicUrl::parse(read.as_str()).expect("what was written");
    assert_eq!(again, read);
    true
}

pub(crate) fn branding(input: &[u8]) -> bool {
    let Some(given) = text(input) else { return false };
    let logo = canonical(given, LogoUrl::parse(given));
    assert!(!logo || !given.contains(['"', '\'', '<', '>', ' ']));
    let name = canonical(given, BrandName::parse(given));
    assert!(!name || !given.contains(['<', '>', '"', ':', '/', '@', '\n']));
    let color = stable(Color::parse, given);
    logo || name || color
}

pub(crate) fn allowed_network(input: &[u8]) -> bool {
    let Some(given) = text(input) else { return false };
    if let Ok(address) = given.parse::<IpAddr>() {
        let network = AllowedNetwork::parse(given).expect("one address");
        assert!(network.contains(address));
        let is_private = match address.to_canonical() {
            IpAddr::V4(address) => {
                address.is_private() || address.is_loopback() || address.is_link_local() || address.is_multicast()
            }
            IpAddr::V6(address) => address.is_loopback() || address.is_unicast_link_local() || address.is_multicast(),
        };
        assert!(!(is_private && net::is_global(address.to_canonical())), "{address}");
        // An address of IPv4 within IPv6 leads to where the one of IPv4 does.
        assert!(net::is_global(address.to_canonical()) || !net::is_global(address), "{address}");
    }
    stable(AllowedNetwork::parse, given)
}

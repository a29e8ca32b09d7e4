//! Bodies of requests. Each function tries the parsers of one module: a seed is a body of one of them.

use crate::properties::{NOW_MS, ORIGIN, lax_body, strict_body};
use x402_api::accepts::AcceptsRequest;
use x402_api::{
    admin as admin_api, billing as billing_api, deletion, deliveries as deliveries_api, keys as keys_api,
    members as members_api, oidc as oidc_api, rebuild as rebuild_api, recipients as recipients_api,
    session as session_api, tenant as tenant_api, verify as verify_api, webhook_endpoints as endpoints_api,
};
use x402_chain::id::TenantId;
use x402_chain::time::UnixMillis;

/// The tenant of the corpus.
const TENANT: &str = "ten_01a2299ddb68425285cfefb3";

pub(crate) fn verify(input: &[u8]) -> bool {
    strict_body(input, verify_api::read_claim)
}

pub(crate) fn accepts(input: &[u8]) -> bool {
    let read = |input: &[u8]| {
        let read = AcceptsRequest::read(input)?;
        assert!(read.payee_queries().len() >= read.networks().len());
        Ok(read)
    };
    lax_body(input, read)
}

pub(crate) fn admin(input: &[u8]) -> bool {
    let found = [
        strict_body(input, admin_api::new_tenant),
        strict_body(input, admin_api::tenant_change),
        strict_body(input, admin_api::new_recipient),
        strict_body(input, admin_api::chains_to_check),
        strict_body(input, |body| deletion::check_deletion(body, TenantId::parse(TENANT).expect("a tenant"))),
        strict_body(input, billing_api::check_cursor),
    ];
    found.contains(&true)
}

pub(crate) fn keys(input: &[u8]) -> bool {
    let found = [
        strict_body(input, |body| admin_api::new_key(body, UnixMillis(NOW_MS))),
        strict_body(input, keys_api::grace_ms),
        strict_body(input, keys_api::leak_report),
    ];
    found.contains(&true)
}

pub(crate) fn recipients(input: &[u8]) -> bool {
    let found = [
        strict_body(input, recipients_api::challenge),
        strict_body(input, recipients_api::proven_recipient),
        strict_body(input, recipients_api::default_for),
    ];
    found.contains(&true)
}

pub(crate) fn session(input: &[u8]) -> bool {
    let found = [
        strict_body(input, session_api::sign_up),
        strict_body(input, session_api::log_in),
        strict_body(input, session_api::sign_in_proof),
        strict_body(input, session_api::switch_to),
        strict_body(input, deletion::deletion_token),
    ];
    found.contains(&true)
}

pub(crate) fn members(input: &[u8]) -> bool {
    let found = [
        strict_body(input, members_api::read_invitation),
        strict_body(input, members_api::member_role),
        strict_body(input, members_api::join_token),
    ];
    found.contains(&true)
}

pub(crate) fn tenant(input: &[u8]) -> bool {
    strict_body(input, tenant_api::tenant_settings)
}

pub(crate) fn webhook_endpoints(input: &[u8]) -> bool {
    let found = [
        strict_body(input, |body| endpoints_api::new_endpoint(body, ORIGIN)),
        strict_body(input, |body| endpoints_api::endpoint_change(body, ORIGIN)),
    ];
    found.contains(&true)
}

pub(crate) fn deliveries(input: &[u8]) -> bool {
    let found = [strict_body(input, deliveries_api::redeliver_since), strict_body(input, deliveries_api::test_kind)];
    found.contains(&true)
}

pub(crate) fn billing(input: &[u8]) -> bool {
    let found = [strict_body(input, billing_api::wanted_plan), strict_body(input, billing_api::wanted_end)];
    found.contains(&true)
}

pub(crate) fn rebuild(input: &[u8]) -> bool {
    strict_body(input, rebuild_api::read_rebuild)
}

pub(crate) fn oidc(input: &[u8]) -> bool {
    strict_body(input, |body| oidc_api::oidc_settings(body, ORIGIN))
}

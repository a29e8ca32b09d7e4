//! How a row of the route table is made.

use super::paths::Paths;
use super::{Endpoint, Method, RouteRow};
use x402_core::tenancy::access::Access;
use x402_core::tenancy::role::Role;

/// The most bytes of a request: its members take a few hundred, a reference 256, a memo 1,232; 16 KiB leaves room for
/// escapes.
const BODY_MAX: usize = 16 * 1_024;

pub(super) const fn route(
    endpoint: Endpoint,
    method: Method,
    path: &'static str,
    access: Access,
    text: [&'static str; 2],
) -> RouteRow {
    let [tag, summary] = text;
    RouteRow { endpoint, method, path, alias: None, access, url_key: false, body_max: BODY_MAX, tag, summary }
}

pub(super) const fn with_body_max(mut row: RouteRow, body_max: usize) -> RouteRow {
    row.body_max = body_max;
    row
}

pub(super) const fn with_alias(mut row: RouteRow, alias: &'static str) -> RouteRow {
    row.alias = Some(alias);
    row
}

/// A route of the x402 protocol, under both base paths. A Solana transaction of version 1 takes 4 KiB, a wallet's
/// signature 8 KiB, extensions come on top.
pub(super) const fn facilitator_route(
    endpoint: Endpoint,
    method: Method,
    access: Access,
    paths: Paths,
    summary: &'static str,
) -> RouteRow {
    let [path, alias] = paths;
    let mut row = with_alias(route(endpoint, method, path, access, ["Facilitator", summary]), alias);
    row.body_max = 64 * 1_024;
    row.url_key = true;
    row
}

/// A route of the same base paths that takes no key.
pub(super) const fn public_route(endpoint: Endpoint, paths: Paths, summary: &'static str) -> RouteRow {
    let mut row = facilitator_route(endpoint, Method::Get, Access::Public, paths, summary);
    row.url_key = false;
    row
}

/// A route about billing: for owners, and keys that manage the tenant.
pub(super) const fn billing(of: Endpoint, method: Method, path: &'static str, summary: &'static str) -> RouteRow {
    route(of, method, path, Access::Managed(Role::Owner), ["Billing", summary])
}

/// A route of the operators.
pub(super) const fn operators(of: Endpoint, method: Method, path: &'static str, summary: &'static str) -> RouteRow {
    route(of, method, path, Access::Admin, ["Operators", summary])
}

/// A route about webhook endpoints.
pub(super) const fn webhook(
    of: Endpoint,
    method: Method,
    path: &'static str,
    access: Access,
    summary: &'static str,
) -> RouteRow {
    route(of, method, path, access, ["Webhooks", summary])
}

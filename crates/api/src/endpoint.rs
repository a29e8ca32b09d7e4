//! The route table, one row an endpoint. Routing, body limits, scopes, the OpenAPI document and the tests of refusals
//! all read it.

mod method;

use crate::github::CALLBACK_PATH;
use crate::headers::CrossOrigin;
use matchit::{Match, Router};
pub use method::Method;
use x402_core::tenancy::access::{Access, KeyScope};
use x402_core::tenancy::role::Role;
use x402_core::tenancy::tenant::Scope;

/// One variant a route; `handlers::dispatch` matches all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// Has this transaction paid me?
    Verify,
    /// Is this x402 payment good?
    FacilitatorVerify,
    /// What `/facilitator/verify` takes.
    FacilitatorVerifyHint,
    /// Takes an x402 payment to the chain.
    FacilitatorSettle,
    /// What `/facilitator/settle` takes.
    FacilitatorSettleHint,
    /// The kinds of payment that are settled.
    FacilitatorSupported,
    /// Completes partial payment requirements.
    FacilitatorAccepts,
    /// Whether the service is well, for clients of a facilitator.
    FacilitatorHealth,
    /// The name and version of the build.
    FacilitatorVersion,
    /// The tenant's settlements, the newest first.
    Settlements,
    /// One settlement by its id.
    Settlement,
    /// Takes a settlement's success by hand.
    HandOver,
    /// The tenant's verifications, the newest first.
    Verifications,
    /// One verification by its id.
    Verification,
    /// What was used in the period.
    Usage,
    /// The chains and which of them the key may name.
    SupportedChains,
    /// The tenant and the key that the request's key names.
    Whoami,
    /// Whether the service is well.
    Health,
    /// The OpenAPI document of the service.
    OpenApi,
    /// A page that explains the error codes.
    ErrorDocs,
    /// A page that lists the tiers.
    TierDocs,
    /// Creates a tenant.
    TenantCreate,
    /// All tenants, the newest first.
    TenantList,
    /// One tenant by its id.
    TenantRead,
    /// Changes the members of a tenant that the body names.
    TenantPatch,
    /// The keys of a tenant, without their texts.
    KeyList,
    /// Creates a key and answers its text once.
    KeyCreate,
    /// Revokes a key for good.
    KeyRevoke,
    /// The recipients of a tenant.
    RecipientList,
    /// Registers a recipient, or derives its address.
    RecipientCreate,
    /// Removes a recipient for good.
    RecipientRemove,
    /// Compares the registry with the chains.
    ChainsCheck,
    /// Asks for a mail that makes a tenant.
    SignUp,
    /// Asks for a mail that signs in.
    LogIn,
    /// Trades a link's token or a code for a session.
    SessionCreate,
    /// The session, its person and its tenant.
    SessionRead,
    /// Ends the session.
    SessionEnd,
    /// The person's sessions that hold.
    SessionList,
    /// Ends one of the person's sessions.
    SessionEndOne,
    /// Ends all of the person's sessions.
    SessionEndAll,
    /// Makes the session one of another tenant of the person.
    SessionSwitch,
    /// The people of the tenant, and invitations.
    MemberList,
    /// Invites a person by a mail.
    InvitationCreate,
    /// Revokes an invitation.
    InvitationRevoke,
    /// Accepts an invitation by its link's token.
    MemberJoin,
    /// Gives a member another role.
    MemberPatch,
    /// Removes a member; a person may remove himself.
    MemberRemove,
    /// Who changed what in the tenant.
    AuditLog,
    /// The mails that were not sent, with the backend `mailbox`.
    Mailbox,
    /// Sends a browser to GitHub to sign in.
    GithubGo,
    /// Where GitHub sends it back to.
    GithubComeBack,
    /// Which mails came back, and which were reported as spam.
    ResendWebhook,
}

/// One row of the route table.
#[derive(Clone, Copy, Debug)]
pub struct RouteRow {
    /// The endpoint that the row routes to; each has one row.
    pub endpoint: Endpoint,
    /// The HTTP method; `HEAD` is served as `GET`.
    pub method: Method,
    /// The path, with `{name}` for parameters (`matchit` syntax).
    pub path: &'static str,
    /// A second path that serves the same endpoint; `None`: the row has one path.
    pub alias: Option<&'static str>,
    /// Which credential the route needs.
    pub access: Access,
    /// Whether the key may stand in the path: `/facilitator/k/{key}/…`.
    pub url_key: bool,
    /// The largest body, in bytes.
    pub body_max: usize,
    /// The section of the documentation.
    pub tag: &'static str,
    /// The operation's summary in the OpenAPI document.
    pub summary: &'static str,
}

/// The most bytes of a request: its members take a few hundred, a reference 256, a memo 1,232; 16 KiB leaves room for
/// escapes.
const BODY_MAX: usize = 16 * 1_024;

const fn route(
    endpoint: Endpoint,
    method: Method,
    path: &'static str,
    access: Access,
    text: [&'static str; 2],
) -> RouteRow {
    let [tag, summary] = text;
    RouteRow { endpoint, method, path, alias: None, access, url_key: false, body_max: BODY_MAX, tag, summary }
}

const fn with_alias(mut row: RouteRow, alias: &'static str) -> RouteRow {
    row.alias = Some(alias);
    row
}

const KEY: Access = Access::Key(KeyScope::Any);
/// Whoever is signed in.
const PERSON: Access = Access::Session(Role::Viewer);
/// Owners of the tenant.
const OWNER: Access = Access::Session(Role::Owner);
const VERIFY: Access = Access::Key(KeyScope::Only(Scope::Verify));
const SETTLE: Access = Access::Key(KeyScope::Only(Scope::Settle));

/// A route of the x402 protocol, under both base paths. A Solana transaction of version 1 takes 4 KiB, a wallet's
/// signature 8 KiB, extensions come on top.
const fn facilitator_route(
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
const fn public_route(endpoint: Endpoint, paths: Paths, summary: &'static str) -> RouteRow {
    let mut row = facilitator_route(endpoint, Method::Get, Access::Public, paths, summary);
    row.url_key = false;
    row
}

/// A path under both base paths.
type Paths = [&'static str; 2];
const VERIFY_PATHS: Paths = ["/facilitator/verify", "/v1/facilitator/verify"];
const SETTLE_PATHS: Paths = ["/facilitator/settle", "/v1/facilitator/settle"];
const SUPPORTED_PATHS: Paths = ["/facilitator/supported", "/v1/facilitator/supported"];
const ACCEPTS_PATHS: Paths = ["/facilitator/accepts", "/v1/facilitator/accepts"];
const HEALTH_PATHS: Paths = ["/facilitator/health", "/v1/facilitator/health"];
const VERSION_PATHS: Paths = ["/facilitator/version", "/v1/facilitator/version"];

/// The route table, one row an endpoint.
pub(crate) const ENDPOINTS: &[RouteRow] = &[
    with_alias(
        route(Endpoint::Verify, Method::Post, "/v1/verify", VERIFY, ["Verify", "Has this transaction paid me?"]),
        "/api/v1/x402/verify",
    ),
    facilitator_route(Endpoint::FacilitatorVerify, Method::Post, VERIFY, VERIFY_PATHS, "Is this x402 payment good?"),
    facilitator_route(
        Endpoint::FacilitatorVerifyHint,
        Method::Get,
        Access::Public,
        VERIFY_PATHS,
        "What the route takes",
    ),
    facilitator_route(
        Endpoint::FacilitatorSettle,
        Method::Post,
        SETTLE,
        SETTLE_PATHS,
        "Take an x402 payment to the chain",
    ),
    facilitator_route(
        Endpoint::FacilitatorSettleHint,
        Method::Get,
        Access::Public,
        SETTLE_PATHS,
        "What the route takes",
    ),
    facilitator_route(
        Endpoint::FacilitatorSupported,
        Method::Get,
        Access::Either,
        SUPPORTED_PATHS,
        "The kinds of payment that are settled",
    ),
    facilitator_route(
        Endpoint::FacilitatorAccepts,
        Method::Post,
        VERIFY,
        ACCEPTS_PATHS,
        "Complete payment requirements",
    ),
    public_route(Endpoint::FacilitatorHealth, HEALTH_PATHS, "Whether the service is well"),
    public_route(Endpoint::FacilitatorVersion, VERSION_PATHS, "Which build answers"),
    route(
        Endpoint::Settlements,
        Method::Get,
        "/v1/settlements",
        VERIFY,
        ["Facilitator", "List settlements, the newest first"],
    ),
    route(Endpoint::Settlement, Method::Get, "/v1/settlements/{id}", VERIFY, ["Facilitator", "Read one settlement"]),
    route(
        Endpoint::HandOver,
        Method::Post,
        "/v1/settlements/{id}/hand-over",
        SETTLE,
        ["Facilitator", "Take the success of a settlement that nobody was given, once"],
    ),
    route(
        Endpoint::Verifications,
        Method::Get,
        "/v1/verifications",
        VERIFY,
        ["Verify", "List verifications, the newest first"],
    ),
    route(Endpoint::Verification, Method::Get, "/v1/verifications/{id}", VERIFY, ["Verify", "Read one verification"]),
    with_alias(
        route(Endpoint::Usage, Method::Get, "/v1/usage", KEY, ["Account", "What was used in the period"]),
        "/api/v1/x402/usage",
    ),
    with_alias(
        route(
            Endpoint::SupportedChains,
            Method::Get,
            "/v1/supported-chains",
            KEY,
            ["Account", "The chains, and which of them this key may name"],
        ),
        "/api/v1/x402/supported-chains",
    ),
    route(Endpoint::Whoami, Method::Get, "/v1/whoami", KEY, ["Account", "Whom this key names"]),
    with_alias(
        route(Endpoint::Health, Method::Get, "/v1/health", Access::Public, ["Service", "Whether the service is well"]),
        "/api/v1/x402/health",
    ),
    route(Endpoint::OpenApi, Method::Get, "/v1/openapi.json", Access::Public, ["Service", "This document"]),
    route(Endpoint::ErrorDocs, Method::Get, "/docs/errors", Access::Public, ["Service", "What error codes mean"]),
    route(Endpoint::TierDocs, Method::Get, "/docs/tiers", Access::Public, ["Service", "What tiers include"]),
    with_alias(
        route(
            Endpoint::TenantCreate,
            Method::Post,
            "/v1/admin/tenants",
            Access::Admin,
            ["Operators", "Make a tenant with its first keys"],
        ),
        "/api/v1/x402/admin/create-tenant",
    ),
    route(
        Endpoint::TenantList,
        Method::Get,
        "/v1/admin/tenants",
        Access::Admin,
        ["Operators", "List tenants, the newest first"],
    ),
    route(Endpoint::TenantRead, Method::Get, "/v1/admin/tenants/{id}", Access::Admin, ["Operators", "Read a tenant"]),
    route(
        Endpoint::TenantPatch,
        Method::Patch,
        "/v1/admin/tenants/{id}",
        Access::Admin,
        ["Operators", "Change a tenant"],
    ),
    route(
        Endpoint::KeyList,
        Method::Get,
        "/v1/admin/tenants/{id}/api-keys",
        Access::Admin,
        ["Operators", "List a tenant's keys"],
    ),
    route(
        Endpoint::KeyCreate,
        Method::Post,
        "/v1/admin/tenants/{id}/api-keys",
        Access::Admin,
        ["Operators", "Make a key; it is shown once"],
    ),
    route(
        Endpoint::KeyRevoke,
        Method::Delete,
        "/v1/admin/tenants/{id}/api-keys/{key_id}",
        Access::Admin,
        ["Operators", "Revoke a key"],
    ),
    route(
        Endpoint::RecipientList,
        Method::Get,
        "/v1/admin/tenants/{id}/recipients",
        Access::Admin,
        ["Operators", "List a tenant's recipients"],
    ),
    route(
        Endpoint::RecipientCreate,
        Method::Post,
        "/v1/admin/tenants/{id}/recipients",
        Access::Admin,
        ["Operators", "Register a recipient"],
    ),
    route(
        Endpoint::RecipientRemove,
        Method::Delete,
        "/v1/admin/tenants/{id}/recipients/{address}",
        Access::Admin,
        ["Operators", "Remove a recipient"],
    ),
    route(
        Endpoint::ChainsCheck,
        Method::Post,
        "/v1/admin/chains/check",
        Access::Admin,
        ["Operators", "Compare the registry with the chains"],
    ),
    route(
        Endpoint::Mailbox,
        Method::Get,
        "/v1/admin/mailbox",
        Access::Admin,
        ["Operators", "The newest mails, where none is sent"],
    ),
    route(
        Endpoint::SignUp,
        Method::Post,
        "/v1/signup",
        Access::SignIn,
        ["Sessions", "Ask for a mail that makes a tenant"],
    ),
    route(Endpoint::LogIn, Method::Post, "/v1/login", Access::SignIn, ["Sessions", "Ask for a mail that signs in"]),
    route(
        Endpoint::SessionCreate,
        Method::Post,
        "/v1/session",
        Access::SignIn,
        ["Sessions", "Sign in by a link's token or a code"],
    ),
    route(Endpoint::SessionRead, Method::Get, "/v1/session", PERSON, ["Sessions", "Who is signed in, and where"]),
    route(Endpoint::SessionEnd, Method::Delete, "/v1/session", PERSON, ["Sessions", "Sign out"]),
    route(Endpoint::SessionList, Method::Get, "/v1/sessions", PERSON, ["Sessions", "List one's own sessions"]),
    route(
        Endpoint::SessionEndOne,
        Method::Delete,
        "/v1/sessions/{id}",
        PERSON,
        ["Sessions", "End one of one's sessions"],
    ),
    route(Endpoint::SessionEndAll, Method::Delete, "/v1/sessions", PERSON, ["Sessions", "Sign out everywhere"]),
    route(Endpoint::SessionSwitch, Method::Post, "/v1/session/tenant", PERSON, ["Sessions", "Act for another tenant"]),
    route(Endpoint::MemberList, Method::Get, "/v1/members", PERSON, ["Members", "List members and invitations"]),
    route(Endpoint::InvitationCreate, Method::Post, "/v1/members/invitations", OWNER, ["Members", "Invite a person"]),
    route(
        Endpoint::InvitationRevoke,
        Method::Delete,
        "/v1/members/invitations/{id}",
        OWNER,
        ["Members", "Revoke an invitation"],
    ),
    route(Endpoint::MemberJoin, Method::Post, "/v1/members/join", Access::SignIn, ["Members", "Accept an invitation"]),
    route(Endpoint::MemberPatch, Method::Patch, "/v1/members/{person_id}", OWNER, ["Members", "Change a role"]),
    route(Endpoint::MemberRemove, Method::Delete, "/v1/members/{person_id}", PERSON, ["Members", "Remove, or leave"]),
    route(Endpoint::GithubGo, Method::Get, "/v1/session/github", Access::SignIn, ["Sessions", "Sign in by GitHub"]),
    route(Endpoint::GithubComeBack, Method::Get, CALLBACK_PATH, Access::SignIn, ["Sessions", "GitHub's way back"]),
    route(Endpoint::ResendWebhook, Method::Post, "/v1/webhooks/resend", Access::Public, ["Service", "Events of mails"]),
    route(Endpoint::AuditLog, Method::Get, "/v1/audit-log", OWNER, ["Members", "Who changed what, the newest first"]),
];

/// The result of routing a method and a path.
#[derive(Clone, Debug)]
pub enum Route {
    /// The row of an endpoint, with the path's parameters in order.
    Found(&'static RouteRow, Vec<String>),
    /// The path exists with other methods.
    OtherMethods(Vec<Method>),
    /// No route has this path.
    Nowhere,
}

/// The table as a matcher.
#[derive(Debug)]
pub struct Routes(Router<Vec<&'static RouteRow>>);

impl Routes {
    /// Builds the matcher.
    ///
    /// # Errors
    /// Where two rows of the table conflict; a test holds that they do not.
    pub fn build() -> Result<Self, matchit::InsertError> {
        let mut router: Router<Vec<&'static RouteRow>> = Router::new();
        for row in ENDPOINTS {
            for path in [Some(row.path), row.alias].into_iter().flatten() {
                let rows = ENDPOINTS.iter().filter(|other| other.path == path || other.alias == Some(path)).collect();
                if router.at(path).is_err() || path.contains('{') {
                    match router.insert(path, rows) {
                        Ok(()) | Err(matchit::InsertError::Conflict { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(Self(router))
    }

    /// The rows of a path; one slash at its end is ignored.
    fn at<'a>(&self, path: &'a str) -> Option<Match<'_, 'a, &Vec<&'static RouteRow>>> {
        let path = path.strip_suffix('/').filter(|rest| !rest.is_empty()).unwrap_or(path);
        self.0.at(path).ok()
    }

    /// Whether pages of other origins may call a path: not where one of its routes takes a cookie.
    #[must_use]
    pub fn cross_origin(&self, path: &str) -> CrossOrigin {
        let refused = self.at(path).is_some_and(|found| found.value.iter().any(|row| row.access.reads_cookie()));
        if refused { CrossOrigin::Refused } else { CrossOrigin::Allowed }
    }

    /// Routes a method and a path. One slash at the end is ignored. `url_key`: the path held a key, which only some
    /// routes accept.
    #[must_use]
    pub fn find(&self, method: &str, path: &str, url_key: bool) -> Route {
        let Some(found) = self.at(path) else { return Route::Nowhere };
        let wanted = Method::parse(method);
        let mut rows = found.value.iter().filter(|row| row.url_key || !url_key);
        match rows.clone().find(|row| Some(row.method) == wanted) {
            Some(row) => Route::Found(row, found.params.iter().map(|(_, value)| value.to_owned()).collect()),
            None if rows.next().is_none() => Route::Nowhere,
            None => Route::OtherMethods(found.value.iter().map(|row| row.method).collect()),
        }
    }
}

#[cfg(test)]
mod tests;

//! The route table, one row an endpoint: routing, body limits, scopes, the OpenAPI document and the tests of refusals
//! all read it. The rows are in [`table`].

#[cfg(not(target_arch = "wasm32"))]
mod errors;
mod method;
mod paths;
mod row;
mod table;

use crate::headers::CrossOrigin;
use matchit::{Match, Router};
pub use method::Method;
pub(crate) use table::ENDPOINTS;
use x402_core::tenancy::access::Access;

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
    /// How each chain has fared of late.
    Status,
    /// Metrics for Prometheus.
    Metrics,
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
    /// Removes a recipient; only its tenant can register it again.
    RecipientRemove,
    /// Compares the registry with the chains.
    ChainsCheck,
    /// The tenant's own keys, without their texts.
    OwnKeyList,
    /// Creates a key of the tenant and answers its text once.
    OwnKeyCreate,
    /// Replaces a key of the tenant by another; both hold for a time.
    OwnKeyRotate,
    /// Revokes a key of the tenant for good.
    OwnKeyRevoke,
    /// Revokes a key that was found where it should not be.
    LeakedKey,
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
    /// The accounts of other services by which the person signs in.
    IdentityList,
    /// Shuts one of them out.
    IdentityEnd,
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
    /// What has happened to the tenant's payments and to the tenant.
    EventList,
    /// One event by its id.
    EventRead,
    /// What happens to the tenant, as it happens.
    EventStream,
    /// A range of the tenant's records as one file.
    Export,
    /// What verifications and settlements of some days add up to.
    Analytics,
    /// Where the tenant's events are sent to.
    WebhookList,
    /// Makes an endpoint to which they are sent.
    WebhookCreate,
    /// One endpoint by its id.
    WebhookRead,
    /// Changes, pauses or resumes an endpoint.
    WebhookPatch,
    /// Removes an endpoint.
    WebhookRemove,
    /// Gives an endpoint a new secret.
    WebhookRotate,
    /// Sends an example of an event to an endpoint.
    WebhookTest,
    /// Sends all events again that an endpoint has not taken.
    WebhookRedeliver,
    /// What has become of the events for an endpoint.
    DeliveryList,
    /// One delivery with its attempts.
    DeliveryRead,
    /// Sends one event again.
    DeliveryRedeliver,
    /// The addresses at which the tenant is paid.
    OwnRecipientList,
    /// Asks for a message that proves an address.
    RecipientChallenge,
    /// Registers an address by a proof, or derives one.
    OwnRecipientAdd,
    /// Makes an address the default of a chain.
    OwnRecipientPatch,
    /// Retires an address.
    OwnRecipientRetire,
    /// The tenant of the session or the key.
    OwnTenantRead,
    /// Changes the settings of that tenant.
    OwnTenantPatch,
    /// The identity provider of the tenant's own.
    OidcRead,
    /// Sets that provider.
    OidcPut,
    /// Looks for the DNS record that proves the mail domain.
    OidcProve,
    /// Removes that provider.
    OidcRemove,
    /// Asks an owner by a mail whether to delete the tenant.
    OwnTenantDelete,
    /// Deletes the tenant, which can be undone for a week.
    DeletionConfirm,
    /// Undoes the deletion of the tenant.
    DeletionUndo,
    /// The mails that were not sent, with the backend `mailbox`.
    Mailbox,
    /// What there is by an address, a payment or a transaction, and whose it is.
    OperatorSearch,
    /// What operators are alerted to that is open.
    OperatorAlerts,
    /// Rebuilds rows of a tenant from its ledgers, or its ledgers from the directory.
    TenantRebuild,
    /// Sends a mail again.
    MailResend,
    /// Lets an address that was marked get mails again.
    MarkRemove,
    /// Ends all sessions of a person.
    PersonSessionsEnd,
    /// Sends a browser to GitHub to sign in.
    GithubGo,
    /// Where GitHub sends it back to.
    GithubComeBack,
    /// Sends a browser to the identity provider of an address's company.
    OidcGo,
    /// Where that provider sends it back to.
    OidcComeBack,
    /// Which mails came back, and which were reported as spam.
    ResendWebhook,
    /// What plans cost and include.
    Pricing,
    /// The page to which Stripe's pages lead back.
    BillingPage,
    /// The tenant's plan, its next invoice and what it is charged to.
    BillingRead,
    /// Sends a browser to a checkout of a plan.
    BillingCheckout,
    /// Sends a browser to the portal of invoices and payment methods.
    BillingPortal,
    /// Changes the plan of a subscription.
    BillingChange,
    /// Ends a subscription.
    BillingCancel,
    /// Takes an end, or a smaller plan that waits, back.
    BillingResume,
    /// The tenant's invoices.
    BillingInvoices,
    /// Which subscriptions have changed at Stripe.
    StripeWebhook,
    /// Compares the directory with Stripe.
    BillingCheck,
}

/// One row of the route table.
#[derive(Clone, Copy, Debug)]
pub struct RouteRow {
    /// The endpoint that the row routes to; each has one row.
    pub endpoint: Endpoint,
    /// The HTTP method; `HEAD` is served as `GET`, where [`Self::takes_head`].
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

impl RouteRow {
    /// Whether requests of the route have a body.
    #[must_use]
    pub const fn has_body(&self) -> bool {
        self.method.has_body() || matches!(self.endpoint, Endpoint::OwnTenantDelete)
    }

    /// Whether `HEAD` is served as `GET`. It is refused where a `GET` changes something, since scanners of links send it: where a
    /// sign-in begins, and where its code is redeemed.
    #[must_use]
    pub const fn takes_head(&self) -> bool {
        matches!(self.method, Method::Get)
            && !matches!(
                self.endpoint,
                Endpoint::GithubGo | Endpoint::GithubComeBack | Endpoint::OidcGo | Endpoint::OidcComeBack
            )
    }
}

/// The methods of a path's rows, as the header `Allow` lists them.
#[must_use]
pub fn allowed_methods(rows: &[&RouteRow]) -> String {
    let mut methods: Vec<String> = rows.iter().map(|row| row.method.to_string()).collect();
    if rows.iter().any(|row| row.takes_head()) {
        methods.push("HEAD".to_owned());
    }
    methods.push("OPTIONS".to_owned());
    methods.join(", ")
}

/// The result of routing a method and a path.
#[derive(Clone, Debug)]
pub enum Route {
    /// The row of an endpoint, with the path's parameters in order.
    Found(&'static RouteRow, Vec<String>),
    /// The path exists with other methods: its rows.
    OtherMethods(Vec<&'static RouteRow>),
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
                // Another row of the path was there first.
                match router.insert(path, rows) {
                    Ok(()) | Err(matchit::InsertError::Conflict { .. }) => {}
                    Err(error) => return Err(error),
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
        let takes = |row: &RouteRow| Some(row.method) == wanted && (method != "HEAD" || row.takes_head());
        match rows.clone().find(|row| takes(row)) {
            Some(row) => Route::Found(row, found.params.iter().map(|(_, value)| value.to_owned()).collect()),
            None if rows.next().is_none() => Route::Nowhere,
            None => Route::OtherMethods(found.value.clone()),
        }
    }
}

#[cfg(test)]
mod tests;

//! Signing in by the identity provider of a company. The session is one of the company's tenant, and of no other: whoever
//! controls a mail domain and its provider does not reach what the same people have elsewhere.

use super::session::sign_in_to;
use super::tenant_oidc::{check_proof, redirect_uri, secret_row};
use crate::app;
use crate::app::App;
use crate::d1::oidc::rows::OidcRow;
use crate::d1::oidc::{provider_of, read_provider};
use crate::d1::people::identities::{self, Link, NewLink};
use crate::oidc::{Redeemed, discover, identify};
use crate::request::IncomingRequest;
use crate::webcrypto;
use x402_api::ApiReply;
use x402_api::cookies::CookieName;
use x402_api::oidc::id_token::ExpectedToken;
use x402_api::oidc::{AuthorizeRequest, OidcCallback, email_of_query};
use x402_chain::id::TenantId;
use x402_core::error::{ErrorCode, Fault};
use x402_core::people::oauth::{self, Identity, IdentityProvider, OAUTH_MS};
use x402_core::people::oidc::{MailDomain, nonce};
use x402_core::people::secret::Secret;
use x402_core::people::session::SESSION_MS;
use x402_core::people::sign_in::SPAN_MS;
use x402_core::settings::sign_in::OauthClient;

/// People come back to an address that the operator has set, never to one that a request names.
fn check_set_up(app: &App) -> Result<(), Fault> {
    app.settings.public_url().map(|_| ()).ok_or_else(|| Fault::new(ErrorCode::NotFound, "no such route"))
}

/// A secret that the browser's cookie gives.
fn derived(child: Option<String>) -> Result<String, Fault> {
    child.ok_or_else(|| Fault::internal("HMAC takes no key of 32 bytes"))
}

/// `GET /v1/session/oidc`: sends the browser to the provider of the address's domain. Whether a domain has one is public, as
/// its DNS record is.
pub(super) async fn go(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    check_set_up(app)?;
    let visitor = incoming.visitor()?;
    if !visitor.is_navigation || !visitor.is_own_page {
        // Else a page could sign its reader in as somebody else, by a provider that asks nothing, or use up what the network
        // may begin.
        let detail = "a sign-in begins by a link of this service that a person follows, or by its address typed";
        return Err(Fault::new(ErrorCode::CrossOrigin, detail));
    }
    let email = email_of_query(&incoming.query)?;
    let db = app.db()?;
    let row = match MailDomain::of(&email) {
        Some(domain) => provider_of(&db, &domain).await?.filter(OidcRow::is_open),
        None => None,
    };
    let row = row.ok_or_else(|| {
        let detail = "no identity provider is set for the domain of this address: sign in by a mail";
        Fault::new(ErrorCode::NotFound, detail).at("email")
    })?;
    let (state, browser) = (Secret::new(app::random()?), Secret::new(app::random()?));
    let of = IdentityProvider::Oidc(row.tenant);
    let prefix = incoming.client.ip_prefix();
    // Counted before the DNS and the provider are asked.
    if !identities::put_state(&db, of, (&state, &browser), &prefix, incoming.now).await? {
        let detail = "too many sign-ins were begun from this network: try again later";
        return Err(Fault::new(ErrorCode::RateLimited, detail).after(SPAN_MS / 1_000));
    }
    check_proof(app, &row, incoming.now).await?;
    let discovery = discover(app.settings.resolver(), &row.issuer).await?;
    let request = AuthorizeRequest {
        client_id: &row.client_id,
        redirect_uri: &redirect_uri(app, row.tenant),
        state: &state,
        challenge: &oauth::challenge(&derived(oauth::verifier(&browser))?),
        nonce: &derived(nonce(&browser))?,
        login_hint: &email,
    };
    let cookie = CookieName::Oauth.set(&browser, OAUTH_MS);
    let url = request.url(&discovery.authorization_endpoint);
    Ok(ApiReply::empty(303).with("Location", url).with("Set-Cookie", cookie))
}

/// `GET /v1/session/oidc/{tenant}/callback`: the provider has sent the browser back.
pub(super) async fn come_back(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    check_set_up(app)?;
    let not_begun = || {
        let detail =
            "the sign-in was refused, has expired or was used, or it was begun in another browser: begin again";
        Fault::new(ErrorCode::InvalidSignIn, detail)
    };
    let tenant = TenantId::parse(incoming.param(0)).ok_or_else(not_begun)?;
    let callback = OidcCallback::read(&incoming.query).ok_or_else(not_begun)?;
    let browser = incoming.visitor()?.cookies.oauth.ok_or_else(not_begun)?;
    let (db, of, now) = (app.db()?, IdentityProvider::Oidc(tenant), incoming.now);
    // Used before the provider is asked: a callback that comes twice at once is answered once.
    if !identities::use_state(&db, of, (&callback.state, &browser), now).await? {
        return Err(not_begun());
    }
    let row = read_provider(&db, tenant).await?.filter(OidcRow::is_open).ok_or_else(not_begun)?;
    check_proof(app, &row, now).await?;
    let text = tenant.to_string();
    let secret = webcrypto::open(app.settings.peppers(), secret_row(&text), &row.secret_sealed).await;
    let secret = secret.ok_or_else(|| {
        let detail = "the client secret of your company's identity provider cannot be read: an owner must set it anew";
        Fault::new(ErrorCode::Misconfigured, detail).after(60).because("no pepper opens a client secret")
    })?;
    let discovery = discover(app.settings.resolver(), &row.issuer).await?;
    let is_issuer = match &callback.issuer {
        Some(issuer) => *issuer == row.issuer,
        None => !discovery.names_issuer,
    };
    if !is_issuer {
        return Err(not_begun());
    }
    let client = OauthClient { id: row.client_id.clone(), secret };
    let (redirect_uri, verifier, nonce) =
        (redirect_uri(app, tenant), derived(oauth::verifier(&browser))?, derived(nonce(&browser))?);
    let resolver = app.settings.resolver();
    let redeemed = Redeemed { resolver, code: &callback.code, redirect_uri: &redirect_uri, verifier: &verifier };
    let expected = ExpectedToken {
        issuer: &row.issuer,
        client_id: &row.client_id,
        nonce: &nonce,
        domain: &row.domain,
        now_s: now.0 / 1_000,
    };
    let person = identify(&discovery, &client, redeemed, expected).await?.ok_or_else(not_begun)?;
    // Another issuer's ids are of other people.
    let subject = format!("{} {}", row.issuer, person.subject);
    let identity = Identity { provider: of, subject: &subject };
    let known = identities::find(&db, identity).await?.map(|known| known.email).filter(|email| row.domain.has(email));
    let new = known.is_none().then(NewLink::default);
    let email = known.unwrap_or(person.email);
    let secret = Secret::new(app::random()?);
    sign_in_to(app, incoming, (&email, Link { identity, new }, &secret), (tenant, row.default_role)).await?;
    let cookie = CookieName::Session.set(&secret, SESSION_MS);
    Ok(ApiReply::empty(303).with("Location", format!("{}/", app.origin)).with("Set-Cookie", cookie))
}

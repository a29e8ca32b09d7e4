//! Signing in by GitHub. No address that comes from outside is redirected to: GitHub's own one way, our first page the other.

use super::session::{Account, known_cookie, sign_in_as};
use crate::app;
use crate::app::App;
use crate::d1::people::identities;
use crate::github::identify;
use crate::mail;
use crate::request::IncomingRequest;
use std::rc::Rc;
use worker::Context;
use x402_api::ApiReply;
use x402_api::cookies::CookieName;
use x402_api::github::{CALLBACK_PATH, GithubCallback, authorize_url};
use x402_api::headers::SET_COOKIE;
use x402_chain::id::MailId;
use x402_core::error::{ErrorCode, Fault};
use x402_core::people::oauth::{self, Identity, IdentityProvider, OAUTH_MS};
use x402_core::people::secret::Secret;
use x402_core::people::session::SESSION_MS;
use x402_core::people::sign_in::SPAN_MS;
use x402_core::settings::sign_in::OauthClient;

const GITHUB: IdentityProvider = IdentityProvider::Github;

fn client(app: &App) -> Result<&OauthClient, Fault> {
    app.settings.github().ok_or_else(|| Fault::new(ErrorCode::NotFound, "no such route"))
}

fn redirect_uri(app: &App) -> String {
    format!("{}{CALLBACK_PATH}", app.origin)
}

fn verifier(browser: &Secret) -> Result<String, Fault> {
    oauth::verifier(browser).ok_or_else(|| Fault::internal("HMAC takes no key of 32 bytes"))
}

/// `GET /v1/session/github`: sends the browser to GitHub.
pub(super) async fn go(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let client = client(app)?;
    let visitor = incoming.visitor()?;
    if !visitor.is_navigation || !visitor.is_own_page {
        // Else any page, by a picture or by leading its reader there, would use up what the network may begin, or sign the
        // reader in unasked: GitHub asks nothing of who has allowed the app before.
        let detail = "a sign-in begins by a link of this service that a person follows, or by its address typed";
        return Err(Fault::new(ErrorCode::CrossOrigin, detail));
    }
    let (state, browser) = (Secret::new(app::random()?), Secret::new(app::random()?));
    let prefix = incoming.client.ip_prefix();
    if !identities::put_state(&app.db()?, GITHUB, (&state, &browser), &prefix, incoming.now).await? {
        let detail = "too many sign-ins were begun from this network: try again later";
        return Err(Fault::new(ErrorCode::RateLimited, detail).after(SPAN_MS / 1_000));
    }
    let url = authorize_url(client, &redirect_uri(app), &state, &oauth::challenge(&verifier(&browser)?));
    let cookie = CookieName::Oauth.set(&browser, OAUTH_MS);
    Ok(ApiReply::empty(303).with("Location", url).with(SET_COOKIE, cookie))
}

/// `GET /v1/session/github/callback`: GitHub has sent the browser back. An address that GitHub has not verified signs nobody
/// in, and neither does another than the primary one.
pub(super) async fn come_back(app: &Rc<App>, context: &Context, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let client = client(app)?;
    let not_begun = || {
        let detail =
            "the sign-in was refused, has expired or was used, or it was begun in another browser: begin again";
        Fault::new(ErrorCode::InvalidSignIn, detail)
    };
    let callback = GithubCallback::read(&incoming.query).ok_or_else(not_begun)?;
    let browser = incoming.visitor()?.cookies.oauth.ok_or_else(not_begun)?;
    let db = app.db()?;
    // Used before GitHub is asked: a callback that comes twice at once is answered once.
    if !identities::use_state(&db, GITHUB, (&callback.state, &browser), incoming.now).await? {
        return Err(not_begun());
    }
    let person = identify(client, &callback.code, &redirect_uri(app), &verifier(&browser)?).await?;
    let person = person.ok_or_else(not_begun)?;
    let identity = Identity { provider: GITHUB, subject: &person.subject };
    let known = identities::find(&db, identity).await?;
    if known.as_ref().is_some_and(|known| known.is_ended) {
        let detail = "this GitHub account was removed from the account here that it was linked to, and signs nobody in: \
                      sign in by a mail";
        return Err(Fault::new(ErrorCode::InvalidSignIn, detail));
    }
    let mail = match (&known, app.settings.mail()) {
        (None, Some(_)) => Some(MailId::new(incoming.now, app::random()?)),
        (Some(_), _) | (None, None) => None,
    };
    let account = Account { identity, name: person.name.as_deref(), is_linked: known.is_some(), mail };
    let address = known.map(|known| known.email).or(person.address).ok_or_else(|| {
        let detail = "GitHub has verified no primary address of yours: verify it there, or sign in by a mail";
        Fault::new(ErrorCode::InvalidSignIn, detail)
    })?;
    let secret = Secret::new(app::random()?);
    sign_in_as(app, incoming, &address, account, &secret).await?;
    let known = known_cookie(app, incoming, &address)?;
    if let Some(mail) = mail {
        // Of a new person there is none: the message is then without effect.
        app::after_answer(context, mail::queue_or_log(Rc::clone(app), mail));
    }
    let cookie = CookieName::Session.set(&secret, SESSION_MS);
    let reply = ApiReply::empty(303).with("Location", format!("{}/", app.origin)).with(SET_COOKIE, cookie);
    Ok(reply.with(SET_COOKIE, known))
}

//! Signing up and in by a mail, and sessions.

use super::directory::{first_keys, reload_ledgers};
use crate::app;
use crate::app::App;
use crate::d1::FirstRows;
use crate::d1::change::Actor;
use crate::d1::people::identities::{Link, NewLink};
use crate::d1::people::rows::{MembershipRow, OpenInvitation, OpenSignIn, SessionRow};
use crate::d1::people::sign_ins::{MailAllowed, NewSignIn, put_sign_in};
use crate::d1::people::{self, Begun, CodeTry, Joining, NewOwned, NewSession, SessionScope, Spent, members};
use crate::mail;
use crate::request::{IncomingRequest, Visitor};
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use crate::turnstile;
use std::rc::Rc;
use worker::{Context, D1Database};
use x402_api::ApiReply;
use x402_api::admin::{FirstKeys, NewTenant};
use x402_api::cookies::CookieName;
use x402_api::headers::SET_COOKIE;
use x402_api::records::ListPage;
use x402_api::session::{
    MailAsked, MailRequest, MembershipView, SessionAnswer, SessionCreated, SessionEnded, SessionsEnded, SignInProof,
    no_membership, sign_in_proof, switch_to,
};
use x402_chain::id::{MailId, PersonId, SessionId, SignInId, TenantId};
use x402_core::audit::AuditAction;
use x402_core::error::{ErrorCode, Fault};
use x402_core::people::invitation::MEMBERS_MAX;
use x402_core::people::known::{KNOWN_MS, is_known, known_browser};
use x402_core::people::oauth::Identity;
use x402_core::people::secret::Secret;
use x402_core::people::session::{SESSION_MS, SWITCHES_HOUR_MAX};
use x402_core::people::sign_in::{self, Arrival, SIGN_IN_MS, SignInIntent, SignInSecrets};
use x402_core::tenancy::role::Role;
use x402_core::tenancy::tenant::OwnLimits;
use x402_core::tenancy::tier::Tier;
use x402_core::verdict::SanctionsPolicy;

/// `POST /v1/signup` and `POST /v1/login`: writes the request and answers. Whom the address belongs to is looked up when the
/// mail is sent, so that neither the answer nor its time depends on it.
pub(super) async fn ask_for_mail(
    app: &Rc<App>,
    context: &Context,
    incoming: &IncomingRequest,
    request: Result<MailRequest, Fault>,
) -> Result<ApiReply, Fault> {
    let request = request?;
    if app.settings.mail().is_none() {
        return Err(Fault::new(ErrorCode::NotFound, "this service sends no mail: nobody can sign up or sign in"));
    }
    if let Some(secret) = app.settings.turnstile() {
        turnstile::check(secret, request.turnstile_token.as_deref()).await?;
    }
    let now = incoming.now;
    let (id, browser) = (SignInId::new(now, app::random()?), Secret::new(app::random()?));
    let secrets = app.settings.peppers().first().and_then(|pepper| SignInSecrets::of(id, pepper));
    let secrets = secrets.ok_or_else(|| Fault::internal("no pepper is configured for sign-ins"))?;
    let mail = MailId::new(now, app::random()?);
    let known = incoming.visitor()?.cookies.known;
    let known = known.filter(|cookie| is_known(cookie, &request.email, app.settings.peppers()));
    let new = NewSignIn {
        id,
        request: &request,
        token: &secrets.token,
        browser: &browser,
        ip_prefix: &incoming.client.ip_prefix(),
        known: known.as_ref(),
        mail,
        origin: &app.origin,
    };
    if let MailAllowed::After(wait_ms) = put_sign_in(&app.db()?, &new, now).await? {
        let detail = "too many mails were asked for, for this address or from this network: try again later";
        return Err(Fault::new(ErrorCode::RateLimited, detail).after(wait_ms.div_ceil(1_000)));
    }
    app::after_answer(context, mail::queue_or_log(Rc::clone(app), mail));
    let asked = MailAsked { email: request.email, expires_at: sign_in::expiry(now).rfc3339() };
    Ok(ApiReply::json(202, &asked).with(SET_COOKIE, CookieName::SignIn.set(&browser, SIGN_IN_MS)))
}

/// Who begins a session, with an address that is proven.
struct Arriving<'a> {
    spent: Spent<'a>,
    email: &'a str,
    intent: SignInIntent,
    /// The name of a tenant to make.
    company_name: Option<&'a str>,
    /// The account of another service, where that has proven the address.
    account: Option<Account<'a>>,
}

/// An account of another service.
#[derive(Clone, Copy)]
pub(super) struct Account<'a> {
    pub(super) identity: Identity<'a>,
    /// Its name there.
    pub(super) name: Option<&'a str>,
    /// Whether it was linked to its person before.
    pub(super) is_linked: bool,
    /// The mail that says that it is linked, if mails are sent.
    pub(super) mail: Option<MailId>,
}

impl<'a> Account<'a> {
    /// What begins a session by it; `there` are the tenants to which the address leads that were there before.
    fn link(
        self,
        app: &'a App,
        incoming: &IncomingRequest,
        email: &str,
        there: impl Iterator<Item = TenantId>,
    ) -> Result<Link<'a>, Fault> {
        let Self { identity, name, is_linked, mail } = self;
        if is_linked {
            return Ok(Link { identity, new: None });
        }
        let made = there.map(|tenant| {
            let actor = Actor::Address(email.to_owned());
            let made = incoming.change_by(actor, tenant, AuditAction::IdentityLinked, email)?;
            Ok(made.detail(identity.provider.name()))
        });
        let made = made.collect::<Result<Vec<_>, Fault>>()?;
        let mail = mail.map(|mail| (mail, app.origin.as_str()));
        Ok(Link { identity, new: Some(NewLink { name, mail, tenant_was_there: !made.is_empty(), made }) })
    }
}

/// `POST /v1/session`: a link's token or a code becomes a session, once.
pub(super) async fn create_session(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let proof = sign_in_proof(&incoming.body)?;
    let visitor = incoming.visitor()?;
    let is_code = matches!(proof, SignInProof::Code(_));
    let open = find_sign_in(app, incoming, visitor, proof).await?.ok_or_else(invalid_sign_in)?;
    let arriving = Arriving {
        spent: if is_code { Spent::Code(open.id) } else { Spent::Link(open.id) },
        email: &open.email,
        intent: open.intent,
        company_name: open.company_name.as_deref(),
        account: None,
    };
    let secret = Secret::new(app::random()?);
    let (begun, api_keys) = begin(app, incoming, &arriving, &secret).await?;
    created(app, incoming, (&secret, begun), api_keys)
}

/// The cookie of a browser in which the person with an address signs in: that which it has, for longer, or a new one.
pub(super) fn known_cookie(app: &App, incoming: &IncomingRequest, email: &str) -> Result<String, Fault> {
    let peppers = app.settings.peppers();
    let own = incoming.visitor()?.cookies.known.filter(|cookie| is_known(cookie, email, peppers));
    let cookie = match (own, peppers.first()) {
        (Some(own), _) => Some(own),
        (None, Some(pepper)) => known_browser(app::random()?, email, pepper),
        (None, None) => None,
    };
    let cookie = cookie.ok_or_else(|| Fault::internal("no pepper is configured for browsers"))?;
    Ok(CookieName::Known.set(&cookie, KNOWN_MS))
}

/// Begins the session of a person whom another service has signed in. A tenant that is made has no keys: the answer is a
/// redirect, which cannot show them.
pub(super) async fn sign_in_as(
    app: &App,
    incoming: &IncomingRequest,
    email: &str,
    account: Account<'_>,
    secret: &Secret,
) -> Result<(), Fault> {
    let arriving = Arriving {
        spent: Spent::Nothing,
        email,
        intent: SignInIntent::SignUp,
        company_name: None,
        account: Some(account),
    };
    begin(app, incoming, &arriving, secret).await.map(|_| ())
}

/// Begins the session of a person whom the provider of a tenant has signed in. The person becomes a member of the tenant with
/// the role, unless he is one; the session holds for that tenant alone.
pub(super) async fn sign_in_to(
    app: &App,
    incoming: &IncomingRequest,
    (email, link, secret): (&str, Link<'_>, &Secret),
    (tenant, role): (TenantId, Role),
) -> Result<(), Fault> {
    let (db, ip_prefix) = (app.db()?, incoming.client.ip_prefix());
    let (present, _) = members::list_members(&db, tenant, incoming.now).await?;
    let is_member = present.iter().any(|member| member.email == email);
    if !is_member && u64::try_from(present.len()).unwrap_or(u64::MAX) >= MEMBERS_MAX {
        let detail = format!("your company's tenant has {MEMBERS_MAX} members, and can have no more");
        return Err(Fault::new(ErrorCode::InvalidSignIn, detail));
    }
    let session = new_session(incoming, email, (tenant, &ip_prefix), secret)?;
    let session = NewSession { link: Some(link), only_tenant: true, ..session };
    // Nothing is recorded of a member who is there already.
    let made = incoming.change_by(Actor::Address(email.to_owned()), tenant, AuditAction::MemberJoined, email)?;
    let joins = Joining { role, made: &made.detail(role.name()) };
    people::begin_session(&db, &session, None, Some(&joins), incoming.now).await.map(|_| ())
}

/// Begins the session of a proven address; returns it, and the keys of a tenant that was made.
async fn begin(
    app: &App,
    incoming: &IncomingRequest,
    arriving: &Arriving<'_>,
    secret: &Secret,
) -> Result<(Begun, Option<FirstKeys>), Fault> {
    match begin_once(app, incoming, arriving, secret).await {
        // Another sign-in with the address made its tenant at the same time: this one joins it.
        Err(fault) if fault.code == ErrorCode::EmailTaken => begin_once(app, incoming, arriving, secret).await,
        outcome => outcome,
    }
}

/// The answer to a new session, with its cookies. Nothing is read for it: what began the session is spent.
fn created(
    app: &App,
    incoming: &IncomingRequest,
    (secret, (session, tenants)): (&Secret, Begun),
    api_keys: Option<FirstKeys>,
) -> Result<ApiReply, Fault> {
    let tenants = tenants.into_iter().map(MembershipRow::view).collect();
    let known = known_cookie(app, incoming, &session.email)?;
    let created = SessionCreated { session: session.view(), tenants, api_keys };
    let reply = ApiReply::json(201, &created).with(SET_COOKIE, CookieName::Session.set(secret, SESSION_MS));
    Ok(reply.with(SET_COOKIE, known))
}

/// Begins a session of an invited person as a new member; `own` is the address of the session that the browser has.
pub(super) async fn begin_as(
    app: &App,
    incoming: &IncomingRequest,
    open: &OpenInvitation,
    own: Option<&str>,
) -> Result<ApiReply, Fault> {
    let (secret, email, tenant) = (Secret::new(app::random()?), open.email.as_str(), open.tenant);
    let ip_prefix = incoming.client.ip_prefix();
    let spent = Spent::Invitation(open.id, own);
    let session = NewSession { spent, ..new_session(incoming, email, (tenant, &ip_prefix), &secret)? };
    let made = incoming.change_by(Actor::Address(email.to_owned()), tenant, AuditAction::MemberJoined, email)?;
    let joins = Joining { role: open.role, made: &made.detail(open.role.name()) };
    let begun = people::begin_session(&app.db()?, &session, None, Some(&joins), incoming.now).await?;
    created(app, incoming, (&secret, begun), None)
}

fn new_session<'a>(
    incoming: &'a IncomingRequest,
    email: &'a str,
    (tenant, ip_prefix): (TenantId, &'a str),
    secret: &'a Secret,
) -> Result<NewSession<'a>, Fault> {
    let (visitor, now) = (incoming.visitor()?, incoming.now);
    Ok(NewSession {
        id: SessionId::new(now, app::random()?),
        secret,
        email,
        person: PersonId::new(now, app::random()?),
        tenant,
        ip_prefix,
        user_agent: incoming.client.user_agent.as_deref(),
        link: None,
        only_tenant: false,
        spent: Spent::Nothing,
        previous: visitor.cookies.session.as_ref(),
    })
}

fn invalid_sign_in() -> Fault {
    let detail = "the code or the link is wrong, has expired or was used; a code counts only in the browser that asked for \
                  it, and only that of the newest mail: a second mail replaces the code, and its link is as good";
    Fault::new(ErrorCode::InvalidSignIn, detail)
}

/// No code is compared: the answer is the same for a right one and a wrong one.
fn codes_stopped(incoming: &IncomingRequest) -> Fault {
    let detail = "too many wrong codes today: use the link of the mail, which signs in as before";
    Fault::new(ErrorCode::RateLimited, detail).after(sign_in::day_of(incoming.now).1)
}

/// The sign-in that a proof names; `None` where the proof is wrong. It is used in the batch that begins the session, so that
/// a failure leaves it to be tried again.
async fn find_sign_in(
    app: &App,
    incoming: &IncomingRequest,
    visitor: &Visitor,
    proof: SignInProof,
) -> Result<Option<OpenSignIn>, Fault> {
    let db = app.db()?;
    match proof {
        SignInProof::Token(Some(token)) => people::open_sign_in(&db, &token, incoming.now).await,
        SignInProof::Token(None) => Ok(None),
        SignInProof::Code(code) => {
            let Some(browser) = visitor.cookies.sign_in else { return Ok(None) };
            // The try is counted before the code is compared, so that guesses made at once count each.
            let ip_prefix = incoming.client.ip_prefix();
            let (open, is_last) = match people::try_code(&db, &browser, &ip_prefix, incoming.now).await? {
                CodeTry::Compared { open, is_last } => (open, is_last),
                CodeTry::NoSignIn => return Ok(None),
                CodeTry::Stopped => return Err(codes_stopped(incoming)),
            };
            let secrets = SignInSecrets::find(open.id, &open.token_hash, app.settings.peppers());
            let is_right = secrets.is_some_and(|secrets| secrets.is_code(&code));
            if is_last && !is_right {
                event(TelemetryKind::CodesStopped, &[TelemetryField::RequestId(incoming.request_id)]);
            }
            Ok(is_right.then_some(open))
        }
    }
}

/// The same, without a second try.
async fn begin_once(
    app: &App,
    incoming: &IncomingRequest,
    arriving: &Arriving<'_>,
    secret: &Secret,
) -> Result<(Begun, Option<FirstKeys>), Fault> {
    let (db, now) = (app.db()?, incoming.now);
    let (memberships, unowned) = people::tenants_of(&db, arriving.email).await?;
    let memberships: Vec<_> = memberships.iter().map(|row| row.membership).collect();
    let (tenant, owns, is_new) = match sign_in::arrival(arriving.intent, &memberships, unowned) {
        Arrival::Member(member) => (member.tenant, false, false),
        Arrival::FirstOwner(tenant) => (tenant, true, false),
        Arrival::NewTenant => (TenantId::new(now, app::random()?), true, true),
        Arrival::Nobody => return Err(invalid_sign_in()),
    };
    let ip_prefix = incoming.client.ip_prefix();
    let Arriving { spent, email, account, .. } = *arriving;
    let there = memberships.iter().map(|member| member.tenant).chain(unowned);
    let link = account.map(|account| account.link(app, incoming, email, there)).transpose()?;
    let session = NewSession { link, spent, ..new_session(incoming, email, (tenant, &ip_prefix), secret)? };
    let actor = Actor::Address(email.to_owned());
    let joined = || {
        let made = incoming.change_by(actor.clone(), tenant, AuditAction::MemberJoined, email)?;
        Ok::<_, Fault>(made.detail(Role::Owner.name()))
    };
    if !is_new {
        let made = if owns { Some(joined()?) } else { None };
        let joins = made.as_ref().map(|made| Joining { role: Role::Owner, made });
        let begun = people::begin_session(&db, &session, None, joins.as_ref(), now).await?;
        return Ok((begun, None));
    }
    let created = incoming.change_by(actor.clone(), tenant, AuditAction::TenantCreated, tenant.to_string())?;
    let (keys, puts) = match account {
        None => first_keys(app, incoming, (tenant, &actor)).map(|(keys, puts)| (Some(keys), Vec::from(puts)))?,
        Some(_) => (None, Vec::new()),
    };
    let joins = Joining { role: Role::Owner, made: &joined()? };
    let new = NewTenant {
        email: email.to_owned(),
        company_name: arriving.company_name.map(str::to_owned),
        tier: Tier::default(),
        region: None,
        recipients: Vec::new(),
        limits: OwnLimits::default(),
        sanctions: SanctionsPolicy::default(),
        explain: false,
    };
    let contact = people::contact_left(&db, email).await?.map(|tenant| {
        let moved = incoming.change_by(Actor::System, tenant, AuditAction::TenantUpdated, tenant.to_string())?;
        Ok::<_, Fault>(moved.detail("email"))
    });
    let first = FirstRows { made: &created, recipients: &[], keys: &puts };
    let made = NewOwned { tenant: &new, first, contact: contact.transpose()? };
    let begun = people::begin_session(&db, &session, Some(&made), Some(&joins), now).await?;
    // The ledgers are made near the person. One that is not reached is made by its first request, and loads the tenant.
    let _ = reload_ledgers(app, incoming, tenant, 1, None).await;
    Ok((begun, keys))
}

/// `GET /v1/session`.
pub(super) async fn read_session(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let session = incoming.session()?;
    let tenants = tenants_of(app, session).await?;
    Ok(ApiReply::json(200, &SessionAnswer { session: session.view(), tenants }))
}

/// `DELETE /v1/session`.
pub(super) async fn end_session(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let session = incoming.session()?;
    if let Some(secret) = &incoming.visitor()?.cookies.session {
        people::end_session(&app.db()?, secret, incoming.now).await?;
    }
    let ended = SessionEnded { id: session.id.to_string(), ended_at: incoming.now.rfc3339() };
    Ok(ApiReply::json(200, &ended).with(SET_COOKIE, CookieName::Session.removal()))
}

/// `GET /v1/sessions`.
pub(super) async fn list_sessions(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let asking = incoming.session()?;
    let all = people::list_sessions(&app.db()?, &SessionScope::of(asking), incoming.now).await?;
    let data = all.into_iter().map(|row| row.view(asking.id)).collect();
    Ok(ApiReply::json(200, &ListPage { data, next_cursor: None }))
}

/// `DELETE /v1/sessions/{id}`.
pub(super) async fn end_own_session(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let (asking, none) = (incoming.session()?, || Fault::new(ErrorCode::NotFound, "no such session"));
    let id = SessionId::parse(incoming.param(0)).ok_or_else(none)?;
    if !people::end_own_session(&app.db()?, &SessionScope::of(asking), id, incoming.now).await? {
        return Err(none());
    }
    let reply = ApiReply::json(200, &SessionEnded { id: id.to_string(), ended_at: incoming.now.rfc3339() });
    Ok(if id == asking.id { reply.with(SET_COOKIE, CookieName::Session.removal()) } else { reply })
}

/// `DELETE /v1/sessions`.
pub(super) async fn end_all_sessions(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    people::end_sessions(&app.db()?, &SessionScope::of(incoming.session()?), incoming.now).await?;
    let ended = SessionsEnded { ended_at: incoming.now.rfc3339() };
    Ok(ApiReply::json(200, &ended).with(SET_COOKIE, CookieName::Session.removal()))
}

/// `POST /v1/session/tenant`: the session gets a new secret, and its old one is worth nothing. Nothing changes where it acts
/// for the tenant already.
pub(super) async fn switch_tenant(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let (tenant, now, db) = (switch_to(&incoming.body)?, incoming.now, app.db()?);
    let asking = incoming.session()?;
    if tenant == asking.tenant {
        return read_session(app, incoming).await;
    }
    if asking.only_tenant {
        let detail = "the session was begun by your company's identity provider, and holds for its tenant alone: sign in \
                      by a mail for another";
        return Err(Fault::new(ErrorCode::NotFound, detail).at("tenant"));
    }
    let old = incoming.visitor()?.cookies.session.ok_or_else(|| Fault::internal("a session has no cookie"))?;
    let new = Secret::new(app::random()?);
    let id = SessionId::new(now, app::random()?);
    let begun = people::switch_session(&db, (&old, &new), (id, &asking.email), tenant, now).await?;
    let Some((session, tenants)) = begun else { return Err(not_switched(&db, asking, &old, tenant).await) };
    let kept_ms = session.times.expires_at.since(now);
    let answer =
        SessionAnswer { session: session.view(), tenants: tenants.into_iter().map(MembershipRow::view).collect() };
    Ok(ApiReply::json(200, &answer).with(SET_COOKIE, CookieName::Session.set(&new, kept_ms)))
}

/// The tenants of a session's person, as far as the session reaches.
async fn tenants_of(app: &App, session: &SessionRow) -> Result<Vec<MembershipView>, Fault> {
    let (tenants, _) = people::tenants_of(&app.db()?, &session.email).await?;
    let reached = |row: &MembershipRow| !session.only_tenant || row.membership.tenant == session.tenant;
    Ok(tenants.into_iter().filter(reached).map(MembershipRow::view).collect())
}

/// Why a session was not switched.
async fn not_switched(db: &D1Database, asking: &SessionRow, old: &Secret, tenant: TenantId) -> Fault {
    let (tenants, session) = match (people::tenants_of(db, &asking.email).await, people::read_session(db, old).await) {
        (Ok((tenants, _)), Ok(session)) => (tenants, session),
        (Err(fault), _) | (_, Err(fault)) => return fault,
    };
    if session.is_none() {
        let detail = "the session was ended or switched at the same time: use the newest cookie, or sign in again";
        return Fault::new(ErrorCode::InvalidSession, detail);
    }
    if !tenants.iter().any(|row| row.membership.tenant == tenant) {
        return no_membership();
    }
    let detail = format!("too many sessions in the last hour: {SWITCHES_HOUR_MAX} at most, with switches");
    Fault::new(ErrorCode::RateLimited, detail).after(3_600)
}

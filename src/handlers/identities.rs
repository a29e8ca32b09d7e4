//! The accounts of other services by which a person signs in: each person sees and ends his own.

use crate::app::App;
use crate::d1::people::rows::SessionRow;
use crate::d1::people::{self, identities};
use crate::request::IncomingRequest;
use x402_api::ApiReply;
use x402_api::identities::IdentityAlone;
use x402_api::records::ListPage;
use x402_core::audit::AuditAction;
use x402_core::error::{ErrorCode, Fault};
use x402_core::people::oauth::Identity;

/// The request's session, if it is the person's own.
fn own_session(incoming: &IncomingRequest) -> Result<&SessionRow, Fault> {
    let session = incoming.session()?;
    if session.only_tenant {
        let detail =
            "the session was begun by your company's identity provider: sign in by a mail for your linked accounts";
        return Err(Fault::new(ErrorCode::NotFound, detail));
    }
    Ok(session)
}

/// `GET /v1/session/identities`: those that were ended too.
pub(super) async fn list_identities(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let data = identities::list(&app.db()?, own_session(incoming)?.person).await?;
    Ok(ApiReply::json(200, &ListPage { data, next_cursor: None }))
}

/// `DELETE /v1/session/identities/{id}`: the account signs nobody in from then on, and is linked to nobody again: a sign-in
/// by it would bring back what its person has ended. Sessions go on.
pub(super) async fn end_identity(app: &App, incoming: &IncomingRequest) -> Result<ApiReply, Fault> {
    let (session, none) = (own_session(incoming)?, || Fault::new(ErrorCode::NotFound, "no such linked account"));
    let identity = Identity::parse(incoming.param(0)).ok_or_else(none)?;
    let db = app.db()?;
    let (memberships, _) = people::tenants_of(&db, &session.email).await?;
    let made = memberships.iter().map(|row| {
        let tenant = row.membership.tenant;
        let made = incoming.change_by(incoming.actor()?, tenant, AuditAction::IdentityEnded, session.email.as_str())?;
        Ok(made.detail(identity.provider.name()))
    });
    identities::end(&db, identity, session.person, &made.collect::<Result<Vec<_>, Fault>>()?, incoming.now).await?;
    let all = identities::list(&db, session.person).await?;
    let identity = all.into_iter().find(|row| row.id == identity.id()).ok_or_else(none)?;
    Ok(ApiReply::json(200, &IdentityAlone { identity }))
}

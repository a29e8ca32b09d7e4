//! The session of a browser, as the directory has it.

use crate::app::App;
use crate::d1::people;
use crate::d1::people::rows::SessionRow;
use x402_api::cookies::Cookies;
use x402_chain::time::UnixMillis;
use x402_core::error::{ErrorCode, Fault};
use x402_core::tenancy::role::Role;

/// The fault of a request without a session.
pub(crate) fn no_session() -> Fault {
    Fault::new(
        ErrorCode::InvalidSession,
        "sign in: there is no session, or it has ended; a key takes no session's place here",
    )
}

/// Reads the session that cookies name.
///
/// # Errors
/// `INVALID_SESSION` where there is none, or it has ended; `INSUFFICIENT_ROLE`.
pub(crate) async fn open_session(
    app: &App,
    cookies: &Cookies,
    role: Role,
    now: UnixMillis,
) -> Result<SessionRow, Fault> {
    let secret = cookies.session.ok_or_else(no_session)?;
    let db = app.db()?;
    let session = people::read_session(&db, &secret).await?.ok_or_else(no_session)?;
    if !session.times.is_open(now) {
        return Err(no_session());
    }
    session.check_role(role)?;
    if session.times.is_to_note(now) {
        people::note_session(&db, session.id, now).await?;
    }
    Ok(session)
}

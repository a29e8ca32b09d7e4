//! Signing up, signing in, and the session.

use crate::admin::{FirstKeys, read_company_name, read_email};
use crate::body::{check_text, invalid, parse_body};
use serde::{Deserialize, Serialize};
use x402_chain::id::TenantId;
use x402_core::error::{ErrorCode, Fault};
use x402_core::people::deletion::ShownStatus;
use x402_core::people::secret::Secret;
use x402_core::people::sign_in::SignInIntent;
use x402_core::tenancy::role::Role;
use x402_core::tenancy::tier::Tier;

/// The body of `POST /v1/signup`.
#[derive(Debug, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SignUpBody {
    /// The person's e-mail address.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(email, length(min = 1, max = 254)))]
    pub email: String,
    /// The company's name.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 200)))]
    pub company_name: Option<String>,
    /// The token of the Turnstile widget, where the service asks for one.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 2_048)))]
    pub turnstile_token: Option<String>,
}

/// The body of `POST /v1/login`.
#[derive(Debug, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LogInBody {
    /// The person's e-mail address.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(email, length(min = 1, max = 254)))]
    pub email: String,
    /// The token of the Turnstile widget, where the service asks for one.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 2_048)))]
    pub turnstile_token: Option<String>,
}

/// The body of `POST /v1/session`: one of both.
#[derive(Debug, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SessionBody {
    /// The token of the link, from any browser.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 64)))]
    pub token: Option<String>,
    /// The code of six digits, from the browser that asked for the mail.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 16)))]
    pub code: Option<String>,
}

/// The body of `POST /v1/session/tenant`.
#[derive(Debug, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SwitchBody {
    /// The tenant's id, `ten_…`: one that the person belongs to.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 64)))]
    pub tenant: String,
}

/// A mail to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailRequest {
    /// What for.
    pub intent: SignInIntent,
    /// The address, in lower case.
    pub email: String,
    /// The name of the tenant to make.
    pub company_name: Option<String>,
    /// The token of the Turnstile widget.
    pub turnstile_token: Option<String>,
}

/// The most characters of Turnstile's token, as it says.
const TURNSTILE_TOKEN_MAX: usize = 2_048;

fn read_turnstile_token(text: Option<String>) -> Result<Option<String>, Fault> {
    text.map(|text| check_text("turnstile_token", &text, TURNSTILE_TOKEN_MAX).map(|()| text)).transpose()
}

/// What a person signs in by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignInProof {
    /// The token of a link; `None` for a text that is no token.
    Token(Option<Secret>),
    /// A code. Spaces within are ignored, as people copy them.
    Code(String),
}

/// Reads `POST /v1/signup`.
///
/// # Errors
/// `INVALID_JSON`, `INVALID_REQUEST`.
pub fn sign_up(body: &[u8]) -> Result<MailRequest, Fault> {
    let body: SignUpBody = parse_body(body)?;
    let company_name = body.company_name.map(read_company_name).transpose()?;
    let turnstile_token = read_turnstile_token(body.turnstile_token)?;
    Ok(MailRequest { intent: SignInIntent::SignUp, email: read_email(&body.email)?, company_name, turnstile_token })
}

/// Reads `POST /v1/login`.
///
/// # Errors
/// `INVALID_JSON`, `INVALID_REQUEST`.
pub fn log_in(body: &[u8]) -> Result<MailRequest, Fault> {
    let body: LogInBody = parse_body(body)?;
    let turnstile_token = read_turnstile_token(body.turnstile_token)?;
    Ok(MailRequest {
        intent: SignInIntent::LogIn,
        email: read_email(&body.email)?,
        company_name: None,
        turnstile_token,
    })
}

/// Reads `POST /v1/session`.
///
/// # Errors
/// `INVALID_JSON`, `INVALID_REQUEST`.
pub fn sign_in_proof(body: &[u8]) -> Result<SignInProof, Fault> {
    let body: SessionBody = parse_body(body)?;
    match (body.token, body.code) {
        (Some(token), None) => Ok(SignInProof::Token(Secret::parse(token.trim()))),
        (None, Some(code)) => Ok(SignInProof::Code(code.split_whitespace().collect())),
        (Some(_), Some(_)) => Err(invalid("code", "must be absent where 'token' is there")),
        (None, None) => Err(invalid("token", "must be there, or 'code'")),
    }
}

/// Reads `POST /v1/session/tenant`. A text that is no tenant's id names a tenant that the person does not belong to.
///
/// # Errors
/// `INVALID_JSON`, `INVALID_REQUEST`, `NOT_FOUND`.
pub fn switch_to(body: &[u8]) -> Result<TenantId, Fault> {
    let body: SwitchBody = parse_body(body)?;
    TenantId::parse(&body.tenant).ok_or_else(no_membership)
}

/// The person does not belong to the tenant, or there is none.
#[must_use]
pub fn no_membership() -> Fault {
    Fault::new(ErrorCode::NotFound, "you belong to no such tenant").at("tenant")
}

/// The answer to `POST /v1/signup` and `POST /v1/login`: the same whether the address is known or not.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct MailAsked {
    /// The address that the mail goes to.
    pub email: String,
    /// Until when its link and its code hold, RFC 3339.
    pub expires_at: String,
}

/// A person.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct PersonView {
    /// The person's id, `per_…`.
    pub id: String,
    /// The address by which the person signs in.
    pub email: String,
}

/// The tenant of a session.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct SessionTenant {
    /// The tenant's id, `ten_…`.
    pub id: String,
    /// The company's name; `null` where none was given.
    pub company_name: Option<String>,
    /// The tier, which sets limits and chains.
    pub tier: Tier,
    /// Whether its requests are served: `active`, `suspended`, `cancelled` or `deleting`.
    pub status: ShownStatus,
    /// Until when its deletion can be undone, RFC 3339; `null` where it is not being deleted.
    pub deletion_due_at: Option<String>,
}

/// A session.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct SessionView {
    /// The session's id, `ses_…`; not its secret.
    pub id: String,
    /// Who is signed in.
    pub person: PersonView,
    /// The tenant that the session acts for.
    pub tenant: SessionTenant,
    /// The person's role in it.
    pub role: Role,
    /// When the person signed in, RFC 3339.
    pub created_at: String,
    /// When it ends if no further request comes, RFC 3339.
    pub ends_at: String,
    /// When it ends at the latest, RFC 3339.
    pub expires_at: String,
}

/// A tenant that the person belongs to.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct MembershipView {
    /// The tenant's id, `ten_…`.
    pub id: String,
    /// The company's name; `null` where none was given.
    pub company_name: Option<String>,
    /// The person's role in it.
    pub role: Role,
}

/// The answer to `GET /v1/session`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct SessionAnswer {
    /// The session of the cookie.
    pub session: SessionView,
    /// All tenants of the person.
    pub tenants: Vec<MembershipView>,
}

/// The answer to `POST /v1/session`, whose cookie is the session.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct SessionCreated {
    /// The session.
    pub session: SessionView,
    /// All tenants of the person.
    pub tenants: Vec<MembershipView>,
    /// The keys of a tenant that was made, shown this once; `null` where none was made.
    pub api_keys: Option<FirstKeys>,
}

/// The answer to `DELETE /v1/session`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct SessionEnded {
    /// The session's id, `ses_…`.
    pub id: String,
    /// When it ended, RFC 3339.
    pub ended_at: String,
}

/// One of a person's sessions.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct OwnSession {
    /// The session's id, `ses_…`; not its secret.
    pub id: String,
    /// Whether it is the session that asks.
    pub current: bool,
    /// The tenant that it acts for, `ten_…`.
    pub tenant: String,
    /// The network that the person signed in from: a prefix of its addresses, or `unknown`.
    pub ip_prefix: String,
    /// The browser, as it names itself; `null` where it does not.
    pub user_agent: Option<String>,
    /// When the person signed in, RFC 3339.
    pub created_at: String,
    /// When it was last used, RFC 3339, to the hour.
    pub seen_at: String,
    /// When it ends if no further request comes, RFC 3339.
    pub ends_at: String,
}

/// The answer to `DELETE /v1/sessions`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct SessionsEnded {
    /// When all of the person's sessions ended, RFC 3339.
    pub ended_at: String,
}

/// A mail that was not sent, with the backend `mailbox`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct MailView {
    /// The mail's id, `mail_…`.
    pub id: String,
    /// The address that it would go to.
    pub to: String,
    /// The subject line.
    pub subject: String,
    /// The body in plain text.
    pub text: String,
    /// The body in HTML.
    pub html: String,
    /// When it would have been sent, RFC 3339.
    pub sent_at: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_asked_for_by_a_token_or_by_a_code() {
        let proof = |body: &str| sign_in_proof(body.as_bytes());
        let code = |text: &str| Ok(SignInProof::Code(text.to_owned()));
        assert_eq!(proof(r#"{"code":" 012 345 "}"#), code("012345"));
        let token = Secret::new([1; 32]);
        assert_eq!(proof(&format!(r#"{{"token":"{}"}}"#, token.text())), Ok(SignInProof::Token(Some(token))));
        assert_eq!(proof(r#"{"token":"x"}"#), Ok(SignInProof::Token(None)));
        for (wrong, param) in [(r#"{"token":"x","code":"1"}"#, "code"), ("{}", "token"), (r#"{"pin":"1"}"#, "pin")] {
            assert_eq!(proof(wrong).map_err(|fault| fault.param), Err(Some(param.into())), "{wrong}");
        }
    }

    #[test]
    fn an_address_is_one_whatever_its_case() {
        let read = log_in(br#"{"email":"Ann@Example.test"}"#).expect("an address");
        assert_eq!((read.email.as_str(), read.intent), ("ann@example.test", SignInIntent::LogIn));
        assert!(log_in(br#"{"email":"ann"}"#).is_err() && sign_up(br#"{"email":"a@b","company_name":""}"#).is_err());
    }
}

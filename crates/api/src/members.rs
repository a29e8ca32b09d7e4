//! The people of a tenant, and invitations.

use crate::admin::read_email;
use crate::body::{parse_body, variant};
use serde::{Deserialize, Serialize};
use x402_core::error::Fault;
use x402_core::people::secret::Secret;
use x402_core::tenancy::role::Role;

/// The body of `POST /v1/members/invitations`.
#[derive(Debug, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct InvitationBody {
    /// The address that is invited.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(email, length(min = 1, max = 254)))]
    pub email: String,
    /// The role that the person gets.
    #[serde(deserialize_with = "variant")]
    pub role: Role,
}

/// The body of `PATCH /v1/members/{person_id}`.
#[derive(Debug, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MemberPatchBody {
    /// The person's new role.
    #[serde(deserialize_with = "variant")]
    pub role: Role,
}

/// The body of `POST /v1/members/join`.
#[derive(Debug, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct JoinBody {
    /// The token of the invitation's link.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 64)))]
    pub token: String,
}

/// Reads an invitation: address and role.
///
/// # Errors
/// `INVALID_JSON`, `INVALID_REQUEST`.
pub fn read_invitation(body: &[u8]) -> Result<(String, Role), Fault> {
    let body: InvitationBody = parse_body(body)?;
    Ok((read_email(&body.email)?, body.role))
}

/// Reads a member's new role.
///
/// # Errors
/// `INVALID_JSON`, `INVALID_REQUEST`.
pub fn member_role(body: &[u8]) -> Result<Role, Fault> {
    parse_body(body).map(|body: MemberPatchBody| body.role)
}

/// Reads the token of an invitation; `None` for a text that is no token.
///
/// # Errors
/// `INVALID_JSON`, `INVALID_REQUEST`.
pub fn join_token(body: &[u8]) -> Result<Option<Secret>, Fault> {
    parse_body(body).map(|body: JoinBody| Secret::parse(body.token.trim()))
}

/// A person of a tenant.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct MemberView {
    /// The person's id, `per_…`.
    pub person_id: String,
    /// The address by which the person signs in.
    pub email: String,
    /// The person's role in the tenant.
    pub role: Role,
    /// When the person joined, RFC 3339.
    pub created_at: String,
}

/// An invitation that was neither accepted nor revoked.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct InvitationView {
    /// The invitation's id, `inv_…`; not its token.
    pub id: String,
    /// The address that is invited.
    pub email: String,
    /// The role that the person gets.
    pub role: Role,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// Until when it holds, RFC 3339.
    pub expires_at: String,
}

/// The answer to `GET /v1/members`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Members {
    /// The people of the tenant, in the order of joining.
    pub data: Vec<MemberView>,
    /// Invitations that hold.
    pub invitations: Vec<InvitationView>,
}

/// The answer that holds one member.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct MemberAlone {
    /// The member as it is stored.
    pub member: MemberView,
}

/// The answer that holds one invitation.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct InvitationAlone {
    /// The invitation as it is stored.
    pub invitation: InvitationView,
}

/// The answer to a removal.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct Removed {
    /// The id of the member or the invitation.
    pub id: String,
    /// When it was removed, RFC 3339.
    pub removed_at: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invitation_names_an_address_and_a_role() {
        let read = read_invitation(br#"{"email":"Bob@Example.test","role":"viewer"}"#);
        assert_eq!(read, Ok(("bob@example.test".to_owned(), Role::Viewer)));
        for (wrong, param) in [(r#"{"email":"b@c","role":"admin"}"#, "role"), (r#"{"role":"viewer"}"#, "email")] {
            assert_eq!(
                read_invitation(wrong.as_bytes()).map_err(|fault| fault.param),
                Err(Some(param.into())),
                "{wrong}"
            );
        }
        assert_eq!(member_role(br#"{"role":"owner"}"#), Ok(Role::Owner));
        assert_eq!(join_token(br#"{"token":"x"}"#), Ok(None));
    }
}

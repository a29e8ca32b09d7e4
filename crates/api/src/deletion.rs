//! `DELETE /v1/tenant` and `/v1/tenant/deletion`: an owner deletes the tenant.

use crate::body::{invalid, parse_body};
use serde::{Deserialize, Serialize};
use x402_chain::id::TenantId;
use x402_core::error::Fault;
use x402_core::people::secret::Secret;

/// The body of `DELETE /v1/tenant`.
#[derive(Debug, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DeletionBody {
    /// The tenant's id, `ten_…`.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 64)))]
    pub confirm: String,
}

/// The body of `POST /v1/tenant/deletion`.
#[derive(Debug, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct DeletionTokenBody {
    /// The token of the mail's link.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 64)))]
    pub token: String,
}

/// Reads `DELETE /v1/tenant`, which must name the tenant.
///
/// # Errors
/// `INVALID_JSON`, `INVALID_REQUEST`.
pub fn check_deletion(body: &[u8], tenant: TenantId) -> Result<(), Fault> {
    let body: DeletionBody = parse_body(body)?;
    if TenantId::parse(&body.confirm) == Some(tenant) {
        Ok(())
    } else {
        Err(invalid("confirm", "must be the id of the tenant that the session acts for"))
    }
}

/// Reads the token of the mail; `None` for a text that is no token.
///
/// # Errors
/// `INVALID_JSON`, `INVALID_REQUEST`.
pub fn deletion_token(body: &[u8]) -> Result<Option<Secret>, Fault> {
    parse_body(body).map(|body: DeletionTokenBody| Secret::parse(body.token.trim()))
}

/// The answer to `DELETE /v1/tenant`: nothing is deleted yet.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct DeletionAsked {
    /// The address that the mail goes to: that of the session's person.
    pub email: String,
    /// Until when the mail's token holds, RFC 3339.
    pub expires_at: String,
}

/// The answer to `POST /v1/tenant/deletion`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct DeletionConfirmed {
    /// Until when it can be undone, RFC 3339; then the personal data are erased.
    pub due_at: String,
}

/// The answer to `DELETE /v1/tenant/deletion`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct DeletionUndone {
    /// When it was undone, RFC 3339. The keys stay revoked.
    pub undone_at: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_names_its_tenant() {
        let tenant = TenantId([1; 12]);
        let body = |confirm: &str| format!(r#"{{"confirm":"{confirm}"}}"#);
        assert_eq!(check_deletion(body(&tenant.to_string()).as_bytes(), tenant), Ok(()));
        for wrong in
            [body(&TenantId([2; 12]).to_string()), body("yes"), "{}".to_owned(), r#"{"confirm":true}"#.to_owned()]
        {
            let param = check_deletion(wrong.as_bytes(), tenant).map_err(|fault| fault.param);
            assert_eq!(param, Err(Some("confirm".into())), "{wrong}");
        }
        assert_eq!(deletion_token(br#"{"token":"x"}"#), Ok(None));
        assert!(deletion_token(b"{}").is_err());
    }
}

//! `GET /v1/audit-log`: who changed what in the tenant.

use crate::body::invalid;
use serde::Serialize;
use x402_core::audit::{ActorKind, AuditAction};
use x402_core::error::Fault;

/// One change.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct AuditView {
    /// The entry's id, `aud_…`.
    pub id: String,
    /// When, RFC 3339.
    pub created_at: String,
    /// Whether a person, a key, an operator or the service itself made the change.
    pub actor_kind: ActorKind,
    /// The person who made the change, `per_…`; the key, `key_…`; or `operator` or `system`.
    pub actor: String,
    /// What was done, as `member.invited`.
    pub action: String,
    /// To whom or to what: an id, or the address that was invited.
    pub subject: String,
    /// The new value; `null` where there is none.
    pub detail: Option<String>,
    /// The network that the request came from: a prefix of its addresses, or `unknown`.
    pub ip_prefix: String,
    /// The browser, as it names itself; `null` where it does not.
    pub user_agent: Option<String>,
}

/// The filter of the query string: `action`.
///
/// # Errors
/// `INVALID_REQUEST` for an action that there is not.
pub fn read_action(query: &str) -> Result<Option<AuditAction>, Fault> {
    let given = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "action");
    match given {
        None => Ok(None),
        Some((_, text)) => {
            AuditAction::parse(&text).map(Some).ok_or_else(|| invalid("action", "names no action of the audit log"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_filtered_by_an_action_that_there_is() {
        assert_eq!(read_action("limit=1"), Ok(None));
        assert_eq!(read_action("limit=1&action=member.invited"), Ok(Some(AuditAction::MemberInvited)));
        assert!(read_action("action=member").is_err());
    }
}

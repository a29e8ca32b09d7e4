//! Who may call a route: a column of the route table that travels with a request to the tenant's ledger.

use crate::tenancy::role::Role;
use crate::tenancy::tenant::Scope;
use serde::{Deserialize, Serialize};

/// What a route requires of the key that a request presents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyScope {
    /// Any key of the tenant.
    Any,
    /// A key with this scope.
    Only(Scope),
}

/// Which credential a route needs. It travels with the request to the tenant's ledger, which checks the key by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// No credential.
    Public,
    /// A tenant's key, with what is required of it.
    Key(KeyScope),
    /// No credential is required; a key, if there is one, narrows the answer to its tenant.
    Either,
    /// The operator's `X-Admin-Key`.
    Admin,
    /// The bearer token of whoever reads the metrics (`METRICS_TOKEN`).
    Metrics,
    /// A person's session cookie, with this role or a larger one.
    Session(Role),
    /// A key with the scope `manage`, or without a key a person's session cookie with this role or a larger one.
    Managed(Role),
    /// A key with the scope `analytics`, or without a key a person's session cookie with this role or a larger one.
    Analytics(Role),
    /// No credential: the route signs a person in, and answers with a cookie.
    #[serde(rename = "sign_in")]
    SignIn,
}

impl Access {
    /// Every access that a route can have.
    pub const ALL: [Self; 19] = [
        Self::Public,
        Self::Key(KeyScope::Any),
        Self::Key(KeyScope::Only(Scope::Verify)),
        Self::Key(KeyScope::Only(Scope::Settle)),
        Self::Key(KeyScope::Only(Scope::Analytics)),
        Self::Key(KeyScope::Only(Scope::Manage)),
        Self::Either,
        Self::Admin,
        Self::Metrics,
        Self::Session(Role::Viewer),
        Self::Session(Role::Developer),
        Self::Session(Role::Owner),
        Self::Managed(Role::Viewer),
        Self::Managed(Role::Developer),
        Self::Managed(Role::Owner),
        Self::Analytics(Role::Viewer),
        Self::Analytics(Role::Developer),
        Self::Analytics(Role::Owner),
        Self::SignIn,
    ];

    /// What is required of a key; `None` where the route takes none.
    #[must_use]
    pub const fn key_scope(self) -> Option<KeyScope> {
        match self {
            Self::Key(scope) => Some(scope),
            Self::Managed(_) => Some(KeyScope::Only(Scope::Manage)),
            Self::Analytics(_) => Some(KeyScope::Only(Scope::Analytics)),
            Self::Either => Some(KeyScope::Any),
            Self::Public | Self::Admin | Self::Metrics | Self::Session(_) | Self::SignIn => None,
        }
    }

    /// Whether the browser adds a cookie of ours by itself, whichever page asks.
    #[must_use]
    pub const fn reads_cookie(self) -> bool {
        match self {
            Self::Session(_) | Self::Managed(_) | Self::Analytics(_) | Self::SignIn => true,
            Self::Public | Self::Key(_) | Self::Either | Self::Admin | Self::Metrics => false,
        }
    }

    /// The role that a session must have; `None` where the route takes no session.
    #[must_use]
    pub const fn role(self) -> Option<Role> {
        match self {
            Self::Session(role) | Self::Managed(role) | Self::Analytics(role) => Some(role),
            Self::Public | Self::Key(_) | Self::Either | Self::Admin | Self::Metrics | Self::SignIn => None,
        }
    }

    /// The access as it travels to a ledger: by the credential that the request carries, in a form that ledgers of the
    /// build before know.
    #[must_use]
    pub const fn sent(self, has_key: bool) -> Self {
        match self {
            Self::Managed(_) if has_key => Self::Key(KeyScope::Only(Scope::Manage)),
            Self::Analytics(_) if has_key => Self::Key(KeyScope::Only(Scope::Analytics)),
            Self::Managed(role) | Self::Analytics(role) => Self::Session(role),
            Self::Public
            | Self::Key(_)
            | Self::Either
            | Self::Admin
            | Self::Metrics
            | Self::Session(_)
            | Self::SignIn => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_travels_as_it_is() {
        for access in Access::ALL {
            let text = serde_json::to_string(&access).expect("written");
            assert_eq!(serde_json::from_str::<Access>(&text).expect("read"), access, "{text}");
        }
    }

    #[test]
    fn only_a_route_that_takes_a_key_requires_a_scope_of_it() {
        for access in Access::ALL {
            let takes_key =
                matches!(access, Access::Key(_) | Access::Either | Access::Managed(_) | Access::Analytics(_));
            assert_eq!(access.key_scope().is_some(), takes_key, "{access:?}");
        }
    }

    #[test]
    fn a_route_of_managers_is_sent_as_the_credential_that_is_used() {
        for role in Role::ALL {
            let access = Access::Managed(role);
            assert_eq!(access.sent(true), Access::Key(KeyScope::Only(Scope::Manage)));
            assert_eq!(access.sent(true).key_scope(), access.key_scope());
            assert_eq!((access.sent(false), access.role()), (Access::Session(role), Some(role)));
            let access = Access::Analytics(role);
            assert_eq!(access.sent(true), Access::Key(KeyScope::Only(Scope::Analytics)));
            assert_eq!(access.sent(true).key_scope(), access.key_scope());
            assert_eq!((access.sent(false), access.role()), (Access::Session(role), Some(role)));
        }
        assert_eq!(Access::Admin.sent(true), Access::Admin);
    }
}

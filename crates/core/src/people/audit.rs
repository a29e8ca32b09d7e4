//! What the audit log records.

/// Declares [`AuditAction`] from its rows: variant, name, documentation.
macro_rules! actions {
    ($($variant:ident $name:literal $doc:literal;)+) => {
        /// A change of a tenant. Names are stable: readers filter by them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum AuditAction {
            $(#[doc = $doc] $variant,)+
        }

        impl AuditAction {
            /// All actions.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name in JSON.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The action with this name; `None` for any other text.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|action| action.name() == text)
            }
        }
    };
}

actions! {
    TenantCreated "tenant.created" "A person signed up.";
    MemberInvited "member.invited" "A person was invited; the detail is the role.";
    InvitationRevoked "invitation.revoked" "An invitation was revoked.";
    MemberJoined "member.joined" "A person became a member; the detail is the role.";
    MemberChanged "member.changed" "A member got another role; the detail is the role.";
    MemberRemoved "member.removed" "A member was removed, or left.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_have_names_of_their_own() {
        for action in AuditAction::ALL {
            assert_eq!(AuditAction::parse(action.name()), Some(*action));
        }
        assert_eq!(AuditAction::parse("member"), None);
    }
}

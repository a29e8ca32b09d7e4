//! Changes of the directory: by whom they are made, what the audit log records of them, and which event they cause.

use crate::event::EventKind;
use serde::{Deserialize, Serialize};

/// Declares [`AuditAction`] from its rows: variant, name, event, documentation.
macro_rules! actions {
    ($($variant:ident $name:literal $event:ident $doc:literal;)+) => {
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

            /// The event that the change causes. It names its action, so that a change without an event of its own is
            /// `tenant.updated`.
            #[must_use]
            pub const fn event(self) -> EventKind {
                match self { $(Self::$variant => EventKind::$event,)+ }
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
    TenantCreated "tenant.created" TenantUpdated "A person signed up, or an operator made the tenant.";
    TenantUpdated "tenant.updated" TenantUpdated "Settings of the tenant were changed; the detail names them.";
    OidcUpdated "oidc.updated" TenantUpdated "An owner set the tenant's identity provider; the subject is the mail domain, the detail the issuer.";
    OidcProven "oidc.proven" TenantUpdated "The tenant proved its mail domain, the subject, by a DNS record.";
    OidcTaken "oidc.taken" TenantUpdated "The tenant's DNS record was gone, and another tenant proved the mail domain, the subject.";
    OidcRemoved "oidc.removed" TenantUpdated "An owner removed the tenant's identity provider; the subject is the mail domain.";
    DeletionAsked "deletion.asked" TenantUpdated "An owner asked to delete the tenant.";
    DeletionConfirmed "deletion.confirmed" TenantUpdated "An owner confirmed that; the detail is when it is due. All keys were revoked.";
    DeletionUndone "deletion.undone" TenantUpdated "An owner undid the deletion.";
    TenantRebuilt "tenant.rebuilt" TenantUpdated "An operator rebuilt what was lost of the tenant, the detail: `directory` or a ledger's environment.";
    DeletionDone "deletion.done" TenantUpdated "The tenant's personal data were erased.";
    KeyCreated "key.created" KeyCreated "A key was made; the detail is its environment.";
    KeyRotated "key.rotated" KeyRotated "A key was replaced; the detail is the new key.";
    KeyRevoked "key.revoked" KeyRevoked "A key was revoked; the detail is its environment, and where a leaked one was found.";
    KeyExpiring "key.expiring" KeyExpiring "A key ends within seven days, or within one; the detail is when.";
    RecipientAdded "recipient.added" RecipientAdded "An address was registered; the detail is its chain.";
    RecipientDefault "recipient.default" TenantUpdated "An address became the default of a chain, the detail.";
    RecipientRetired "recipient.retired" RecipientRetired "An address was retired.";
    MemberInvited "member.invited" MemberInvited "A person was invited; the detail is the role.";
    InvitationRevoked "invitation.revoked" TenantUpdated "An invitation was revoked.";
    MemberJoined "member.joined" MemberJoined "A person became a member; the detail is the role.";
    MemberChanged "member.changed" TenantUpdated "A member got another role; the detail is the role.";
    MemberRemoved "member.removed" MemberRemoved "A member was removed, or left.";
    IdentityLinked "identity.linked" TenantUpdated "An account of another service, the detail, was linked to a member, the subject, and signs in from then on.";
    IdentityEnded "identity.ended" TenantUpdated "A member ended that; the account signs nobody in.";
    EndpointCreated "endpoint.created" TenantUpdated "A webhook endpoint was made; the detail is its environment.";
    EndpointUpdated "endpoint.updated" TenantUpdated "A webhook endpoint was changed, paused or resumed; the detail names what.";
    EndpointRotated "endpoint.rotated" TenantUpdated "A webhook endpoint got a new secret.";
    EndpointRemoved "endpoint.removed" TenantUpdated "A webhook endpoint was removed.";
    EndpointDisabled "endpoint.disabled" EndpointDisabled "A webhook endpoint was disabled; the detail is why: `failing` or `gone`.";
    SubscriptionUpdated "subscription.updated" SubscriptionUpdated "The subscription, the subject, has another status, plan or period; the detail is status and plan.";
    SubscriptionSurplus "subscription.surplus" TenantUpdated "A second subscription, the subject, was cancelled: two checkouts were paid; the detail is what was refunded.";
    TierUpdated "tier.updated" TenantUpdated "The tier follows what is paid; the detail is the old and the new one.";
    SessionsEnded "sessions.ended" TenantUpdated "An operator ended all sessions of a member, the subject.";
    MailResent "mail.resent" TenantUpdated "An operator sent a mail, the subject, again; the detail is the new mail.";
    MarkRemoved "mark.removed" TenantUpdated "An operator let the address of a member or of the tenant, the subject, get mails again.";
}

/// The most entries of a tenant in an hour beyond which its people and keys change nothing; an owner may make as many alone,
/// whatever the others have made.
pub const CHANGES_HOUR_MAX: u64 = 300;
/// The span of [`CHANGES_HOUR_MAX`].
pub const CHANGES_SPAN_MS: u64 = 60 * 60 * 1_000;

impl AuditAction {
    /// Whether the change is refused beyond [`CHANGES_HOUR_MAX`]. What takes something away from a thief never is: there is
    /// no more of it than of what was made before.
    #[must_use]
    pub const fn is_bounded(self) -> bool {
        match self {
            Self::KeyRevoked
            | Self::KeyExpiring
            | Self::RecipientRetired
            | Self::InvitationRevoked
            | Self::MemberRemoved
            | Self::IdentityEnded
            | Self::SessionsEnded
            | Self::DeletionConfirmed
            | Self::DeletionDone
            | Self::OidcRemoved
            | Self::OidcTaken
            | Self::EndpointRemoved
            | Self::EndpointDisabled
            | Self::SubscriptionUpdated
            | Self::SubscriptionSurplus
            | Self::TenantRebuilt
            | Self::TierUpdated => false,
            Self::TenantCreated
            | Self::TenantUpdated
            | Self::DeletionAsked
            | Self::DeletionUndone
            | Self::KeyCreated
            | Self::KeyRotated
            | Self::RecipientAdded
            | Self::RecipientDefault
            | Self::MemberInvited
            | Self::MemberJoined
            | Self::MemberChanged
            | Self::IdentityLinked
            | Self::OidcUpdated
            | Self::OidcProven
            | Self::EndpointCreated
            | Self::EndpointUpdated
            | Self::EndpointRotated
            | Self::MailResent
            | Self::MarkRemoved => true,
        }
    }
}

impl AuditAction {
    /// Whether the entry is written only while whoever makes the change is an owner, or a key that holds: a request that was
    /// under way when somebody was removed changes nothing of this. Changes of keys and members, some of which end their
    /// maker, have checks of their own.
    #[must_use]
    pub const fn is_owners(self) -> bool {
        match self {
            Self::TenantUpdated
            | Self::RecipientAdded
            | Self::RecipientDefault
            | Self::RecipientRetired
            | Self::OidcUpdated
            | Self::OidcProven
            | Self::OidcRemoved
            | Self::EndpointCreated
            | Self::EndpointUpdated
            | Self::EndpointRotated
            | Self::EndpointRemoved
            | Self::DeletionAsked
            | Self::DeletionConfirmed
            | Self::DeletionUndone => true,
            Self::TenantCreated
            | Self::DeletionDone
            | Self::KeyCreated
            | Self::KeyRotated
            | Self::KeyRevoked
            | Self::KeyExpiring
            | Self::MemberInvited
            | Self::InvitationRevoked
            | Self::MemberJoined
            | Self::MemberChanged
            | Self::MemberRemoved
            | Self::IdentityLinked
            | Self::IdentityEnded
            | Self::OidcTaken
            | Self::EndpointDisabled
            | Self::SubscriptionUpdated
            | Self::SubscriptionSurplus
            | Self::TenantRebuilt
            | Self::TierUpdated
            | Self::SessionsEnded
            | Self::MailResent
            | Self::MarkRemoved => false,
        }
    }
}

/// Who makes a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ActorKind {
    /// A person who is signed in.
    Person,
    /// One of the tenant's keys.
    Key,
    /// An operator of the service.
    Operator,
    /// The service itself.
    System,
}

impl ActorKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Person, Self::Key, Self::Operator, Self::System];

    /// The name in JSON: `person`, `key`, `operator` or `system`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Key => "key",
            Self::Operator => "operator",
            Self::System => "system",
        }
    }

    /// The kind with this name; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_and_actors_have_names_of_their_own() {
        for action in AuditAction::ALL {
            assert_eq!(AuditAction::parse(action.name()), Some(*action));
            // An action that is an event too causes that event.
            let own = EventKind::parse(action.name());
            assert_eq!(action.event(), own.unwrap_or(EventKind::TenantUpdated), "{}", action.name());
        }
        assert_eq!(AuditAction::parse("member"), None);
        for kind in ActorKind::ALL {
            assert_eq!(ActorKind::parse(kind.name()), Some(kind));
            assert_eq!(serde_json::to_value(kind).expect("JSON"), kind.name());
        }
    }
}

//! What sellers can hear of: every kind of event with its name, what it is about, and what its data are.

use serde::{Deserialize, Serialize};

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventSubject {
    /// A verification, by its id `ver_…`. Data are its record.
    Verification,
    /// A settlement, by its id `stl_…`. Data are the settlement.
    Settlement,
    /// A change of the tenant, by what was changed. Data are the change.
    Change,
}

/// Declares [`EventKind`] from its rows: variant, name, subject, documentation.
macro_rules! events {
    ($($variant:ident $name:literal $subject:ident $doc:literal;)+) => {
        /// A kind of event. Names are stable: sellers subscribe to them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
        pub enum EventKind {
            $(
                #[doc = $doc]
                #[serde(rename = $name)]
                $variant,
            )+
        }

        impl EventKind {
            /// All kinds.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name in JSON, such as `payment.finalized`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it says, one sentence.
            #[must_use]
            pub const fn doc(self) -> &'static str {
                match self { $(Self::$variant => $doc,)+ }
            }

            /// What it is about.
            #[must_use]
            pub const fn subject(self) -> EventSubject {
                match self { $(Self::$variant => EventSubject::$subject,)+ }
            }

            /// The kind with this name; `None` for any other text.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|kind| kind.name() == text)
            }
        }
    };
}

events! {
    PaymentFinalized "payment.finalized" Verification "The payment is final.";
    PaymentReorged "payment.reorged" Verification "The payment's block has left the chain.";
    PaymentRestored "payment.restored" Verification "The payment is on the chain again, in the same block or another.";
    SettlementUndelivered "settlement.undelivered" Settlement "A settlement is completed, and no request got its success for five minutes.";
    KeyCreated "key.created" Change "A key was made.";
    KeyRotated "key.rotated" Change "A key was replaced by another.";
    KeyRevoked "key.revoked" Change "A key was revoked.";
    RecipientAdded "recipient.added" Change "An address was registered.";
    RecipientRetired "recipient.retired" Change "An address was retired.";
    MemberInvited "member.invited" Change "A person was invited.";
    MemberJoined "member.joined" Change "A person became a member.";
    MemberRemoved "member.removed" Change "A member was removed, or left.";
    TenantUpdated "tenant.updated" Change "Anything else of the tenant has changed.";
}

impl EventKind {
    /// Whether ledgers hold what has changed: they load it before the event counts as shipped.
    #[must_use]
    pub const fn concerns_ledgers(self) -> bool {
        match self {
            Self::KeyCreated
            | Self::KeyRotated
            | Self::KeyRevoked
            | Self::RecipientAdded
            | Self::RecipientRetired
            | Self::TenantUpdated => true,
            Self::MemberInvited
            | Self::MemberJoined
            | Self::MemberRemoved
            | Self::PaymentFinalized
            | Self::PaymentReorged
            | Self::PaymentRestored
            | Self::SettlementUndelivered => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_names_of_their_own() {
        for kind in EventKind::ALL {
            assert_eq!(EventKind::parse(kind.name()), Some(*kind));
            assert_eq!(serde_json::to_value(kind).expect("JSON"), kind.name());
            assert!(kind.doc().ends_with('.'), "{}", kind.name());
        }
        assert_eq!(EventKind::parse("payment"), None);
    }
}

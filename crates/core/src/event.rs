//! What sellers can hear of: every kind of event with its name, what it is about, and what its data are.

use serde::{Deserialize, Serialize};

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventSubject {
    /// A verification, by its id `ver_…`. Data are its record.
    Verification,
    /// A settlement, by its id `stl_…`. Data are the settlement.
    Settlement,
    /// The quota of a month, by the month, such as `2026-11`. Data are its use.
    Quota,
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
    VerificationSucceeded "verification.succeeded" Verification "A payment was verified.";
    VerificationFailed "verification.failed" Verification "A payment was refused, or could not be decided yet.";
    PaymentFinalized "payment.finalized" Verification "The payment is final.";
    PaymentReorged "payment.reorged" Verification "The payment's block has left the chain.";
    PaymentRestored "payment.restored" Verification "The payment is on the chain again, in the same block or another.";
    SettlementPending "settlement.pending" Settlement "A settlement is reserved, or its block has left the chain.";
    SettlementSucceeded "settlement.succeeded" Settlement "A settlement is completed: its transfer is in a block.";
    SettlementFailed "settlement.failed" Settlement "A settlement has failed: its transfer has moved nothing.";
    SettlementUndelivered "settlement.undelivered" Settlement "A settlement is completed, and no request got its success for five minutes.";
    QuotaWarning "quota.warning" Quota "80 % of the month's verifications are used.";
    QuotaExceeded "quota.exceeded" Quota "A request was refused because the month's verifications are used.";
    QuotaReset "quota.reset" Quota "A month has begun after one with a warning or a refusal.";
    KeyCreated "key.created" Change "A key was made.";
    KeyRotated "key.rotated" Change "A key was replaced by another.";
    KeyRevoked "key.revoked" Change "A key was revoked.";
    KeyExpiring "key.expiring" Change "A key ends within seven days, or within one; the detail is when.";
    RecipientAdded "recipient.added" Change "An address was registered.";
    RecipientRetired "recipient.retired" Change "An address was retired.";
    MemberInvited "member.invited" Change "A person was invited.";
    MemberJoined "member.joined" Change "A person became a member.";
    MemberRemoved "member.removed" Change "A member was removed, or left.";
    EndpointDisabled "endpoint.disabled" Change "A webhook endpoint was disabled: five days of attempts have failed, or it answered 410.";
    SubscriptionUpdated "subscription.updated" Change "The tenant's subscription has another status, plan or period; the detail names status and plan.";
    TenantUpdated "tenant.updated" Change "Anything else of the tenant has changed.";
}

impl EventKind {
    /// Whether ledgers hold what has changed: they load it before the event counts as shipped.
    #[must_use]
    pub const fn concerns_ledgers(self) -> bool {
        match self {
            Self::KeyCreated
            | Self::EndpointDisabled
            | Self::KeyRotated
            | Self::KeyRevoked
            | Self::RecipientAdded
            | Self::RecipientRetired
            | Self::TenantUpdated => true,
            Self::KeyExpiring
            | Self::SubscriptionUpdated
            | Self::MemberInvited
            | Self::MemberJoined
            | Self::MemberRemoved
            | Self::VerificationSucceeded
            | Self::VerificationFailed
            | Self::PaymentFinalized
            | Self::PaymentReorged
            | Self::PaymentRestored
            | Self::SettlementPending
            | Self::SettlementSucceeded
            | Self::SettlementFailed
            | Self::SettlementUndelivered
            | Self::QuotaWarning
            | Self::QuotaExceeded
            | Self::QuotaReset => false,
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

//! Why a payment is refused, in the order in which the rules are checked.

use serde::{Deserialize, Serialize};
use x402_chain::retry::{RepeatRule, Retry};

/// Declares [`RefusalCode`] from its rows: variant, wire name, retry, repeat, doc.
macro_rules! refusals {
    ($($variant:ident $wire:literal $retry:ident $repeat:ident $doc:literal;)+) => {
        /// The verdict on a payment that is not good, in order of precedence:
        /// of several broken rules the first named here is the answer's code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
        pub enum RefusalCode {
            $(#[doc = $doc] #[serde(rename = $wire)] $variant,)+
        }

        impl RefusalCode {
            /// All refusals, by precedence.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The code as it is sent: `UPPER_SNAKE_CASE`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $wire,)+ }
            }

            /// Whether a repeat of the request can help.
            #[must_use]
            pub const fn retry(self) -> Retry {
                match self { $(Self::$variant => Retry::$retry,)+ }
            }

            /// Which answer a repeat gets under the same `Idempotency-Key`. A recorded refusal holds for the recipient
            /// that it was judged for: if the request names none and the tenant's default has changed since, it is
            /// judged again.
            #[must_use]
            pub const fn repeat(self) -> RepeatRule {
                match self { $(Self::$variant => RepeatRule::$repeat,)+ }
            }

            /// The code that is sent under this name; `None` for any other text.
            #[must_use]
            pub fn parse(wire: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|refusal| refusal.as_str() == wire)
            }

            /// The sentence that the documentation prints.
            #[must_use]
            pub const fn doc(self) -> &'static str {
                match self { $(Self::$variant => $doc,)+ }
            }
        }
    };
}

refusals! {
    TxNotFound "TX_NOT_FOUND" Later Judged "No node knows the transaction.";
    TxPending "TX_PENDING" Later Judged "The transaction is known but not in a block that the node's head has reached.";
    TxFailed "TX_FAILED" Never Recorded "The transaction was executed and failed; nothing moved.";
    WrongAsset "WRONG_ASSET" Never Recorded "Nothing of the registered asset reached the recipient, but a bridged form or another token did.";
    NoMatchingTransfer "NO_MATCHING_TRANSFER" Never Recorded "Nothing reached the recipient.";
    RecipientForwarded "RECIPIENT_FORWARDED" Never Recorded "The recipient passed everything on in the same transaction.";
    ConfidentialAmount "CONFIDENTIAL_AMOUNT" Never Recorded "The transfer's amount is encrypted and cannot be verified.";
    AmountTooLow "AMOUNT_TOO_LOW" Never Recorded "Less than the expected amount arrived, or less of it by the named payer or nonce.";
    PayerMismatch "PAYER_MISMATCH" Never Recorded "No transfer is certain to come from the named payer.";
    MemoMismatch "MEMO_MISMATCH" Never Recorded "The transaction does not carry the named memo, or has several memos or payers and the request names no payer.";
    AuthorizationMismatch "AUTHORIZATION_MISMATCH" Never Recorded "No single transfer to the recipient belongs to the named EIP-3009 nonce.";
    TooOld "TOO_OLD" Never Recorded "The payment is older than the request accepts.";
    NotFinal "NOT_FINAL" Later Judged "The payment has not reached the finality that the request requires.";
    SanctionedAddress "SANCTIONED_ADDRESS" Never Judged "A payer is on the sanctions list.";
    AlreadyClaimed "ALREADY_CLAIMED" Never Recorded "The payment was claimed before, under another reference or none, or its unclaimed part is less than expected.";
}

/// What a verification answers of a payment by a payer on the sanctions list. A listed payer is never settled for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum SanctionsPolicy {
    /// A payment by a listed payer is refused and not claimed.
    #[default]
    Refuse,
    /// A listed payer is only named in the risk factors.
    Report,
}

impl SanctionsPolicy {
    /// The name in JSON: `report` or `refuse`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Report => "report",
        }
    }

    /// The policy with this name; `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Refuse, Self::Report].into_iter().find(|policy| policy.name() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_time_can_change_is_worth_a_repeat() {
        let later: Vec<_> = RefusalCode::ALL
            .iter()
            .filter(|refusal| refusal.retry() == Retry::Later)
            .map(|refusal| refusal.as_str())
            .collect();
        assert_eq!(later, ["TX_NOT_FOUND", "TX_PENDING", "NOT_FINAL"]);
        for refusal in RefusalCode::ALL {
            assert!(refusal.retry() == Retry::Never || refusal.repeat() == RepeatRule::Judged, "{refusal:?}");
            assert_eq!(RefusalCode::parse(refusal.as_str()), Some(*refusal));
        }
        // The tenant's policy and the list itself can change.
        assert_eq!(RefusalCode::SanctionedAddress.repeat(), RepeatRule::Judged);
        assert_eq!(RefusalCode::AlreadyClaimed.repeat(), RepeatRule::Recorded);
    }
}

//! Why an x402 payment is refused: the protocol's own strings (docs/spec/protocol.md#p-1-7),
//! which the reference shares character for character, and ours.

use crate::retry::{RepeatRule, Retry};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

/// Declares [`Reason`] from its rows: variant, wire name, retry, repeat, doc.
macro_rules! reasons {
    ($($variant:ident $wire:literal $retry:ident $repeat:ident $doc:literal;)+) => {
        /// Why a payment is refused, in the order in which the rules are checked.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
        #[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
        pub enum Reason {
            $(#[doc = $doc] #[serde(rename = $wire)] $variant,)+
        }

        impl Reason {
            /// All reasons, by precedence.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The reason as the protocol spells it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $wire,)+ }
            }

            /// Which answer a repeat gets under the same `Idempotency-Key`.
            #[must_use]
            pub const fn repeat(self) -> RepeatRule {
                match self { $(Self::$variant => RepeatRule::$repeat,)+ }
            }

            /// Whether a repeat of the request can help. `handed_over`: the payment's success was given to a request.
            #[must_use]
            pub const fn retry(self, handed_over: bool) -> Retry {
                match self {
                    // A success is given once.
                    Self::DuplicateSettlement if handed_over => Retry::Never,
                    $(Self::$variant => Retry::$retry,)+
                }
            }

            /// The sentence that the documentation prints.
            #[must_use]
            pub const fn doc(self) -> &'static str {
                match self { $(Self::$variant => $doc,)+ }
            }
        }
    };
}

/// By the table: a derived reader compares every name in code of its own, once for each form in which a text comes.
impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let found = Self::ALL.iter().copied().find(|reason| reason.as_str() == text);
        found.ok_or_else(|| D::Error::custom(format_args!("unknown reason {text:?}")))
    }
}

reasons! {
    InvalidVersion "invalid_x402_version" Never Recorded "x402Version is missing, is not 1 or 2, or differs between the body and the payload.";
    InvalidRequirements "invalid_payment_requirements" Never Recorded "The requirements are malformed, or are not those that the buyer accepted.";
    InvalidPayload "invalid_payload" Never Recorded "The payload is malformed.";
    UnsupportedScheme "unsupported_scheme" Never Recorded "The scheme is not served on this network.";
    InvalidNetwork "invalid_network" Never Recorded "The network is not known.";
    NetworkNotEnabled "network_not_enabled" Later Judged "The network is not open to this key.";
    AssetNotAllowed "asset_not_allowed" Never Recorded "The asset is not the registered one of its network.";
    PayToNotAllowed "pay_to_not_allowed" Later Judged "The money would go to an address that is not registered to the caller.";
    BelowMinimum "below_minimum_amount" Never Recorded "The amount is less than what is settled on this network.";
    SanctionedAddress "sanctioned_address" Never Judged "A party is on the sanctions list.";
    EvmScheme "invalid_exact_evm_scheme" Never Recorded "The payload and the requirements name different schemes.";
    EvmMissingDomain "invalid_exact_evm_missing_eip712_domain" Never Recorded "The token's EIP-712 name or version is missing.";
    EvmNetworkMismatch "invalid_exact_evm_network_mismatch" Never Recorded "The payload and the requirements name different networks.";
    EvmTokenName "invalid_exact_evm_token_name_mismatch" Never Recorded "The EIP-712 name is not the token's.";
    EvmTokenVersion "invalid_exact_evm_token_version_mismatch" Never Recorded "The EIP-712 version is not the token's.";
    EvmUnparsedSignature "invalid_exact_evm_failed_to_parse_signature" Never Recorded "The signature is not hex.";
    EvmRecipient "invalid_exact_evm_recipient_mismatch" Never Recorded "The authorization pays another address than payTo.";
    EvmValidBefore "invalid_exact_evm_payload_authorization_valid_before" Never Recorded "The authorization expires too soon, or has expired.";
    EvmValidAfter "invalid_exact_evm_payload_authorization_valid_after" Later Judged "The authorization is not valid yet.";
    EvmValueV1 "invalid_exact_evm_authorization_value" Never Recorded "The authorization is over another amount (version 1).";
    EvmValue "invalid_exact_evm_payload_authorization_value_mismatch" Never Recorded "The authorization is over another amount.";
    EvmSignature "invalid_exact_evm_signature" Never Recorded "The payer did not sign this authorization.";
    EvmUnverified "invalid_exact_evm_failed_to_verify_signature" Later Judged "The code at the payer's address, which decides how a signature is checked, could not be read: ask again.";
    EvmFactory "eip6492_factory_not_allowed" Never Recorded "The wallet is not deployed, and this service deploys none.";
    EvmAsset "asset_not_deployed_contract" Never Recorded "There is no contract at the asset's address.";
    EvmNoEip3009 "invalid_exact_evm_eip3009_not_supported" Never Recorded "The token does not implement EIP-3009.";
    EvmNonceUsed "invalid_exact_evm_nonce_already_used" Never Recorded "The authorization was used or cancelled.";
    EvmBalance "invalid_exact_evm_insufficient_balance" Later Judged "The payer does not hold the amount.";
    EvmSimulation "invalid_exact_evm_transaction_simulation_failed" Later Judged "The transfer would fail.";
    EvmRelayerPoor "invalid_exact_evm_relayer_insufficient_funds" Later Judged "No signer of this service can pay for gas on this network now: ask again.";
    EvmFailed "invalid_exact_evm_transaction_failed" Never Recorded "The transaction failed on the chain.";
    EvmEventMismatch "invalid_exact_evm_transfer_event_mismatch" Never Recorded "The transaction succeeded without the transfer that was signed.";
    SvmScheme "invalid_exact_svm_unsupported_scheme" Never Recorded "The payload and the requirements name different schemes.";
    SvmNetworkMismatch "invalid_exact_svm_network_mismatch" Never Recorded "The payload and the requirements name different networks.";
    SvmNetworkMismatchV1 "network_mismatch" Never Recorded "The payload and the requirements name different networks (version 1).";
    SvmNoFeePayer "invalid_exact_svm_payload_missing_fee_payer" Never Recorded "The requirements name no fee payer.";
    SvmFeePayerNotManaged "invalid_exact_svm_fee_payer_not_managed_by_facilitator" Never Judged "The fee payer is not one of ours.";
    SvmFeePayerNotManagedV1 "fee_payer_not_managed_by_facilitator" Never Judged "The fee payer is not one of ours (version 1).";
    SvmUndecoded "invalid_exact_svm_payload_transaction_could_not_be_decoded" Never Recorded "The transaction cannot be read.";
    SvmSigners "invalid_exact_svm_payload_excessive_signers" Never Recorded "More than two accounts sign the transaction.";
    SvmFeePayerMismatch "invalid_exact_svm_fee_payer_mismatch" Never Recorded "The transaction's fee payer is another than the requirements'.";
    SvmSignature "invalid_exact_svm_payload_signature_invalid" Never Recorded "The payer did not sign this transaction.";
    SvmLookups "invalid_exact_svm_smart_wallet_alt_resolution_not_available" Never Recorded "The transaction takes accounts from a lookup table.";
    SvmFeePayerNotIsolated "invalid_exact_svm_smart_wallet_fee_payer_not_isolated" Never Recorded "An instruction that is no assertion is given the fee payer's account.";
    SvmFeePayerTransfers "invalid_exact_svm_payload_transaction_fee_payer_transferring_funds" Never Recorded "The fee payer's own money would move.";
    SvmLength "invalid_exact_svm_payload_transaction_instructions_length" Never Recorded "There are too few or too many instructions.";
    SvmLimit "invalid_exact_svm_payload_transaction_instructions_compute_limit_instruction" Never Recorded "No compute unit limit is set where it belongs.";
    SvmLimitHigh "invalid_exact_svm_payload_transaction_instructions_compute_limit_instruction_too_high" Never Recorded "The compute unit limit is above the cap.";
    SvmPrice "invalid_exact_svm_payload_transaction_instructions_compute_price_instruction" Never Recorded "No compute unit price is set where it belongs.";
    SvmPriceHigh "invalid_exact_svm_payload_transaction_instructions_compute_price_instruction_too_high" Never Recorded "The priority fee, compute units times their price, is above the cap.";
    SvmNoTransfer "invalid_exact_svm_payload_no_transfer_instruction" Never Recorded "The first instruction after the compute budget and the assertions is not TransferChecked of a token program.";
    SvmMint "invalid_exact_svm_payload_mint_mismatch" Never Recorded "Another token would move.";
    SvmRecipient "invalid_exact_svm_payload_recipient_mismatch" Never Recorded "The money would go to another account than payTo's, or from it to itself.";
    SvmAmount "invalid_exact_svm_payload_amount_mismatch" Never Recorded "Another amount would move.";
    SvmFourth "invalid_exact_svm_payload_unknown_fourth_instruction" Never Recorded "The fourth instruction is neither a memo nor an assertion about accounts.";
    SvmFifth "invalid_exact_svm_payload_unknown_fifth_instruction" Never Recorded "The fifth instruction is neither a memo nor an assertion about accounts.";
    SvmSixth "invalid_exact_svm_payload_unknown_sixth_instruction" Never Recorded "The sixth instruction is neither a memo nor an assertion about accounts.";
    SvmSeventh "invalid_exact_svm_payload_unknown_seventh_instruction" Never Recorded "The seventh instruction is neither a memo nor an assertion about accounts.";
    SvmOptional "invalid_exact_svm_payload_unknown_optional_instruction" Never Recorded "An instruction after the transfer is neither a memo nor an assertion about accounts.";
    SvmMemoCount "invalid_exact_svm_payload_memo_count" Never Recorded "The transaction does not have exactly one memo.";
    SvmMemo "invalid_exact_svm_payload_memo_mismatch" Never Recorded "The memo is another than the requirements'.";
    SvmSimulation "invalid_exact_svm_transaction_simulation_failed" Later Judged "The transaction would fail.";
    SvmSimulationV1 "transaction_simulation_failed" Later Judged "The transaction would fail (version 1).";
    SvmFailed "invalid_exact_svm_transaction_failed" Never Recorded "The transaction failed, or can never reach the chain.";
    SvmUnconfirmed "post_settlement_transfer_not_confirmed" Never Recorded "The transaction succeeded without the transfer that was signed.";
    DuplicateSettlement "duplicate_settlement" Later Judged "This payment was handed over, another request waits for it, or it is bound to other requirements.";
    SettlementPending "settlement_pending" Later Judged "The transaction is sent and not yet confirmed: ask again.";
    UnexpectedVerify "unexpected_verify_error" Later Judged "It could not be checked now: ask again.";
    UnexpectedSettle "unexpected_settle_error" Later Judged "It could not be settled now: ask again.";
    FacilitatorUnavailable "facilitator_unavailable" Later Judged "A part of the service does not answer: repeat the request.";
    IdentifierConflict "payment_identifier_conflict" Never Judged "This payment identifier was used before with another payment.";
    QuotaExceeded "quota_exceeded" Later Judged "The seller's quota of this period is used up.";
    RateLimited "rate_limited" Later Judged "Too many requests from the seller.";
    Unauthorized "unauthorized" Never Judged "The seller's key is not valid, or lacks the scope.";
    TenantSuspended "tenant_suspended" Later Judged "The seller's account is suspended or cancelled.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn later_is_said_only_where_later_can_differ() {
        let later = |handed_over: bool| -> Vec<&str> {
            let all = Reason::ALL.iter().filter(|reason| reason.retry(handed_over) == Retry::Later);
            all.map(|reason| reason.as_str()).collect()
        };
        let want = [
            "network_not_enabled",
            "pay_to_not_allowed",
            "invalid_exact_evm_payload_authorization_valid_after",
            "invalid_exact_evm_failed_to_verify_signature",
            "invalid_exact_evm_insufficient_balance",
            "invalid_exact_evm_transaction_simulation_failed",
            "invalid_exact_evm_relayer_insufficient_funds",
            "invalid_exact_svm_transaction_simulation_failed",
            "transaction_simulation_failed",
            "duplicate_settlement",
            "settlement_pending",
            "unexpected_verify_error",
            "unexpected_settle_error",
            "facilitator_unavailable",
            "quota_exceeded",
            "rate_limited",
            "tenant_suspended",
        ];
        assert_eq!(later(false), want);
        assert_eq!(later(true), want.into_iter().filter(|name| *name != "duplicate_settlement").collect::<Vec<_>>());
    }

    #[test]
    fn reasons_have_names_of_their_own() {
        let names: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert!(!reason.doc().is_empty());
            assert!(reason.retry(false) == Retry::Never || reason.repeat() == RepeatRule::Judged, "{reason:?}");
            let text = format!("\"{}\"", reason.as_str());
            assert_eq!(serde_json::to_string(reason).expect("writes"), text);
            assert_eq!(serde_json::from_str::<Reason>(&text).expect("reads"), *reason);
            assert_eq!(serde_json::from_value::<Reason>(reason.as_str().into()).expect("reads"), *reason);
        }
        for wrong in ["\"\"", "\"expired\"", "\"InvalidVersion\"", "0", "null", "{\"invalid_payload\":null}"] {
            assert!(serde_json::from_str::<Reason>(wrong).is_err(), "{wrong}");
        }
    }
}

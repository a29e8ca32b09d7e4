//! Why an x402 payment is refused: the protocol's own strings (PROTOCOL section
//! 1.7), which the reference shares character for character, and ours.

use serde::{Deserialize, Serialize};

/// Declares [`Reason`] from its rows: variant, wire name, doc.
macro_rules! reasons {
    ($($variant:ident $wire:literal $doc:literal;)+) => {
        /// Why a payment is refused, in the order in which reasons are looked for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
        pub enum Reason {
            $(#[doc = $doc] #[serde(rename = $wire)] $variant,)+
        }

        impl Reason {
            /// All reasons, by precedence.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name on the wire.
            #[must_use]
            pub const fn wire(self) -> &'static str {
                match self { $(Self::$variant => $wire,)+ }
            }

            /// Whether the same payment may be judged otherwise later: such a refusal is no last word.
            #[must_use]
            pub const fn may_pass(self) -> bool {
                matches!(
                    self,
                    Self::NetworkNotEnabled
                        | Self::PayToNotAllowed
                        | Self::EvmValidAfter
                        | Self::EvmBalance
                        | Self::EvmSimulation
                        | Self::EvmUnverified
                        | Self::EvmRelayerPoor
                        | Self::SvmSimulation
                        | Self::SvmSimulationV1
                        | Self::SettlementPending
                        | Self::DuplicateSettlement
                        | Self::IdentifierConflict
                        | Self::UnexpectedVerify
                        | Self::UnexpectedSettle
                        | Self::FacilitatorUnavailable
                        | Self::QuotaExceeded
                        | Self::RateLimited
                        | Self::Unauthorized
                        | Self::TenantSuspended
                )
            }

            /// The sentence that the documentation prints.
            #[must_use]
            pub const fn doc(self) -> &'static str {
                match self { $(Self::$variant => $doc,)+ }
            }
        }
    };
}

reasons! {
    InvalidVersion "invalid_x402_version" "The body names no version, another than 1 or 2, or two that differ.";
    InvalidRequirements "invalid_payment_requirements" "The requirements are malformed, or are not those that the buyer accepted.";
    InvalidPayload "invalid_payload" "The payload is malformed.";
    UnsupportedScheme "unsupported_scheme" "The scheme is not served on this network.";
    InvalidNetwork "invalid_network" "The network is not known.";
    NetworkNotEnabled "network_not_enabled" "The network is not open to this key.";
    AssetNotAllowed "asset_not_allowed" "The asset is not the registered one of its network.";
    PayToNotAllowed "pay_to_not_allowed" "The money would go to an address that is not registered to the caller.";
    BelowMinimum "below_minimum_amount" "The amount is less than what is settled on this network.";
    SanctionedAddress "sanctioned_address" "A party is on the sanctions list.";
    EvmScheme "invalid_exact_evm_scheme" "The payload and the requirements name different schemes.";
    EvmMissingDomain "invalid_exact_evm_missing_eip712_domain" "The token's EIP-712 name or version is missing.";
    EvmNetworkMismatch "invalid_exact_evm_network_mismatch" "The payload and the requirements name different networks.";
    EvmTokenName "invalid_exact_evm_token_name_mismatch" "The EIP-712 name is not the token's.";
    EvmTokenVersion "invalid_exact_evm_token_version_mismatch" "The EIP-712 version is not the token's.";
    EvmUnparsedSignature "invalid_exact_evm_failed_to_parse_signature" "The signature is not hex.";
    EvmRecipient "invalid_exact_evm_recipient_mismatch" "The authorization pays another address than payTo.";
    EvmValidBefore "invalid_exact_evm_payload_authorization_valid_before" "The authorization expires too soon, or has expired.";
    EvmValidAfter "invalid_exact_evm_payload_authorization_valid_after" "The authorization is not valid yet.";
    EvmValueV1 "invalid_exact_evm_authorization_value" "The authorization is over another amount (version 1).";
    EvmValue "invalid_exact_evm_payload_authorization_value_mismatch" "The authorization is over another amount.";
    EvmSignature "invalid_exact_evm_signature" "The payer did not sign this authorization.";
    EvmUnverified "invalid_exact_evm_failed_to_verify_signature" "The code at the payer's address, which decides how a signature is checked, could not be read: ask again.";
    EvmFactory "eip6492_factory_not_allowed" "The wallet is not deployed, and its factory is not on the list.";
    EvmAsset "asset_not_deployed_contract" "There is no contract at the asset's address.";
    EvmNoEip3009 "invalid_exact_evm_eip3009_not_supported" "The token does not know EIP-3009.";
    EvmNonceUsed "invalid_exact_evm_nonce_already_used" "The authorization was used or cancelled.";
    EvmBalance "invalid_exact_evm_insufficient_balance" "The payer does not hold the amount.";
    EvmSimulation "invalid_exact_evm_transaction_simulation_failed" "The transfer would fail.";
    EvmRelayerPoor "invalid_exact_evm_relayer_insufficient_funds" "Our own signers cannot pay for gas on this network now: ask again.";
    EvmFailed "invalid_exact_evm_transaction_failed" "The transaction failed on the chain.";
    EvmEventMismatch "invalid_exact_evm_transfer_event_mismatch" "The transaction succeeded without the transfer that was signed.";
    SvmScheme "invalid_exact_svm_unsupported_scheme" "The payload and the requirements name different schemes.";
    SvmNetworkMismatch "invalid_exact_svm_network_mismatch" "The payload and the requirements name different networks.";
    SvmNetworkMismatchV1 "network_mismatch" "The payload and the requirements name different networks (version 1).";
    SvmNoFeePayer "invalid_exact_svm_payload_missing_fee_payer" "The requirements name no fee payer.";
    SvmFeePayerNotManaged "invalid_exact_svm_fee_payer_not_managed_by_facilitator" "The fee payer is not one of ours.";
    SvmFeePayerNotManagedV1 "fee_payer_not_managed_by_facilitator" "The fee payer is not one of ours (version 1).";
    SvmUndecoded "invalid_exact_svm_payload_transaction_could_not_be_decoded" "The transaction cannot be read.";
    SvmSigners "invalid_exact_svm_payload_excessive_signers" "More than two accounts sign the transaction.";
    SvmFeePayerMismatch "invalid_exact_svm_fee_payer_mismatch" "The transaction's fee payer is another than the requirements'.";
    SvmSignature "invalid_exact_svm_payload_signature_invalid" "The payer did not sign this transaction.";
    SvmLookups "invalid_exact_svm_smart_wallet_alt_resolution_not_available" "Accounts stand in a lookup table.";
    SvmFeePayerNotIsolated "invalid_exact_svm_smart_wallet_fee_payer_not_isolated" "An instruction that may do more than assert is given the fee payer's account.";
    SvmFeePayerTransfers "invalid_exact_svm_payload_transaction_fee_payer_transferring_funds" "The fee payer's own money would move.";
    SvmLength "invalid_exact_svm_payload_transaction_instructions_length" "There are too few or too many instructions.";
    SvmLimit "invalid_exact_svm_payload_transaction_instructions_compute_limit_instruction" "No compute unit limit is set where it belongs.";
    SvmLimitHigh "invalid_exact_svm_payload_transaction_instructions_compute_limit_instruction_too_high" "The compute unit limit is above the cap.";
    SvmPrice "invalid_exact_svm_payload_transaction_instructions_compute_price_instruction" "No compute unit price is set where it belongs.";
    SvmPriceHigh "invalid_exact_svm_payload_transaction_instructions_compute_price_instruction_too_high" "The priority fee, compute units times their price, is above the cap.";
    SvmNoTransfer "invalid_exact_svm_payload_no_transfer_instruction" "There is no TransferChecked where it belongs.";
    SvmMint "invalid_exact_svm_payload_mint_mismatch" "Another token would move.";
    SvmRecipient "invalid_exact_svm_payload_recipient_mismatch" "The money would go to another account than payTo's, or from it to itself.";
    SvmAmount "invalid_exact_svm_payload_amount_mismatch" "Another amount would move.";
    SvmFourth "invalid_exact_svm_payload_unknown_fourth_instruction" "The fourth instruction may do more than remark.";
    SvmFifth "invalid_exact_svm_payload_unknown_fifth_instruction" "The fifth instruction may do more than remark.";
    SvmSixth "invalid_exact_svm_payload_unknown_sixth_instruction" "The sixth instruction may do more than remark.";
    SvmSeventh "invalid_exact_svm_payload_unknown_seventh_instruction" "The seventh instruction may do more than remark.";
    SvmOptional "invalid_exact_svm_payload_unknown_optional_instruction" "An instruction after the transfer may do more than remark.";
    SvmMemoCount "invalid_exact_svm_payload_memo_count" "There is not exactly one memo.";
    SvmMemo "invalid_exact_svm_payload_memo_mismatch" "The memo is another than the requirements'.";
    SvmSimulation "invalid_exact_svm_transaction_simulation_failed" "The transaction would fail.";
    SvmSimulationV1 "transaction_simulation_failed" "The transaction would fail (version 1).";
    SvmFailed "invalid_exact_svm_transaction_failed" "The transaction failed, or can never reach the chain.";
    SvmUnconfirmed "post_settlement_transfer_not_confirmed" "The transaction succeeded without the transfer that was signed.";
    DuplicateSettlement "duplicate_settlement" "This payment was handed over, another request waits for it, or it is bound to other requirements.";
    SettlementPending "settlement_pending" "The transaction is sent and not yet confirmed: ask again.";
    UnexpectedVerify "unexpected_verify_error" "It could not be checked now: ask again.";
    UnexpectedSettle "unexpected_settle_error" "It could not be settled now: ask again.";
    FacilitatorUnavailable "facilitator_unavailable" "A part of the service does not answer: ask again.";
    IdentifierConflict "payment_identifier_conflict" "This payment identifier came before with another payment.";
    QuotaExceeded "quota_exceeded" "The seller's plan is used up for this period.";
    RateLimited "rate_limited" "Too many requests from the seller.";
    Unauthorized "unauthorized" "The seller's key is not good for this.";
    TenantSuspended "tenant_suspended" "The seller is not served now.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn reasons_have_names_of_their_own() {
        let names: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.wire()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert!(!reason.doc().is_empty());
            assert_eq!(serde_json::to_string(reason).expect("writes"), format!("\"{}\"", reason.wire()));
        }
    }
}

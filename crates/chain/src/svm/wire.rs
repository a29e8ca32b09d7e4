//! A transaction on the wire: legacy, v0 and version 1 (docs/spec/chains.md#svm-wire).

use crate::address::TxId;
use crate::signer::SvmSigner;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use solana_message::compiled_instruction::CompiledInstruction;
use solana_message::v1::TransactionConfig;
use solana_message::{MessageHeader, VersionedMessage};
use solana_transaction::versioned::VersionedTransaction;

/// The most bytes of a legacy or v0 transaction: one packet.
const BYTES_MAX: usize = 1_232;
/// The most bytes of a version-1 transaction.
const BYTES_MAX_V1: usize = 4_096;

/// A transaction with as many signatures as its message requires, in which every index names an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SvmTransaction {
    transaction: VersionedTransaction,
    message: Vec<u8>,
}

/// An instruction with its indexes resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResolvedInstruction<'a> {
    /// The address of the program that is called.
    pub program: [u8; 32],
    /// The accounts, in order.
    pub accounts: Vec<[u8; 32]>,
    /// The data that is passed to the program.
    pub data: &'a [u8],
}

/// A transaction with all its signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedSvmTransaction {
    /// The whole transaction, base64.
    pub raw: String,
    /// The transaction's id: the first signature.
    pub id: TxId,
}

impl SvmTransaction {
    /// Reads base64. A text is refused unless it encodes to the same bytes again, so that no two texts are one
    /// transaction.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        if text.len() > BYTES_MAX_V1.saturating_mul(2) {
            return None;
        }
        let bytes = BASE64_STANDARD.decode(text).ok()?;
        let transaction: VersionedTransaction = wincode::deserialize(&bytes).ok()?;
        let most = match transaction.message {
            VersionedMessage::Legacy(_) | VersionedMessage::V0(_) => BYTES_MAX,
            VersionedMessage::V1(_) => BYTES_MAX_V1,
        };
        transaction.sanitize().ok()?;
        let same = wincode::serialize(&transaction).ok()? == bytes;
        let message = transaction.message.serialize();
        (same && bytes.len() <= most).then_some(Self { transaction, message })
    }

    /// The bytes that every signer signs.
    #[must_use]
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// How many accounts sign, and how many of them only read.
    #[must_use]
    pub(crate) fn header(&self) -> &MessageHeader {
        self.transaction.message.header()
    }

    /// The account that pays the fee: the first.
    #[must_use]
    pub(crate) fn fee_payer(&self) -> Option<[u8; 32]> {
        self.transaction.message.static_account_keys().first().map(solana_address::Address::to_bytes)
    }

    /// Whether it takes accounts from address lookup tables.
    #[must_use]
    pub(crate) fn uses_lookup_tables(&self) -> bool {
        self.transaction.message.address_table_lookups().is_some_and(|lookups| !lookups.is_empty())
    }

    /// The fields of a version-1 transaction that set its cost; `None` for the other forms.
    #[must_use]
    pub(crate) const fn config(&self) -> Option<&TransactionConfig> {
        match &self.transaction.message {
            VersionedMessage::V1(message) => Some(&message.config),
            VersionedMessage::Legacy(_) | VersionedMessage::V0(_) => None,
        }
    }

    /// The instructions; `None` where one points into a table that is not read.
    #[must_use]
    pub(crate) fn instructions(&self) -> Option<Vec<ResolvedInstruction<'_>>> {
        let keys = self.transaction.message.static_account_keys();
        let key = |index: u8| keys.get(usize::from(index)).map(solana_address::Address::to_bytes);
        let resolve = |each: &'_ CompiledInstruction| -> Option<(Vec<[u8; 32]>, [u8; 32])> {
            Some((each.accounts.iter().copied().map(key).collect::<Option<_>>()?, key(each.program_id_index)?))
        };
        let instructions = self.transaction.message.instructions().iter();
        instructions
            .map(|each| {
                resolve(each).map(|(accounts, program)| ResolvedInstruction { program, accounts, data: &each.data })
            })
            .collect()
    }

    /// Whether every signer but the first has signed the message.
    #[must_use]
    pub(crate) fn is_signed_by_others(&self) -> bool {
        let keys = self.transaction.message.static_account_keys().iter();
        keys.zip(&self.transaction.signatures).skip(1).all(|(key, signature)| {
            let signature = Signature::from_bytes(signature.as_array());
            VerifyingKey::from_bytes(key.as_array())
                .is_ok_and(|key| key.verify_strict(&self.message, &signature).is_ok())
        })
    }

    /// Adds the fee payer's signature; `None` where `signer` is not the fee payer.
    #[must_use]
    pub fn sign(mut self, signer: &SvmSigner) -> Option<SignedSvmTransaction> {
        if self.fee_payer() != Some(signer.address()) {
            return None;
        }
        let ours = signer.sign(&self.message);
        *self.transaction.signatures.first_mut()? = ours.into();
        let raw = BASE64_STANDARD.encode(wincode::serialize(&self.transaction).ok()?);
        Some(SignedSvmTransaction { raw, id: TxId::Svm(ours) })
    }
}

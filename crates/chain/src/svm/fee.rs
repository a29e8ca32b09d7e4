//! The fee that a transaction takes from its fee payer: a fixed amount for each signature, and the priority fee. It is
//! known before the transaction is sent, and a failed transaction pays it too.

use super::programs;
use super::wire::SvmTransaction;
use crate::network::LAMPORTS_PER_SIGNATURE;
use solana_address::Address as Pubkey;

/// The compute budget program.
pub(crate) const COMPUTE_BUDGET: Pubkey = Pubkey::from_str_const(programs::COMPUTE_BUDGET);
/// The first byte of the instruction that sets the limit of compute units.
pub(crate) const SET_COMPUTE_UNIT_LIMIT: u8 = 2;
/// The first byte of the instruction that sets the price of a compute unit.
pub(crate) const SET_COMPUTE_UNIT_PRICE: u8 = 3;
/// The most compute units of a transaction, and its limit where it sets none.
const UNITS_MAX: u32 = 1_400_000;
/// Millionths of a lamport in a lamport.
pub(crate) const MICRO: u128 = 1_000_000;

/// Lamports: the signatures and the priority fee. It is owed whether the transaction succeeds or fails.
#[must_use]
pub fn fee_lamports(wire: &SvmTransaction) -> u64 {
    let signatures = LAMPORTS_PER_SIGNATURE.saturating_mul(wire.header().num_required_signatures.into());
    let priority = match wire.config() {
        Some(config) => config.priority_fee.unwrap_or(0),
        None => offered_priority_fee(wire),
    };
    signatures.saturating_add(priority)
}

/// The priority fee that the compute budget's instructions set, lamports.
fn offered_priority_fee(wire: &SvmTransaction) -> u64 {
    let (mut units, mut price) = (UNITS_MAX, 0_u64);
    for each in wire.instructions().into_iter().flatten().filter(|each| each.program == COMPUTE_BUDGET.to_bytes()) {
        match each.data.split_first() {
            Some((&SET_COMPUTE_UNIT_LIMIT, rest)) => units = rest.try_into().map_or(units, u32::from_le_bytes),
            Some((&SET_COMPUTE_UNIT_PRICE, rest)) => price = rest.try_into().map_or(price, u64::from_le_bytes),
            Some(_) | None => {}
        }
    }
    priority_fee(units, price)
}

/// Lamports for `units` at `price` millionths of a lamport each, rounded up as the runtime does.
pub(crate) fn priority_fee(units: u32, price: u64) -> u64 {
    let micro = u128::from(units).saturating_mul(price.into());
    u64::try_from(micro.div_ceil(MICRO)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use solana_message::compiled_instruction::CompiledInstruction;
    use solana_message::v1::{self, TransactionConfig};
    use solana_message::{Hash, MessageHeader, VersionedMessage, legacy};
    use solana_transaction::versioned::VersionedTransaction;

    const HEADER: MessageHeader = MessageHeader {
        num_required_signatures: 2,
        num_readonly_signed_accounts: 0,
        num_readonly_unsigned_accounts: 1,
    };

    fn fee_of(message: VersionedMessage) -> u64 {
        let signatures = vec![solana_signature::Signature::default(); 2];
        let bytes = wincode::serialize(&VersionedTransaction { signatures, message }).expect("writes");
        fee_lamports(&SvmTransaction::read(&BASE64_STANDARD.encode(bytes)).expect("reads"))
    }

    fn keys() -> Vec<Pubkey> {
        vec![Pubkey::new_from_array([1; 32]), Pubkey::new_from_array([2; 32]), COMPUTE_BUDGET]
    }

    fn legacy(data: &[Vec<u8>]) -> u64 {
        let instruction =
            |data: &Vec<u8>| CompiledInstruction { program_id_index: 2, accounts: vec![], data: data.clone() };
        fee_of(VersionedMessage::Legacy(legacy::Message {
            header: HEADER,
            account_keys: keys(),
            recent_blockhash: Hash::default(),
            instructions: data.iter().map(instruction).collect(),
        }))
    }

    #[test]
    fn a_fee_is_its_signatures_and_what_it_offers() {
        let limit = |units: u32| [&[2][..], &units.to_le_bytes()].concat();
        let price = |micro: u64| [&[3][..], &micro.to_le_bytes()].concat();
        assert_eq!(legacy(&[limit(20_000), price(100_000)]), 12_000);
        assert_eq!(legacy(&[limit(20_000), price(1)]), 10_001);
        assert_eq!(legacy(&[price(1_000_000)]), 1_410_000);
        assert_eq!(legacy(&[limit(20_000)]), 10_000);
        assert_eq!(legacy(&[vec![2, 1], vec![9], limit(5), price(u64::MAX)]), 92_233_720_378_548);
    }

    #[test]
    fn a_version_1_transaction_names_its_priority_fee() {
        let v1_fee = |priority_fee| {
            fee_of(VersionedMessage::V1(v1::Message {
                header: HEADER,
                config: TransactionConfig { priority_fee, ..TransactionConfig::default() },
                account_keys: keys(),
                lifetime_specifier: Hash::default(),
                instructions: vec![CompiledInstruction { program_id_index: 2, accounts: vec![], data: vec![] }],
            }))
        };
        assert_eq!((v1_fee(Some(7)), v1_fee(None)), (10_007, 10_000));
    }
}

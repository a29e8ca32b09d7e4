//! The message that proves an address: what a wallet shows and signs. The service stores the terms, and writes the
//! message again to check a signature: no text of a caller is read as a message.

use crate::error::{ErrorCode, Fault};
use crate::sanctions::SanctionsList;
use crate::tenancy::admission::by_tier;
use crate::tenancy::tier::Tier;
use core::fmt;
use x402_chain::address::Address;
use x402_chain::id::TenantId;
use x402_chain::network::Network;
use x402_chain::time::UnixMillis;

/// How long a challenge holds: ten minutes, which suffice to fetch a hardware wallet.
pub const CHALLENGE_MS: u64 = 10 * 60 * 1_000;
/// The most challenges of a tenant that hold at a time: not used, with tries left.
pub const CHALLENGES_MAX: u64 = 100;
/// The most challenges of a tenant in [`CHALLENGE_MS`], those that are used or tried too often included: each is a row of the
/// directory.
pub const CHALLENGES_MADE_MAX: u64 = 1_000;
/// How often a signature may be tried for one challenge: a try may cost calls to the chain.
pub const PROOF_TRIES_MAX: u64 = 5;

/// A nonce of 16 bytes, written as 32 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProofNonce([u8; 16]);

impl ProofNonce {
    /// A nonce of random bytes.
    #[must_use]
    pub const fn new(random: [u8; 16]) -> Self {
        Self(random)
    }

    /// Reads 32 lower-case hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0_u8; 16];
        let lower = !text.bytes().any(|letter| letter.is_ascii_uppercase());
        (lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(Self(bytes))
    }
}

impl fmt::Display for ProofNonce {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&hex::encode(self.0))
    }
}

/// What a signature is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Challenge<'a> {
    /// The origin of the service that asks: `https://…`.
    pub service: &'a str,
    /// The tenant that is to be paid at the address.
    pub tenant: TenantId,
    /// The chain; its environment is that of the registration.
    pub network: &'static Network,
    /// The address, which signs.
    pub address: &'a Address,
    /// Makes the message one of its kind.
    pub nonce: ProofNonce,
    /// Until when the signature counts.
    pub expires_at: UnixMillis,
}

impl Challenge<'_> {
    /// The text to sign: plain, for a person to read in the wallet; every term has a line of its own.
    #[must_use]
    pub fn message(&self) -> String {
        let Self { service, tenant, network, address, nonce, expires_at } = self;
        format!(
            "Register an address with x402-edge\n\n\
            By signing, you show that you hold the address below, and allow the tenant below to be paid at it. \
            A signature moves no money and costs no fee.\n\n\
            Service: {service}\n\
            Tenant: {tenant}\n\
            Environment: {environment}\n\
            Chain: {chain} ({id})\n\
            Address: {address}\n\
            Nonce: {nonce}\n\
            Expires: {expires}",
            environment = network.environment.name(),
            chain = network.key,
            id = network.caip2,
            expires = expires_at.rfc3339(),
        )
    }
}

/// When a challenge of this time ends.
#[must_use]
pub const fn challenge_expiry(now: UnixMillis) -> UnixMillis {
    UnixMillis(now.0.saturating_add(CHALLENGE_MS))
}

/// Checks whether a tenant may register an address of its own on a chain; `None`: one that is derived. Where no sanctions
/// list could be read, nobody is screened.
///
/// # Errors
/// `CHAIN_NOT_ENABLED` for a chain that only another tier includes; `SANCTIONED_RECIPIENT`.
pub fn check_registration(
    tier: Tier,
    network: &Network,
    address: Option<&Address>,
    list: Option<&SanctionsList>,
) -> Result<(), Fault> {
    if !tier.includes(network) {
        let detail = format!("the tier '{}' does not include '{}'", tier.plan().name, network.key);
        return Err(by_tier(tier, Fault::new(ErrorCode::ChainNotEnabled, detail).at("chain")));
    }
    match (address, list) {
        (Some(address), Some(list)) if list.contains(address) => {
            let detail = "the address is on the sanctions list of the US Treasury: it cannot be registered";
            Err(Fault::new(ErrorCode::SanctionedRecipient, detail).at("address"))
        }
        (Some(_) | None, Some(_) | None) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use x402_chain::address::Family;
    use x402_chain::network;

    const MERCHANT: &str = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C";

    /// Service, tenant, chain, address, nonce and end.
    type Terms = (usize, u8, usize, u8, u8, u64);

    fn message((service, tenant, chain, address, nonce, at): Terms) -> String {
        let chain = ["base", "base-sepolia", "ethereum", "solana"][chain];
        let network = network::by_key(chain).expect("a chain");
        let address = match network.family {
            Family::Evm => Address::Evm([address; 20].into()),
            Family::Svm => Address::Svm([address; 32]),
        };
        let challenge = Challenge {
            service: ["https://a.example", "https://b.example"][service],
            tenant: TenantId([tenant; 12]),
            network,
            address: &address,
            nonce: ProofNonce::new([nonce; 16]),
            expires_at: UnixMillis(at),
        };
        challenge.message()
    }

    #[test]
    fn the_message_is_the_same_text_for_the_same_terms() {
        let address = Address::parse(Family::Evm, &MERCHANT.to_lowercase()).expect("an address");
        let challenge = Challenge {
            service: "https://pay.example",
            tenant: TenantId([0xab; 12]),
            network: network::by_key("base").expect("a chain"),
            address: &address,
            nonce: ProofNonce::new([0xcd; 16]),
            expires_at: challenge_expiry(UnixMillis(1_795_233_600_000)),
        };
        let wanted = format!(
            "Register an address with x402-edge\n\nBy signing, you show that you hold the address below, and allow the \
             tenant below to be paid at it. A signature moves no money and costs no fee.\n\nService: \
             https://pay.example\nTenant: ten_{}\nEnvironment: live\nChain: base (eip155:8453)\nAddress: {MERCHANT}\n\
             Nonce: {}\nExpires: 2026-11-21T04:10:00.000Z",
            "ab".repeat(12),
            "cd".repeat(16)
        );
        assert_eq!(challenge.message(), wanted);
        assert!(wanted.is_ascii() && wanted.len() < 1_200, "a hardware wallet takes it");
    }

    #[test]
    fn a_nonce_is_written_in_one_way() {
        let nonce = ProofNonce::new([0xab; 16]);
        assert_eq!(ProofNonce::parse(&nonce.to_string()), Some(nonce));
        for wrong in ["", "AB", &"AB".repeat(16), &"ab".repeat(15), &"ab".repeat(17), &"g".repeat(32)] {
            assert_eq!(ProofNonce::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_chain_is_of_the_tier_and_an_address_on_no_list() {
        let chain = |key| network::by_key(key).expect("a chain");
        let list = SanctionsList::builtin().expect("a list");
        let listed = Address::parse(Family::Evm, "0x098b716b8aaf21512996dc57eb0615e2383e2f96").expect("an address");
        let own = Address::parse(Family::Evm, MERCHANT).expect("an address");
        let check = |tier, key, address| check_registration(tier, chain(key), address, Some(&list));
        assert_eq!(check(Tier::Free, "base", Some(&own)), Ok(()));
        assert_eq!(check(Tier::Free, "local-evm", None), Ok(()));
        for key in ["polygon", "polygon-amoy"] {
            let fault = check(Tier::Free, key, Some(&own)).expect_err("refused");
            assert_eq!((fault.code, fault.upgrade), (ErrorCode::ChainNotEnabled, true), "{key}");
            assert_eq!(check(Tier::Pro, key, Some(&own)), Ok(()));
        }
        let fault = check(Tier::Enterprise, "base", Some(&listed)).expect_err("refused");
        assert_eq!((fault.code, fault.param.as_deref()), (ErrorCode::SanctionedRecipient, Some("address")));
        assert_eq!(check_registration(Tier::Free, chain("base"), Some(&listed), None), Ok(()), "no list, no screening");
    }

    proptest! {
        #[test]
        fn other_terms_are_another_message(
            one in (0_usize..2, 0_u8..3, 0_usize..4, 0_u8..3, 0_u8..3, 0_u64..3),
            two in (0_usize..2, 0_u8..3, 0_usize..4, 0_u8..3, 0_u8..3, 0_u64..3),
        ) {
            prop_assert_eq!(message(one) == message(two), one == two);
        }
    }
}

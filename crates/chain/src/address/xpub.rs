//! Addresses that are children of an operator's extended public key (BIP-32).

use super::{Address, address_of_key};
use bip32::{ChildNumber, XPub};
use core::fmt;

/// An account's extended public key: addresses can be derived from it, but nothing can be spent.
pub struct Xpub {
    /// The account's external chain (BIP-44): `0` below the key that was given.
    chain: XPub,
}

impl Xpub {
    /// Reads `xpub…`. A private key (`xprv…`) is refused: this service never holds one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let account: XPub = text.starts_with("xpub").then(|| text.parse().ok()).flatten()?;
        let chain = account.derive_child(ChildNumber::new(0, false).ok()?).ok()?;
        Some(Self { chain })
    }

    /// The EVM address of the child `0/<index>`; `None` from 2^31 on, where only
    /// private keys have children.
    #[must_use]
    pub fn address(&self, index: u32) -> Option<Address> {
        let child = self.chain.derive_child(ChildNumber::new(index, false).ok()?).ok()?;
        Some(Address::Evm(address_of_key(child.public_key())))
    }
}

impl fmt::Debug for Xpub {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Xpub(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bip32::{Prefix, XPrv};

    /// BIP-39 seed of "test test … junk", the mnemonic of every development chain.
    const SEED: &str = "9dfc3c64c2f8bede1533b6a79f8570e5943e0b8fd1cf77107adf7b72cef42185\
                        d564a3aee24cab43f80e3c4538087d70fc824eabbad596a23c97b6ee8322ccc0";

    fn account() -> XPrv {
        let seed = hex::decode(SEED).expect("hex");
        XPrv::derive_from_path(&seed, &"m/44'/60'/0'".parse().expect("a path")).expect("a key")
    }

    #[test]
    fn children_are_the_addresses_that_every_wallet_shows() {
        let xpub = Xpub::parse(&account().public_key().to_string(Prefix::XPUB)).expect("a key");
        let shown = [
            "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
            "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
            "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
        ];
        for (index, address) in (0..).zip(shown) {
            assert_eq!(xpub.address(index).expect("a child").to_string(), address);
        }
        assert!(xpub.address(1 << 31).is_none());
        assert_eq!(format!("{xpub:?}"), "Xpub(…)");
    }

    #[test]
    fn private_keys_and_nonsense_are_refused() {
        let private = account().to_string(Prefix::XPRV);
        assert!(Xpub::parse(&private).is_none());
        for text in ["", "xpub", "xpub1111", "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"] {
            assert!(Xpub::parse(text).is_none(), "{text}");
        }
    }
}

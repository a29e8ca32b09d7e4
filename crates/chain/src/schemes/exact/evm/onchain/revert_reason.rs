//! The protocol's reason for a token's message about a transfer that would fail.

use crate::reason::Reason;

/// A part of a token's message in lower case, the reason that it means, and a sentence for the client.
type RevertMeaning = (&'static str, Reason, &'static str);

/// The messages of Circle's `FiatToken`, versions 1 to 2.2, which bridged USDC and EURC share (`EIP3009.sol`,
/// `ECRecover.sol`, `SignatureChecker.sol`, `FiatTokenV1.sol`, `Blacklistable.sol`, `Pausable.sol`). Tokens derived
/// from them add a prefix of their own.
const REVERT_MEANINGS: &[RevertMeaning] = &[
    (
        "authorization is not yet valid",
        Reason::EvmValidAfter,
        "the authorization is not valid yet by the chain's clock",
    ),
    ("authorization is expired", Reason::EvmValidBefore, "the authorization has expired by the chain's clock"),
    ("authorization is used", Reason::EvmNonceUsed, "the authorization was used or cancelled before"),
    ("invalid signature", Reason::EvmSignature, "the token does not accept the signature"),
    ("transfer amount exceeds balance", Reason::EvmBalance, "the payer does not hold the amount"),
    ("account is blacklisted", Reason::EvmSimulation, "the token's issuer has blocked the payer or payTo"),
    ("pausable: paused", Reason::EvmSimulation, "the token's issuer has paused all transfers"),
];

/// The reason for a node's message about a revert, with the sentence for the client.
pub(super) fn revert_meaning(words: &str) -> (Reason, String) {
    let lower = words.to_ascii_lowercase();
    match REVERT_MEANINGS.iter().find(|(needle, ..)| lower.contains(needle)) {
        Some((_, reason, sentence)) => (*reason, format!("{sentence}: {words}")),
        None => (Reason::EvmSimulation, format!("the transfer would fail: {words}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(words: &str, want: Reason) {
        for words in [words.to_owned(), format!("execution reverted: {words}"), format!("VM Exception: {words}")] {
            let (reason, message) = revert_meaning(&words);
            assert_eq!(reason, want, "{words}");
            assert!(message.ends_with(&words), "{message}");
        }
    }

    #[test]
    fn every_text_of_the_token_has_its_reason() {
        check("FiatTokenV2: authorization is not yet valid", Reason::EvmValidAfter);
        check("EIP3009: authorization is not yet valid", Reason::EvmValidAfter);
        check("FiatTokenV2: authorization is expired", Reason::EvmValidBefore);
        check("FiatTokenV2: authorization is used or canceled", Reason::EvmNonceUsed);
        check("FiatTokenV2: invalid signature", Reason::EvmSignature);
        check("ECRecover: invalid signature", Reason::EvmSignature);
        check("ECRecover: invalid signature length", Reason::EvmSignature);
        check("ECRecover: invalid signature 's' value", Reason::EvmSignature);
        check("ECRecover: invalid signature 'v' value", Reason::EvmSignature);
        check("ERC20: transfer amount exceeds balance", Reason::EvmBalance);
        check("Blacklistable: account is blacklisted", Reason::EvmSimulation);
        check("FiatTokenV2_2: Account is blacklisted", Reason::EvmSimulation);
        check("Pausable: paused", Reason::EvmSimulation);
        check("", Reason::EvmSimulation);
        check("FiatTokenV2_2: Balance exceeds (2^255 - 1)", Reason::EvmSimulation);
        check("ERC20: transfer to the zero address", Reason::EvmSimulation);
        let (_, message) = revert_meaning("execution reverted: Blacklistable: account is blacklisted");
        assert!(message.starts_with("the token's issuer has blocked the payer or payTo"), "{message}");
    }
}

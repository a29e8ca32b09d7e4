//! The addresses of Solana's programs, base58.

/// The SPL Token program.
pub(crate) const TOKEN: &str = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA";
/// SPL Token-2022. Its mints may charge fees or hide amounts.
pub(crate) const TOKEN_2022: &str = "TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb";
/// The SPL Associated Token Account program.
pub(crate) const ASSOCIATED_TOKEN: &str = "ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL";
/// SPL Memo, version 2.
pub(crate) const MEMO: &str = "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr";
/// SPL Memo, version 1.
pub(crate) const MEMO_V1: &str = "Memo1UhkJRfHyvLMcVucJwxXeuD728EqVDDwQDxFMNo";
/// Lighthouse: wallets add its assertions to what they sign, also about the fee payer's account.
pub(crate) const LIGHTHOUSE: &str = "L2TExMFKdjpN9kozasaurPirfHy9P8sbXoAN1qA3S95";
/// The compute budget program.
pub(crate) const COMPUTE_BUDGET: &str = "ComputeBudget111111111111111111111111111111";

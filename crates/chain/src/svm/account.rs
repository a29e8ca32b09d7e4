//! A token account's state, from its bytes.

use super::TokenAccountState;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use borsh::BorshDeserialize;
use serde::Deserialize;

/// A token account of 165 bytes is 220 characters; extensions of Token-2022 make it longer.
const CHARS_MAX: usize = 8_192;
const INITIALIZED: u8 = 1;
const FROZEN: u8 = 2;

/// The fixed layout of an SPL token account, the part that both token programs
/// share (spl-token `state.rs`): 108 bytes before the state.
#[derive(BorshDeserialize)]
struct TokenAccountLayout {
    _mint: [u8; 32],
    _owner: [u8; 32],
    amount: u64,
    _delegate_tag: u32,
    _delegate: [u8; 32],
    state: u8,
}

#[derive(Deserialize)]
struct TokenAccountResult {
    // Required, and `null` where there is no such account: an answer without it is none.
    #[serde(deserialize_with = "Deserialize::deserialize")]
    value: Option<TokenAccountInfo>,
}

#[derive(Deserialize)]
struct TokenAccountInfo {
    data: (String, String),
}

/// Whether the issuer has frozen the account; `None` where the answer does not show it, and for a closed account.
pub(super) fn is_frozen(answer: &str) -> Option<bool> {
    let layout = read_layout(serde_json::from_str::<TokenAccountResult>(answer).ok()?.value?)?;
    match layout.state {
        INITIALIZED => Some(false),
        FROZEN => Some(true),
        _ => None,
    }
}

/// The account's state; `None` where the answer does not show it.
pub(super) fn state(answer: &str) -> Option<TokenAccountState> {
    let Some(info) = serde_json::from_str::<TokenAccountResult>(answer).ok()?.value else {
        return Some(TokenAccountState::Missing);
    };
    match read_layout(info)?.state {
        INITIALIZED => Some(TokenAccountState::Open),
        FROZEN => Some(TokenAccountState::Frozen),
        _ => None,
    }
}

/// The account's balance, in the token's smallest unit; zero where it is closed, `None` where the answer does not show
/// it.
pub(super) fn token_balance(answer: &str) -> Option<u64> {
    let Some(info) = serde_json::from_str::<TokenAccountResult>(answer).ok()?.value else { return Some(0) };
    let layout = read_layout(info)?;
    matches!(layout.state, INITIALIZED | FROZEN).then_some(layout.amount)
}

fn read_layout(info: TokenAccountInfo) -> Option<TokenAccountLayout> {
    let (text, encoding) = info.data;
    if encoding != "base64" || text.len() > CHARS_MAX {
        return None;
    }
    let bytes = BASE64_STANDARD.decode(text).ok()?;
    TokenAccountLayout::deserialize(&mut bytes.as_slice()).ok()
}

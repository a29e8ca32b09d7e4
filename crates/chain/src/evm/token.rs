//! What is read of a token, by its Solidity signatures: calls, selectors and event topics come from them.

use alloy_sol_types::sol;

sol! {
    /// A movement of the token (ERC-20).
    event Transfer(address indexed from, address indexed to, uint256 value);
    /// An authorization was used up (EIP-3009).
    event AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce);

    /// The token's name, part of its EIP-712 domain.
    function name() external view returns (string);
    /// The version of its EIP-712 domain.
    function version() external view returns (string);
    /// How many digits of an amount stand behind the point.
    function decimals() external view returns (uint8);
    /// The separator of its EIP-712 domain (EIP-2612).
    function DOMAIN_SEPARATOR() external view returns (bytes32);
    /// Whether the issuer has blocked an address (Circle's FiatToken).
    function isBlacklisted(address account) external view returns (bool);
}

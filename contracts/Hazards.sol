// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

interface IToken {
    function transfer(address to, uint256 value) external returns (bool);
    function transferFrom(address from, address to, uint256 value) external returns (bool);
}

/// What a verifier of payments meets in the field, for tests on a local chain.
contract Hazards {
    event Transfer(address indexed from, address indexed to, uint256 value);

    /// A contract wallet that pays several times in one transaction.
    function pay(IToken token, address[] calldata to, uint256[] calldata values) external {
        for (uint256 i = 0; i < to.length; i++) token.transfer(to[i], values[i]);
    }

    /// Swallows a transfer that fails: the transaction succeeds and nothing moves.
    function tryPay(IToken token, address to, uint256 value) external {
        try token.transfer(to, value) {} catch {}
    }

    /// A counterfeit: the same event from another contract.
    function counterfeit(address from, address to, uint256 value) external {
        emit Transfer(from, to, value);
    }

    /// A transfer of nothing in anybody's name.
    function poison(IToken token, address from, address to) external {
        token.transferFrom(from, to, 0);
    }

    /// Calls a contract several times in one transaction: what a relay of others' authorizations does.
    function each(address target, bytes[] calldata calls) external {
        for (uint256 i = 0; i < calls.length; i++) {
            (bool done,) = target.call(calls[i]);
            require(done, "a call failed");
        }
    }

    /// Takes from the caller and passes on in the same transaction.
    function forward(IToken token, address to, uint256 value) external {
        token.transferFrom(msg.sender, address(this), value);
        token.transfer(to, value);
    }
}

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

/// A wallet that accepts what its owner's key has signed (ERC-1271).
contract OwnedWallet {
    address public owner;

    constructor(address owner_) {
        owner = owner_;
    }

    function isValidSignature(bytes32 hash, bytes calldata given) external view returns (bytes4) {
        if (given.length != 65) return bytes4(0);
        address signer = ecrecover(hash, uint8(given[64]), bytes32(given[:32]), bytes32(given[32:64]));
        return signer != address(0) && signer == owner ? bytes4(0x1626ba7e) : bytes4(0);
    }
}

/// A wallet that accepts one signature by its bytes alone; its check spends a set amount of gas and fails outside
/// a set range of gas prices.
contract OddWallet {
    bytes4 private constant GOOD = 0x1626ba7e;

    /// keccak256 of the one signature that is good.
    bytes32 public signature;
    /// Gas that a look at a signature takes at least.
    uint256 public gasWanted;
    /// Between which prices of gas, wei, a signature is good.
    uint256 public priceMin;
    uint256 public priceMax;

    constructor(bytes32 signature_, uint256 gasWanted_, uint256 priceMin_, uint256 priceMax_) {
        signature = signature_;
        gasWanted = gasWanted_;
        priceMin = priceMin_;
        priceMax = priceMax_;
    }

    function isValidSignature(bytes32, bytes calldata given) external view returns (bytes4) {
        uint256 before = gasleft();
        bool good = keccak256(given) == signature && tx.gasprice >= priceMin && tx.gasprice <= priceMax;
        while (before - gasleft() < gasWanted) {}
        return good ? GOOD : bytes4(0);
    }
}

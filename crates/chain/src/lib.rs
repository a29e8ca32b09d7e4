//! What a transaction paid, on every chain of the registry, and the schemes of x402.
//!
//! Laws of this crate:
//! 1. No I/O, clock or randomness: a node's answers come in as [`facts::Facts`], time as an argument.
//! 2. A rule decides, or names the calls that it still needs ([`facts::Undecided`]).
//! 3. A node's failure never refuses a payment.
//! 4. It knows no tenant and no HTTP; it compiles natively and does not see the platform.
//! 5. Amounts are integers of atomic units; text is parsed once, into types that cannot be wrong.

pub mod address;
pub mod amount;
pub mod batching;
pub mod breaker;
pub mod checks;
pub mod collect;
pub mod confirm;
pub mod evm;
pub mod facts;
pub mod id;
pub mod jsonrpc;
pub mod network;
pub mod ownership;
pub mod quorum;
pub mod reader;
pub mod reason;
pub mod registry_check;
pub mod retry;
pub mod schemes;
pub mod sharing;
pub mod signer;
pub mod svm;
pub mod time;
pub mod trace;
pub mod x402;

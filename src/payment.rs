//! The one internal form of a verification: what is asked ([`Claim`]) and what
//! is answered ([`Answer`]); and of an x402 payment ([`x402::Payment`]).

mod answer;
mod claim;
pub mod settlement;
pub mod x402;

pub use answer::{
    Answer, Binding, Check, Checks, ClaimedBy, Finality, Hundredths, RiskFactor, RiskLevel, Status, TransferLine,
    TransferPlace,
};
pub use claim::{Claim, MAX_AGE_SECONDS_DEFAULT, MAX_AGE_SECONDS_MAX, MEMO_BYTES_MAX, REFERENCE_BYTES_MAX};

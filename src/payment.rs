//! The one internal form of a verification: what is asked ([`Claim`]) and what
//! is answered ([`Answer`]).

mod answer;
mod claim;

pub use answer::{
    Answer, Binding, Check, ClaimedBy, Finality, Hundredths, RiskFactor, RiskLevel, Status, TransferLine, TransferPlace,
};
pub use claim::{Claim, MAX_AGE_SECONDS_DEFAULT, MAX_AGE_SECONDS_MAX, MEMO_BYTES_MAX, REFERENCE_BYTES_MAX};

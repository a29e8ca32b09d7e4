//! `POST /v1/verify`: the question ([`claim::Claim`]), the judgement ([`judge`]), the decision in the ledger
//! ([`decision`]), the answer ([`answer::VerificationAnswer`]), the recorded claims ([`claims`]), the tracking to
//! finality ([`finality`]), and what a ledger that is rebuilt takes over ([`restored`]).

pub mod answer;
pub mod claim;
pub mod claims;
pub mod decision;
pub mod finality;
pub mod judge;
pub mod restored;

//! `POST /v1/verify`: the question ([`claim::Claim`]), the judgement ([`judge`]), the decision in the ledger
//! ([`decision`]), the answer ([`answer::VerificationAnswer`]), the recorded claims ([`claims`]), and the tracking to
//! finality ([`finality`]).

pub mod answer;
pub mod claim;
pub mod claims;
pub mod decision;
pub mod finality;
pub mod judge;

//! One verification: the question ([`claim::Claim`]), the judgement ([`judge`]), the decision in the ledger
//! ([`decision`]), the answer ([`answer::VerificationAnswer`]), and tracking to finality ([`finality`]).

pub mod answer;
pub mod claim;
pub mod claims;
pub mod decision;
pub mod finality;
pub mod judge;

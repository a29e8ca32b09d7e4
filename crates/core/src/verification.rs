//! One verification: what is asked ([`claim::Claim`]), how it is judged and booked, what is answered
//! ([`answer::Answer`]), and how the payment is followed to finality.

pub mod answer;
pub mod claim;
pub mod claims;
pub mod decision;
pub mod finality;
pub mod judge;

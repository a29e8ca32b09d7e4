//! What one tenant's ledger decides, in one step that nothing can interleave:
//! admit, judge, claim, count, record. Pure: rows in, an answer and rows out.
//! Where the rows live is the shell's affair.

pub mod admission;
pub mod book;
pub mod budget;
pub mod claims;
pub mod follow;
pub mod load;
pub mod payee;
pub mod payment;
pub mod rate;
pub mod saved;
pub mod usage;

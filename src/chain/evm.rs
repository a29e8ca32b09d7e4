//! EVM: what a receipt tells.
use super::facts::{Call, Facts, Unknown};
use super::trace::{Party, PartyFacts, Trace};
use crate::address::{Address, TxId};
use crate::network::Network;
use crate::time::UnixSeconds;
/// To be replaced by the family.
pub fn trace(_n: &Network, _tx: &TxId, _f: &Facts, _now: UnixSeconds) -> Result<Trace, Unknown> {
    Err(Unknown::nonsense("x"))
}
/// To be replaced by the family.
pub fn parties(_n: &Network, _tx: &TxId, _f: &Facts, _first: Option<&Address>) -> Vec<Party> {
    vec![]
}
/// To be replaced by the family.
pub fn party_calls(_n: &Network, _p: &Party) -> Vec<Call> {
    vec![]
}
/// To be replaced by the family.
pub fn read_party(_n: &Network, _p: &Party, _f: &Facts) -> PartyFacts {
    PartyFacts::default()
}

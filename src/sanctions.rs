//! stub
use crate::address::Address;
use crate::time::UnixMillis;
/// stub
#[derive(Debug)]
pub struct List;
impl List {
    /// stub
    #[must_use]
    pub fn builtin() -> Option<Self> {
        Some(Self)
    }
    /// stub
    #[must_use]
    pub fn names(&self, _a: &Address) -> bool {
        false
    }
    /// stub
    #[must_use]
    pub fn is_stale(&self, _n: UnixMillis) -> bool {
        false
    }
    /// stub
    #[must_use]
    pub fn age_days(&self, _n: UnixMillis) -> u64 {
        0
    }
}

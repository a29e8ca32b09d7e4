//! Maps and sets, filled entry by entry. `Iterator::collect` sorts all entries first, and the compiled sort takes some
//! 10 kB of the Worker for each type of entry. Ours hold few entries, and an insertion is compiled for most of them
//! anyway.

use std::collections::{BTreeMap, BTreeSet};

/// A map of these entries; of two with one key, the value of the last.
pub fn map_of<K: Ord, V>(entries: impl IntoIterator<Item = (K, V)>) -> BTreeMap<K, V> {
    let mut map = BTreeMap::new();
    map.extend(entries);
    map
}

/// A set of these values.
pub fn set_of<T: Ord>(values: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    let mut set = BTreeSet::new();
    set.extend(values);
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_is_what_collect_makes() {
        let entries = [(3, 'a'), (1, 'b'), (3, 'c'), (2, 'd')];
        assert_eq!(map_of(entries), entries.into_iter().collect());
        assert_eq!(set_of([3, 1, 3, 2]), BTreeSet::from([1, 2, 3]));
    }
}

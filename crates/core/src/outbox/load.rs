//! How much a ledger ships in one batch: limited by bytes, since the record of a transaction with many payments is much
//! larger than others.

/// The largest value, and the largest row, that D1 takes: 2,000,000 bytes (its documented limit). A local D1 takes
/// more.
pub const VALUE_BYTES_MAX: usize = 2_000_000;
/// The most bytes of one load: half of D1's limit. A larger row is shipped alone.
pub const LOAD_BYTES: usize = 1_000_000;
/// The largest record that is shipped whole. A row of an object holds 2 MB.
pub const RECORD_BYTES_MAX: usize = 1_000_000;
/// The most rows in one batch of statements.
pub(crate) const ROWS_MAX: usize = 100;

/// The rows loaded so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShipmentLoad {
    rows: usize,
    bytes: usize,
    is_cut: bool,
}

impl ShipmentLoad {
    /// Adds a row of this size if it fits; returns whether it does. The first row always fits; after one that does not,
    /// none does.
    pub const fn accept(&mut self, bytes: usize) -> bool {
        let sum = self.bytes.saturating_add(bytes);
        if self.is_cut || self.rows >= ROWS_MAX || (self.rows > 0 && sum > LOAD_BYTES) {
            self.is_cut = true;
            return false;
        }
        self.rows = self.rows.saturating_add(1);
        self.bytes = sum;
        true
    }

    /// Whether there may be more rows than were loaded.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.is_cut || self.rows >= ROWS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_is_cut_by_bytes_and_by_rows() {
        let taken = |sizes: &[usize]| {
            let mut load = ShipmentLoad::default();
            let taken = sizes.iter().filter(|size| load.accept(**size)).count();
            (taken, load.is_full())
        };
        assert_eq!(taken(&[]), (0, false));
        assert_eq!(taken(&[4_000; 99]), (99, false));
        assert_eq!(taken(&[4_000; 101]), (100, true));
        assert_eq!(taken(&[178_000; 100]), (5, true));
        assert_eq!(taken(&[1_400_000, 1]), (1, true));
        // What comes after one that is left waits for it.
        assert_eq!(taken(&[600_000, 600_000, 1]), (1, true));
    }
}

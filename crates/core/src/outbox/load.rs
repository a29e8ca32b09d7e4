//! How much a ledger ships to the directory (D1) in one batch: limited by bytes, since the record of a transaction with
//! many payments is much larger than others.

/// The largest value, and the largest row, that D1 takes: 2,000,000 bytes (its documented limit). A local D1 takes
/// more.
pub const VALUE_BYTES_MAX: usize = 2_000_000;
/// The most bytes of one load, and of one bound list of rows: half of D1's limit. A larger row is shipped alone.
pub const LOAD_BYTES: usize = 1_000_000;
/// The largest record that is shipped whole. As text within JSON it grows by an eighth, far from twice.
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

/// Joins rows, each a JSON text, to JSON lists of at most `most` bytes. A larger row is a list alone.
#[must_use]
pub fn json_lists(rows: &[String], most: usize) -> Vec<String> {
    let mut lists: Vec<String> = Vec::new();
    for row in rows {
        match lists.last_mut() {
            // A comma, and the bracket that ends it.
            Some(list) if list.len().saturating_add(row.len()).saturating_add(2) <= most => {
                list.push(',');
                list.push_str(row);
            }
            Some(_) | None => lists.push(format!("[{row}")),
        }
    }
    for list in &mut lists {
        list.push(']');
    }
    lists
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

    #[test]
    fn lists_hold_every_row_once_and_stay_small() {
        let rows: Vec<String> = (0..50).map(|at| format!("\"{}\"", "x".repeat(at))).collect();
        let lists = json_lists(&rows, 100);
        assert!(lists.iter().all(|list| list.len() <= 100));
        let read = lists.iter().flat_map(|list| serde_json::from_str::<Vec<String>>(list).expect("JSON"));
        assert!(read.map(|row| row.len()).eq(0..50));
        assert!(super::json_lists(&[], 100).is_empty());
        assert_eq!(super::json_lists(&["\"long\"".to_owned(), "1".to_owned()], 3), ["[\"long\"]", "[1]"]);
    }
}

//! What every object has: the table `state`, one JSON value a name. Its row `schema` holds the number of the newest
//! migration that was applied; migrations are numbered from 0, by their place in the object's list.

use crate::storage::{FromRow, RowReader, statements};
use x402_core::error::Fault;

/// The table that every build has made; harmless when repeated.
pub const STATE_TABLE: &str =
    "CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;";

/// The row with the number of the newest migration applied.
pub const SCHEMA: &str = "schema";

statements! {
    /// Binds a name; returns the value.
    STATE_GET: StateRow = "SELECT value FROM state WHERE name = ?";
    /// Binds a name and a value.
    STATE_PUT: () =
        "INSERT INTO state (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
}

/// A value by its name.
pub struct StateRow {
    /// JSON.
    pub value: String,
}

impl FromRow for StateRow {
    const COLUMNS: &'static [&'static str] = &["value"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Ok(Self { value: row.get()? })
    }
}

/// The migrations that a storage lacks, each with its number. `applied` is what its row `schema` holds; `None` is a
/// storage that is empty, or of a build that kept no number: the first migration takes both.
pub fn pending(
    migrations: &'static [&'static str],
    applied: Option<usize>,
) -> impl Iterator<Item = (usize, &'static str)> {
    let first = applied.map_or(0, |number| number.saturating_add(1));
    migrations.iter().copied().enumerate().skip(first)
}

//! How rows of SQLite are read. A [`Statement`] has a name and says which row it returns; a row says which columns it
//! has. A column that is missing, or of another type, is an error that names the statement and the column.
//!
//! This half knows no platform, so that tests read rows natively.

use core::marker::PhantomData;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::vec;
use x402_chain::time::UnixMillis;
use x402_core::error::{Fault, json_place};

/// The largest integer that JavaScript's numbers hold exactly: 2^53 − 1. Larger ones are read as real numbers.
pub const INTEGER_MAX: i64 = 9_007_199_254_740_991;
/// The first number above it.
const BEYOND_INTEGERS: f64 = 9_007_199_254_740_992.0;

/// A value as SQLite returns it, by way of JavaScript.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum SqlValue {
    /// NULL.
    Null,
    /// A whole number, between −2^53 and 2^53.
    Integer(i64),
    /// Any other number.
    Real(f64),
    /// UTF-8 text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

impl SqlValue {
    /// The type, for an error: what is stored may be a secret.
    const fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Integer(_) => "an integer",
            Self::Real(_) => "a real number",
            Self::Text(_) => "text",
            Self::Blob(_) => "a blob",
        }
    }
}

/// A statement. Its rows are of type `T`: `()` for a statement that returns none.
pub struct Statement<T> {
    /// The name of the constant that holds it.
    pub name: &'static str,
    /// The SQL, with `?` for each value.
    pub text: &'static str,
    row: PhantomData<fn() -> T>,
}

impl<T> Clone for Statement<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Statement<T> {}

/// What a test checks of a statement.
#[derive(Clone, Copy, Debug)]
pub struct StatementInfo {
    /// The name of the constant that holds it.
    pub name: &'static str,
    /// The SQL.
    pub text: &'static str,
    /// The columns of its rows, in order.
    pub columns: &'static [&'static str],
}

impl<T: FromRow> Statement<T> {
    /// A statement by its name.
    #[must_use]
    pub const fn new(name: &'static str, text: &'static str) -> Self {
        Self { name, text, row: PhantomData }
    }

    /// What a test checks of it.
    #[must_use]
    pub const fn info(&self) -> StatementInfo {
        StatementInfo { name: self.name, text: self.text, columns: T::COLUMNS }
    }

    /// Reads a row from its values, in the order of the columns.
    ///
    /// # Errors
    /// `INTERNAL` with the statement's and the column's name in the cause: a value is missing, or of another type; or
    /// there are more values than columns.
    pub fn read(&self, values: impl Into<Vec<SqlValue>>) -> Result<T, Fault> {
        let mut row = RowReader::new(self.name, T::COLUMNS, values.into());
        let read = T::from_row(&mut row)?;
        row.finish()?;
        Ok(read)
    }

    /// Reads rows as [`Statement::read`] does. It is compiled once a type of row, and not into its callers.
    ///
    /// # Errors
    /// As there, for the first row that cannot be read.
    #[inline(never)]
    pub fn read_all(&self, rows: Vec<Vec<SqlValue>>) -> Result<Vec<T>, Fault> {
        let mut all = Vec::with_capacity(rows.len());
        for values in rows {
            all.push(self.read(values)?);
        }
        Ok(all)
    }
}

/// Declares statements as constants of a module, and lists them as `ALL`: a name, the type of the rows, the SQL.
macro_rules! statements {
    ($($(#[$doc:meta])+ $name:ident: $row:ty = $text:literal;)+) => {
        $($(#[$doc])+ pub const $name: $crate::storage::Statement<$row> =
            $crate::storage::Statement::new(stringify!($name), $text);)+

        /// Every statement of this module, for tests.
        #[cfg(not(target_arch = "wasm32"))]
        pub const ALL: &[$crate::storage::StatementInfo] = &[$($name.info()),+];
    };
}
pub(crate) use statements;

/// What a row is read into.
pub trait FromRow: Sized {
    /// The columns, in the order in which the statement returns them and `from_row` reads them.
    const COLUMNS: &'static [&'static str];

    /// Reads each column once.
    ///
    /// # Errors
    /// `INTERNAL` where a column is missing or holds another type.
    fn from_row(row: &mut RowReader) -> Result<Self, Fault>;
}

/// No row: what a statement that only writes returns.
impl FromRow for () {
    const COLUMNS: &'static [&'static str] = &[];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        Err(Fault::internal(format!("{}: returns a row, and should return none", row.statement)))
    }
}

/// Reads a row's columns one after the other. Its methods are compiled once a type of column, and not into each
/// [`FromRow`]: there are many of them, and most of their code is what happens when a row is wrong.
pub struct RowReader {
    statement: &'static str,
    columns: &'static [&'static str],
    /// The column that was read last.
    column: &'static str,
    /// How many were read.
    at: usize,
    values: vec::IntoIter<SqlValue>,
}

impl RowReader {
    fn new(statement: &'static str, columns: &'static [&'static str], values: Vec<SqlValue>) -> Self {
        Self { statement, columns, column: "", at: 0, values: values.into_iter() }
    }

    #[inline(never)]
    fn next_value(&mut self) -> Result<SqlValue, Fault> {
        self.column = self.columns.get(self.at).copied().unwrap_or("?");
        self.at = self.at.saturating_add(1);
        self.values.next().ok_or_else(|| self.unreadable("is missing"))
    }

    /// Nothing is left.
    #[inline(never)]
    fn finish(mut self) -> Result<(), Fault> {
        match self.values.next() {
            None => Ok(()),
            Some(_) => {
                let (statement, column) = (self.statement, self.column);
                Err(Fault::internal(format!("{statement}: a row has a value after column {column}")))
            }
        }
    }

    /// The error for the column that was read last.
    #[cold]
    #[inline(never)]
    pub fn unreadable(&self, why: &str) -> Fault {
        Fault::internal(format!("{}: column {} {why}", self.statement, self.column))
    }

    #[cold]
    #[inline(never)]
    fn mistyped(&self, value: &SqlValue, expected: &str) -> Fault {
        self.unreadable(&format!("is {} that is not {expected}", value.type_name()))
    }

    /// The error for the column that was read last, whose text is not the JSON that is wanted.
    #[cold]
    #[inline(never)]
    pub fn not_json(&self, error: &serde_json::Error) -> Fault {
        self.unreadable(&format!("is text that is not read: {}", json_place(error)))
    }

    /// Reads the next column.
    ///
    /// # Errors
    /// `INTERNAL` where it is missing or holds another type.
    #[inline(never)]
    pub fn get<T: FromColumn>(&mut self) -> Result<T, Fault> {
        let value = self.next_value()?;
        T::from_column(value).map_err(|value| self.mistyped(&value, T::EXPECTED))
    }

    /// Reads the next column: text that `parse` understands.
    ///
    /// # Errors
    /// `INTERNAL` where it is not.
    pub fn parse<T>(&mut self, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, Fault> {
        let text: String = self.get()?;
        parse(&text).ok_or_else(|| self.unreadable("is text of another form"))
    }

    /// Reads the next column: text that is JSON.
    ///
    /// # Errors
    /// `INTERNAL` where it is not.
    #[inline(never)]
    pub fn json<T: DeserializeOwned>(&mut self) -> Result<T, Fault> {
        let text: String = self.get()?;
        serde_json::from_str(&text).map_err(|error| self.not_json(&error))
    }

    /// Reads the next column: null, or text that is JSON.
    ///
    /// # Errors
    /// `INTERNAL` where it is neither.
    #[inline(never)]
    pub fn optional_json<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Fault> {
        let text: Option<String> = self.get()?;
        text.map(|text| serde_json::from_str(&text)).transpose().map_err(|error| self.not_json(&error))
    }
}

/// What a column is read into.
pub trait FromColumn: Sized {
    /// What the column must hold, for an error.
    const EXPECTED: &'static str;

    /// Reads a value; gives back one of another type.
    ///
    /// # Errors
    /// The value.
    fn from_column(value: SqlValue) -> Result<Self, SqlValue>;
}

impl FromColumn for String {
    const EXPECTED: &'static str = "text";

    fn from_column(value: SqlValue) -> Result<Self, SqlValue> {
        match value {
            SqlValue::Text(text) => Ok(text),
            SqlValue::Null | SqlValue::Integer(_) | SqlValue::Real(_) | SqlValue::Blob(_) => Err(value),
        }
    }
}

impl FromColumn for Vec<u8> {
    const EXPECTED: &'static str = "a blob";

    fn from_column(value: SqlValue) -> Result<Self, SqlValue> {
        match value {
            SqlValue::Blob(bytes) => Ok(bytes),
            SqlValue::Null | SqlValue::Integer(_) | SqlValue::Real(_) | SqlValue::Text(_) => Err(value),
        }
    }
}

impl FromColumn for i64 {
    const EXPECTED: &'static str = "an integer";

    fn from_column(value: SqlValue) -> Result<Self, SqlValue> {
        match value {
            SqlValue::Integer(number) => Ok(number),
            SqlValue::Null | SqlValue::Text(_) | SqlValue::Real(_) | SqlValue::Blob(_) => Err(value),
        }
    }
}

/// Reads an integer of a smaller range.
macro_rules! from_integer {
    ($($type:ty = $expected:literal),+) => {
        $(impl FromColumn for $type {
            const EXPECTED: &'static str = $expected;

            fn from_column(value: SqlValue) -> Result<Self, SqlValue> {
                let number = i64::from_column(value)?;
                Self::try_from(number).map_err(|_| SqlValue::Integer(number))
            }
        })+
    };
}

from_integer!(
    u64 = "an integer from 0",
    usize = "an integer from 0",
    u32 = "an integer of 32 bits from 0",
    u16 = "an integer of 16 bits from 0"
);

/// 0 or 1.
impl FromColumn for bool {
    const EXPECTED: &'static str = "0 or 1";

    fn from_column(value: SqlValue) -> Result<Self, SqlValue> {
        match value {
            SqlValue::Integer(0) => Ok(false),
            SqlValue::Integer(1) => Ok(true),
            SqlValue::Null | SqlValue::Integer(_) | SqlValue::Real(_) | SqlValue::Text(_) | SqlValue::Blob(_) => {
                Err(value)
            }
        }
    }
}

/// A time that an older build wrote may be larger than JavaScript counts, as a buyer's `validBefore` may be: it is read
/// as the last that it counts.
impl FromColumn for UnixMillis {
    const EXPECTED: &'static str = "a time in unix milliseconds";

    fn from_column(value: SqlValue) -> Result<Self, SqlValue> {
        match value {
            SqlValue::Real(number) if number >= BEYOND_INTEGERS => Ok(Self(INTEGER_MAX.unsigned_abs())),
            SqlValue::Null | SqlValue::Integer(_) | SqlValue::Real(_) | SqlValue::Text(_) | SqlValue::Blob(_) => {
                u64::from_column(value).map(UnixMillis)
            }
        }
    }
}

impl<T: FromColumn> FromColumn for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn from_column(value: SqlValue) -> Result<Self, SqlValue> {
        if value == SqlValue::Null { Ok(None) } else { T::from_column(value).map(Some) }
    }
}

/// That there is a row is the answer.
pub struct Present;

impl FromRow for Present {
    const COLUMNS: &'static [&'static str] = &["present"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        row.get::<i64>().map(|_| Self)
    }
}

/// The earliest of some times; `None` where there are none.
pub struct FirstTime(pub Option<UnixMillis>);

impl FromRow for FirstTime {
    const COLUMNS: &'static [&'static str] = &["first_ms"];

    fn from_row(row: &mut RowReader) -> Result<Self, Fault> {
        row.get().map(Self)
    }
}

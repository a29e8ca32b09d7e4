//! A Durable Object's own SQLite: statements, and the transaction of a step.

use super::state;
use super::state::StateRow;
use crate::platform::transaction::SyncStorage;
use crate::storage::{FromRow, INTEGER_MAX, SqlValue, Statement};
use serde::Serialize;
use serde::de::DeserializeOwned;
use wasm_bindgen::{JsCast, JsValue};
use worker::{SqlStorage, SqlStorageValue as Value, Storage};
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;

/// The storage of one object.
pub(crate) struct Sqlite {
    sql: SqlStorage,
    raw: JsValue,
}

/// A storage error as an internal fault.
pub(crate) fn storage_failed(error: impl core::fmt::Debug) -> Fault {
    Fault::internal(format!("an object's storage failed: {error:?}"))
}

/// A time to bind, at most the last that is read as an integer.
pub(crate) fn millis_value(at: UnixMillis) -> Value {
    Value::Integer(i64::try_from(at.0).unwrap_or(INTEGER_MAX).min(INTEGER_MAX))
}

/// A value as it was read.
fn read_value(value: Value) -> SqlValue {
    match value {
        Value::Null => SqlValue::Null,
        Value::Boolean(is) => SqlValue::Integer(i64::from(is)),
        Value::Integer(number) => SqlValue::Integer(number),
        Value::Float(number) => SqlValue::Real(number),
        Value::String(text) => SqlValue::Text(text),
        Value::Blob(bytes) => SqlValue::Blob(bytes),
    }
}

impl Sqlite {
    pub(crate) fn new(storage: &Storage) -> Self {
        Self { sql: storage.sql(), raw: JsValue::from(storage.as_raw()) }
    }

    /// The bytes of the database, without free pages.
    pub(crate) fn bytes(&self) -> u64 {
        u64::try_from(self.sql.database_size()).unwrap_or(u64::MAX)
    }

    /// Runs statements without parameters.
    pub(crate) fn exec_schema(&self, schema: &'static str) -> Result<(), Fault> {
        self.sql.exec(schema, None).map(|_| ()).map_err(storage_failed)
    }

    /// Runs a step as one transaction: all its writes, or none.
    pub(crate) fn atomically<T>(&self, step: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
        let (mut step, mut value) = (Some(step), None);
        self.run_transaction(&mut || {
            let step = step.take().ok_or_else(|| storage_failed("a step runs once"))?;
            value = Some(step()?);
            Ok(())
        })?;
        value.ok_or_else(|| storage_failed("a step did not run"))
    }

    /// As [`Sqlite::atomically`], compiled once for all steps.
    #[inline(never)]
    fn run_transaction(&self, step: &mut dyn FnMut() -> Result<(), Fault>) -> Result<(), Fault> {
        let mut outcome = None;
        let mut run = || {
            let result = step();
            let thrown = result.as_ref().err().map(|_| JsValue::from_str("the step failed"));
            outcome = Some(result);
            thrown.map_or(Ok(()), Err)
        };
        let storage: &SyncStorage = self.raw.unchecked_ref();
        let committed = storage.transaction_sync(&mut run);
        match (committed, outcome) {
            (_, Some(Err(fault))) => Err(fault),
            (Ok(_), Some(Ok(()))) => Ok(()),
            (Err(error), _) => Err(storage_failed(error)),
            (Ok(_), None) => Err(storage_failed("a step did not run")),
        }
    }

    /// The rows that a statement returns.
    ///
    /// # Errors
    /// `INTERNAL` where one cannot be read.
    pub(crate) fn rows<T: FromRow>(&self, statement: Statement<T>, bind: Vec<Value>) -> Result<Vec<T>, Fault> {
        statement.read_all(self.read_values(statement.text, bind)?)
    }

    /// The values of the rows that a statement returns.
    fn read_values(&self, text: &'static str, bind: Vec<Value>) -> Result<Vec<Vec<SqlValue>>, Fault> {
        let cursor = self.sql.exec(text, Some(bind)).map_err(storage_failed)?;
        let mut rows = Vec::new();
        for row in cursor.raw() {
            rows.push(row.map_err(storage_failed)?.into_iter().map(read_value).collect());
        }
        Ok(rows)
    }

    /// The first row that a statement returns.
    ///
    /// # Errors
    /// `INTERNAL` where one cannot be read.
    pub(crate) fn first<T: FromRow>(&self, statement: Statement<T>, bind: Vec<Value>) -> Result<Option<T>, Fault> {
        Ok(self.rows(statement, bind)?.into_iter().next())
    }

    /// Runs a statement that returns nothing.
    pub(crate) fn run(&self, statement: Statement<()>, bind: Vec<Value>) -> Result<(), Fault> {
        self.sql.exec(statement.text, Some(bind)).map(|_| ()).map_err(storage_failed)
    }

    /// Runs a statement that returns nothing; returns how many rows it has written, those of indexes included.
    pub(crate) fn run_counted(&self, statement: Statement<()>, bind: Vec<Value>) -> Result<usize, Fault> {
        self.sql.exec(statement.text, Some(bind)).map(|cursor| cursor.rows_written()).map_err(storage_failed)
    }

    /// Brings the schema up to date: applies the migrations that the storage lacks, all of them or none.
    pub(crate) fn migrate(&self, migrations: &'static [&'static str]) -> Result<(), Fault> {
        self.exec_schema(state::STATE_TABLE)?;
        let mut pending = state::pending(migrations, self.state(state::SCHEMA)?).peekable();
        if pending.peek().is_none() {
            return Ok(());
        }
        self.atomically(|| {
            for (number, migration) in pending {
                self.exec_schema(migration)?;
                self.put_state(state::SCHEMA, &number)?;
            }
            Ok(())
        })
    }

    /// A value of the table `state`; `None` where there is none.
    pub(crate) fn state<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Fault> {
        let row = self.first(state::STATE_GET, vec![name.into()])?;
        let read = |row: StateRow| serde_json::from_str(&row.value);
        row.map(read).transpose().map_err(|error| Fault::internal(format!("the state {name}: {error}")))
    }

    /// Writes a value of the table `state`.
    pub(crate) fn put_state(&self, name: &str, value: &impl Serialize) -> Result<(), Fault> {
        let value = serde_json::to_string(value).map_err(storage_failed)?;
        self.run(state::STATE_PUT, vec![name.into(), value.into()])
    }
}

//! A Durable Object's own SQLite: statements, and the transaction of a step.

use wasm_bindgen::prelude::*;
use worker::{SqlStorage, SqlStorageValue as Value, Storage};
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;

#[wasm_bindgen]
extern "C" {
    /// The storage with the one method that `worker` does not bind.
    type Transactional;

    /// Commits what the closure wrote, or nothing if it throws.
    #[wasm_bindgen(method, catch, js_name = transactionSync)]
    fn transaction_sync(
        this: &Transactional,
        step: &mut dyn FnMut() -> Result<(), JsValue>,
    ) -> Result<JsValue, JsValue>;
}

/// The storage of one object.
pub(crate) struct Sqlite {
    sql: SqlStorage,
    raw: JsValue,
}

/// A storage error as an internal fault.
pub(crate) fn storage_failed(error: impl core::fmt::Debug) -> Fault {
    Fault::internal(format!("an object's storage failed: {error:?}"))
}

/// The text of a column; empty where it holds another type.
pub(crate) fn text_column(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        _ => String::new(),
    }
}

/// A column of text that may be null.
pub(crate) fn optional_text_column(value: Option<&Value>) -> Option<String> {
    match value {
        Some(Value::String(text)) => Some(text.clone()),
        _ => None,
    }
}

/// A column of whole numbers.
pub(crate) fn integer_column(value: Option<&Value>) -> i64 {
    match value {
        Some(Value::Integer(number)) => *number,
        _ => 0,
    }
}

/// A column of unix milliseconds.
pub(crate) fn millis_column(value: Option<&Value>) -> UnixMillis {
    UnixMillis(u64::try_from(integer_column(value)).unwrap_or(0))
}

/// A time as an integer of unix milliseconds.
pub(crate) fn millis_value(at: UnixMillis) -> Value {
    Value::Integer(i64::try_from(at.0).unwrap_or(i64::MAX))
}

impl Sqlite {
    pub(crate) fn new(storage: &Storage) -> Self {
        Self { sql: storage.sql(), raw: JsValue::from(storage.as_raw()) }
    }

    /// Runs statements without parameters.
    pub(crate) fn exec_schema(&self, schema: &str) -> Result<(), Fault> {
        self.sql.exec(schema, None).map(|_| ()).map_err(storage_failed)
    }

    /// Runs a step as one transaction: all its writes, or none.
    pub(crate) fn atomically<T>(&self, step: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
        let (mut step, mut outcome) = (Some(step), None);
        let mut run = || {
            let Some(step) = step.take() else { return Err(JsValue::from_str("a step runs once")) };
            let result = step();
            let thrown = result.as_ref().err().map(|_| JsValue::from_str("the step failed"));
            outcome = Some(result);
            thrown.map_or(Ok(()), Err)
        };
        let transactional: &Transactional = self.raw.unchecked_ref();
        let committed = transactional.transaction_sync(&mut run);
        match (committed, outcome) {
            (_, Some(Err(fault))) => Err(fault),
            (Ok(_), Some(Ok(value))) => Ok(value),
            (Err(error), _) => Err(storage_failed(error)),
            (Ok(_), None) => Err(storage_failed("a step did not run")),
        }
    }

    /// The rows that a statement returns.
    pub(crate) fn rows(&self, statement: &str, bind: Vec<Value>) -> Result<Vec<Vec<Value>>, Fault> {
        let cursor = self.sql.exec(statement, Some(bind)).map_err(storage_failed)?;
        cursor.raw().collect::<worker::Result<Vec<Vec<Value>>>>().map_err(storage_failed)
    }

    /// Runs a statement whose rows nobody reads.
    pub(crate) fn run(&self, statement: &str, bind: Vec<Value>) -> Result<(), Fault> {
        self.sql.exec(statement, Some(bind)).map(|_| ()).map_err(storage_failed)
    }
}

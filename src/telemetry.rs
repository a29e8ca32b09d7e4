//! One line of JSON for each event. It never holds keys, bodies or e-mail addresses.

use serde_json::{Map, Value};

/// Writes one line of JSON to the log.
pub(crate) fn line(message: &str, fields: &[(&str, Value)]) {
    let mut entry = Map::new();
    entry.insert("message".to_owned(), message.into());
    for (name, value) in fields {
        entry.insert((*name).to_owned(), value.clone());
    }
    worker::console_log!("{}", Value::Object(entry));
}

/// Writes one line of JSON at the level of an error.
pub(crate) fn error(message: &str, fields: &[(&str, Value)]) {
    let mut entry = Map::new();
    entry.insert("message".to_owned(), message.into());
    for (name, value) in fields {
        entry.insert((*name).to_owned(), value.clone());
    }
    worker::console_error!("{}", Value::Object(entry));
}

//! `GET /v1/export`: a range of a tenant's verifications, settlements, events or audit log as one file.

use crate::body::invalid;
use crate::csv::push_line;
use crate::events::{check_range, read_time};
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};
use x402_chain::id::{AuditId, EventId, SettlementId, VerificationId};
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;

/// What is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportKind {
    /// Verification records.
    Verifications,
    /// Settlements.
    Settlements,
    /// Events.
    Events,
    /// Entries of the audit log.
    Audit,
}

impl ExportKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Verifications, Self::Settlements, Self::Events, Self::Audit];

    /// The name in a query.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Verifications => "verifications",
            Self::Settlements => "settlements",
            Self::Events => "events",
            Self::Audit => "audit",
        }
    }

    /// The columns of CSV: the members of a row.
    const fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Verifications => &[
                "id",
                "request_id",
                "success",
                "status",
                "tx_hash",
                "chain",
                "network",
                "amount_usdc",
                "amount",
                "asset",
                "from_address",
                "to_address",
                "transfers",
                "payers",
                "overpaid",
                "confirmations",
                "block_number",
                "block_hash",
                "block_time",
                "finality",
                "binding",
                "claimed",
                "claimed_by",
                "reference",
                "replayed",
                "risk_score",
                "risk_level",
                "risk_factors",
                "checks",
                "error",
                "error_code",
                "retry",
                "traceparent",
            ],
            Self::Settlements => &[
                "id",
                "status",
                "reason",
                "network",
                "transaction",
                "payer",
                "pay_to",
                "amount",
                "asset",
                "created_at",
                "completed_at",
                "attempts",
                "handed_over",
                "traceparent",
            ],
            Self::Events => &["id", "type", "created_at", "environment", "subject", "data"],
            Self::Audit => {
                &["id", "created_at", "actor_kind", "actor", "action", "subject", "detail", "ip_prefix", "user_agent"]
            }
        }
    }

    /// Whether a text is an id of a row.
    fn is_id(self, text: &str) -> bool {
        match self {
            Self::Verifications => VerificationId::parse(text).is_some(),
            Self::Settlements => SettlementId::parse(text).is_some(),
            Self::Events => EventId::parse(text).is_some(),
            Self::Audit => AuditId::parse(text).is_some(),
        }
    }

    /// The least id of a time.
    fn first_id(self, at: UnixMillis) -> String {
        match self {
            Self::Verifications => VerificationId::new(at, [0; 10]).to_string(),
            Self::Settlements => SettlementId::new(at, [0; 10]).to_string(),
            Self::Events => EventId::new(at, [0; 10]).to_string(),
            Self::Audit => AuditId::new(at, [0; 10]).to_string(),
        }
    }
}

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// RFC 4180, with a line that names the columns.
    Csv,
    /// A JSON object a line.
    Ndjson,
}

impl ExportFormat {
    /// The `Content-Type`.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Ndjson => "application/x-ndjson",
        }
    }

    /// The name in a query, and of a file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
        }
    }
}

/// What is exported, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportForm {
    /// The rows.
    pub kind: ExportKind,
    /// How they are written.
    pub format: ExportFormat,
}

/// A query for an export.
#[derive(Debug, PartialEq, Eq)]
pub struct ExportQuery {
    /// What is exported, and how.
    pub form: ExportForm,
    /// Only rows from then on.
    pub from: Option<UnixMillis>,
    /// Only rows before this id: that of the last row that the client has, or the first of the time `to`.
    pub before: Option<String>,
}

/// Reads `kind`, `format`, `from`, `to` and `cursor` of a query string; `environment` is read apart. What an export does not
/// know is refused, since a file that is not what was asked for looks like one that is. `has_key`: whether a key asks.
///
/// # Errors
/// `INVALID_REQUEST`, naming the parameter.
pub fn read_export_query(query: &str, has_key: bool) -> Result<ExportQuery, Fault> {
    let mut form = ExportForm { kind: ExportKind::Verifications, format: ExportFormat::Ndjson };
    let (mut from, mut to, mut cursor, mut given) = (None, None, None, BTreeSet::new());
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        if !given.insert(name.clone().into_owned()) {
            return Err(invalid(&name, "may be given once"));
        }
        match name.as_ref() {
            "kind" => {
                let found = ExportKind::ALL.into_iter().find(|kind| kind.name() == value);
                let rule = "must be 'verifications', 'settlements', 'events' or 'audit'";
                form.kind = found.ok_or_else(|| invalid("kind", rule))?;
            }
            "format" => {
                let found = [ExportFormat::Csv, ExportFormat::Ndjson].into_iter().find(|format| format.name() == value);
                form.format = found.ok_or_else(|| invalid("format", "must be 'csv' or 'ndjson'"))?;
            }
            "from" => from = Some(read_time("from", &value)?),
            "to" => to = Some(read_time("to", &value)?),
            "cursor" => cursor = Some(value.into_owned()),
            "environment" => {}
            other => return Err(invalid(other, "is no parameter of an export")),
        }
    }
    check_range(from, to)?;
    if form.kind == ExportKind::Audit && !has_key && given.contains("environment") {
        return Err(invalid("environment", "cannot be chosen: a session exports the audit log of both"));
    }
    if cursor.as_ref().is_some_and(|cursor| !form.kind.is_id(cursor)) {
        return Err(invalid("cursor", "must be the id of the last row that you have, of the same kind"));
    }
    let until = to.map(|to| form.kind.first_id(to));
    Ok(ExportQuery { form, from, before: [cursor, until].into_iter().flatten().min() })
}

/// The last line of a complete export as NDJSON.
#[derive(Serialize)]
struct CompleteLine {
    complete: bool,
    /// The rows of this answer.
    rows: u64,
}

/// Writes the lines of an export.
#[derive(Debug)]
pub struct ExportWriter {
    form: ExportForm,
    rows: u64,
}

impl ExportWriter {
    /// A writer that has written nothing.
    #[must_use]
    pub const fn new(form: ExportForm) -> Self {
        Self { form, rows: 0 }
    }

    /// What stands before the rows.
    #[must_use]
    pub fn head(&self) -> String {
        match self.form.format {
            ExportFormat::Csv => self.form.kind.columns().join(",") + "\r\n",
            ExportFormat::Ndjson => String::new(),
        }
    }

    /// Adds a row, which is a JSON object.
    ///
    /// # Errors
    /// `INTERNAL` where it is none.
    pub fn add(&mut self, text: &mut String, row: &str) -> Result<(), Fault> {
        self.rows = self.rows.saturating_add(1);
        match self.form.format {
            ExportFormat::Csv => {
                let members: BTreeMap<String, &RawValue> = serde_json::from_str(row).map_err(Fault::internal_json)?;
                let cells = self.form.kind.columns().iter().map(|column| cell_of(members.get(*column).copied()));
                let cells: Vec<String> = cells.collect::<Result<_, Fault>>()?;
                push_line(text, cells.iter().map(String::as_str));
            }
            ExportFormat::Ndjson => {
                text.push_str(row);
                text.push('\n');
            }
        }
        Ok(())
    }

    /// What stands after the last row.
    #[must_use]
    pub fn end(&self) -> String {
        match self.form.format {
            ExportFormat::Csv => String::new(),
            ExportFormat::Ndjson => {
                let line = CompleteLine { complete: true, rows: self.rows };
                serde_json::to_string(&line).unwrap_or_default() + "\n"
            }
        }
    }
}

/// The text of a cell: of a string its text, of `null` none, of anything else its JSON.
fn cell_of(member: Option<&RawValue>) -> Result<String, Fault> {
    match member.map(RawValue::get) {
        None | Some("null") => Ok(String::new()),
        Some(text) if text.starts_with('"') => serde_json::from_str(text).map_err(Fault::internal_json),
        Some(json) => Ok(json.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::AuditView;
    use crate::events::EventView;
    use schemars::{JsonSchema, schema_for};
    use x402_core::settlement::status::Settlement;
    use x402_core::verification::answer::VerificationAnswer;

    const VER: &str = "ver_01KB0000000000000000000000";

    #[test]
    fn a_query_is_read_or_its_fault_named() {
        let form = ExportForm { kind: ExportKind::Verifications, format: ExportFormat::Ndjson };
        let all = ExportQuery { form, from: None, before: None };
        assert_eq!(read_export_query("environment=test", true), Ok(all));
        let query = "kind=events&format=csv&from=1970-01-01T00:00:01Z&to=1970-01-01T00:00:02Z";
        let read = read_export_query(query, true).expect("reads");
        assert_eq!(read.form, ExportForm { kind: ExportKind::Events, format: ExportFormat::Csv });
        assert_eq!(read.from, Some(UnixMillis(1_000)));
        assert_eq!(read.before, Some(EventId::new(UnixMillis(2_000), [0; 10]).to_string()));
        // Whichever is less.
        let before = |query: &str| read_export_query(query, false).expect("reads").before;
        assert_eq!(before(&format!("cursor={VER}&to=2999-01-01T00:00:00Z")).as_deref(), Some(VER));
        assert!(before(&format!("cursor={VER}&to=1970-01-01T00:00:00Z")).is_some_and(|id| id.as_str() < VER));
        for (query, param) in [
            ("kind=keys", "kind"),
            ("format=xml", "format"),
            ("from=today", "from"),
            ("to=1", "to"),
            ("cursor=x", "cursor"),
            (&format!("kind=events&cursor={VER}"), "cursor"),
            ("from=1970-01-01T00:00:02Z&to=1970-01-01T00:00:01Z", "to"),
            ("limit=3", "limit"),
            ("type=payment.*", "type"),
            ("kind=events&kind=audit", "kind"),
            ("kind=audit&environment=live", "environment"),
        ] {
            assert_eq!(read_export_query(query, false).expect_err(query).param.as_deref(), Some(param), "{query}");
        }
    }

    #[test]
    fn a_key_may_name_its_environment() {
        assert!(read_export_query("kind=audit&environment=live", true).is_ok());
        assert!(read_export_query("kind=events&environment=live", false).is_ok());
    }

    #[test]
    fn rows_are_written_in_both_formats() {
        let row = r#"{"id":"aud_1","action":"key.made","detail":"=1+1","user_agent":null,"subject":"a\nb","more":1}"#;
        let written = |format| {
            let mut writer = ExportWriter::new(ExportForm { kind: ExportKind::Audit, format });
            let mut text = writer.head();
            writer.add(&mut text, row).expect("a row");
            text + &writer.end()
        };
        assert_eq!(written(ExportFormat::Ndjson), format!("{row}\n{{\"complete\":true,\"rows\":1}}\n"));
        let want = "id,created_at,actor_kind,actor,action,subject,detail,ip_prefix,user_agent\r\n\
            \"aud_1\",\"\",\"\",\"\",\"key.made\",\"a\nb\",\"'=1+1\",\"\",\"\"\r\n";
        assert_eq!(written(ExportFormat::Csv), want);
        let mut writer = ExportWriter::new(ExportForm { kind: ExportKind::Events, format: ExportFormat::Csv });
        let mut text = String::new();
        writer.add(&mut text, r#"{"id":"e","data":{"n":1.50,"t":"x"}}"#).expect("a row");
        assert_eq!(text, "\"e\",\"\",\"\",\"\",\"\",\"{\"\"n\"\":1.50,\"\"t\"\":\"\"x\"\"}\"\r\n");
        assert!(writer.add(&mut text, "[]").is_err());
    }

    #[test]
    fn every_member_of_a_row_has_a_column() {
        fn members<T: JsonSchema>() -> BTreeSet<String> {
            let schema = schema_for!(T);
            let members = schema.get("properties").and_then(|members| members.as_object()).expect("an object");
            members.keys().cloned().collect()
        }
        for (kind, members) in [
            (ExportKind::Verifications, members::<VerificationAnswer>()),
            (ExportKind::Settlements, members::<Settlement>()),
            (ExportKind::Events, members::<EventView>()),
            (ExportKind::Audit, members::<AuditView>()),
        ] {
            let columns: BTreeSet<String> = kind.columns().iter().map(|column| (*column).to_owned()).collect();
            assert_eq!((columns, kind.columns().len()), (members.clone(), members.len()), "{kind:?}");
        }
    }
}

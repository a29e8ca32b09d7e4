//! `GET /v1/audit-log`: who changed what in the tenant.

use crate::body::invalid;
use crate::csv::push_line;
use serde::Serialize;
use x402_chain::id::{KeyId, PersonId};
use x402_chain::time::UnixMillis;
use x402_core::audit::{ActorKind, AuditAction};
use x402_core::error::Fault;

/// One change.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct AuditView {
    /// The entry's id, `aud_…`.
    pub id: String,
    /// When, RFC 3339.
    pub created_at: String,
    /// Whether a person, a key, an operator or the service itself made the change.
    pub actor_kind: ActorKind,
    /// The person who made the change, `per_…`; the key, `key_…`; or `operator` or `system`.
    pub actor: String,
    /// What was done, as `member.invited`.
    pub action: String,
    /// To whom or to what: an id, or the address that was invited.
    pub subject: String,
    /// The new value; `null` where there is none.
    pub detail: Option<String>,
    /// The network that the request came from: a prefix of its addresses, or `unknown`.
    pub ip_prefix: String,
    /// The browser, as it names itself; `null` where it does not.
    pub user_agent: Option<String>,
}

/// Which entries are read, and how they are written.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// Only changes by this actor, as entries name it.
    pub actor: Option<String>,
    /// Only changes of this kind.
    pub action: Option<AuditAction>,
    /// Only entries made then or later.
    pub since: Option<UnixMillis>,
    /// Only entries made before.
    pub until: Option<UnixMillis>,
    /// Whether the answer is CSV.
    pub csv: bool,
}

/// Reads `actor`, `action`, `since`, `until` and `format` of the query string. Other parameters are ignored.
///
/// # Errors
/// `INVALID_REQUEST`, naming the parameter.
pub fn read_audit_query(query: &str) -> Result<AuditQuery, Fault> {
    let mut read = AuditQuery::default();
    for (name, text) in form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "actor" => read.actor = Some(read_actor(&text)?),
            "action" => {
                let action = AuditAction::parse(&text);
                read.action = Some(action.ok_or_else(|| invalid("action", "names no action of the audit log"))?);
            }
            "since" => read.since = Some(read_time("since", &text)?),
            "until" => read.until = Some(read_time("until", &text)?),
            "format" => {
                read.csv = match text.as_ref() {
                    "csv" => true,
                    "json" => false,
                    _ => return Err(invalid("format", "must be 'json' or 'csv'")),
                }
            }
            _ => {}
        }
    }
    Ok(read)
}

fn read_actor(text: &str) -> Result<String, Fault> {
    let is_id = PersonId::parse(text).is_some() || KeyId::parse(text).is_some();
    let is_kind = [ActorKind::Operator, ActorKind::System].iter().any(|kind| kind.name() == text);
    let rule = "must be a person's id, a key's id, 'operator' or 'system'";
    if is_id || is_kind { Ok(text.to_owned()) } else { Err(invalid("actor", rule)) }
}

fn read_time(name: &'static str, text: &str) -> Result<UnixMillis, Fault> {
    UnixMillis::parse(text).ok_or_else(|| invalid(name, "must be a time in RFC 3339, as 2026-11-30T00:00:00Z"))
}

/// The first line of an export.
const CSV_HEAD: &str = "id,created_at,actor_kind,actor,action,subject,detail,ip_prefix,user_agent\r\n";

/// Entries as CSV (RFC 4180), with a line that names the columns.
#[must_use]
pub fn csv_of(entries: &[AuditView]) -> String {
    let mut text = CSV_HEAD.to_owned();
    for entry in entries {
        let cells = [
            entry.id.as_str(),
            &entry.created_at,
            entry.actor_kind.name(),
            &entry.actor,
            &entry.action,
            &entry.subject,
            entry.detail.as_deref().unwrap_or(""),
            &entry.ip_prefix,
            entry.user_agent.as_deref().unwrap_or(""),
        ];
        push_line(&mut text, cells);
    }
    text
}

/// The query string of the next part of an export.
#[must_use]
pub fn next_query(query: &str, cursor: &str) -> String {
    let given = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name != "cursor");
    form_urlencoded::Serializer::new(String::new()).extend_pairs(given).append_pair("cursor", cursor).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_filtered_by_what_there_is() {
        let person = "per_01KB0000000000000000000000";
        assert_eq!(read_audit_query("limit=1"), Ok(AuditQuery::default()));
        let query = format!(
            "actor={person}&action=member.invited&since=1970-01-01T00:00:01Z&until=1970-01-01T00:00:02%2B00:00"
        );
        let want = AuditQuery {
            actor: Some(person.to_owned()),
            action: Some(AuditAction::MemberInvited),
            since: Some(UnixMillis(1_000)),
            until: Some(UnixMillis(2_000)),
            csv: false,
        };
        assert_eq!(read_audit_query(&query), Ok(want));
        for actor in ["operator", "system", "key_01KB0000000000000000000000"] {
            assert_eq!(read_audit_query(&format!("actor={actor}")).map(|read| read.actor), Ok(Some(actor.to_owned())));
        }
        assert_eq!(read_audit_query("format=csv").map(|read| read.csv), Ok(true));
        for (wrong, param) in [
            ("action=member", "action"),
            ("actor=me", "actor"),
            ("actor=person", "actor"),
            ("since=yesterday", "since"),
            ("until=1", "until"),
            ("format=xml", "format"),
        ] {
            assert_eq!(read_audit_query(wrong).map_err(|fault| fault.param), Err(Some(param.into())), "{wrong}");
        }
    }

    #[test]
    fn an_export_holds_no_formula() {
        let entry = AuditView {
            id: "aud_1".to_owned(),
            created_at: "2026-11-30T00:00:00.000Z".to_owned(),
            actor_kind: ActorKind::System,
            actor: "system".to_owned(),
            action: "key.revoked".to_owned(),
            subject: "key_1".to_owned(),
            detail: None,
            ip_prefix: "unknown".to_owned(),
            user_agent: Some("=cmd|'/c calc'!A0".to_owned()),
        };
        let text = csv_of(&[entry]);
        let lines: Vec<&str> = text.split_terminator("\r\n").collect();
        let want = r#""aud_1","2026-11-30T00:00:00.000Z","system","system","key.revoked","key_1","","unknown","'=cmd|'/c calc'!A0""#;
        assert_eq!(lines, [CSV_HEAD.trim_end(), want]);
    }

    #[test]
    fn the_next_part_keeps_the_filters() {
        assert_eq!(next_query("format=csv&cursor=aud_1&actor=system", "aud_0"), "format=csv&actor=system&cursor=aud_0");
        assert_eq!(next_query("", "aud_0"), "cursor=aud_0");
    }
}

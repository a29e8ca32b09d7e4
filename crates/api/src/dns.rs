//! Questions to the DNS over HTTPS, in JSON
//! (<https://developers.cloudflare.com/1.1.1.1/encryption/dns-over-https/make-api-requests/dns-json/>).

use core::net::IpAddr;
use serde_json::Value;

/// A type of records (RFC 1035, section 3.2.2; RFC 3596).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// Texts.
    Txt,
    /// An address of IPv4.
    A,
    /// An address of IPv6.
    Aaaa,
}

impl RecordKind {
    const fn name(self) -> &'static str {
        match self {
            Self::Txt => "TXT",
            Self::A => "A",
            Self::Aaaa => "AAAA",
        }
    }

    const fn number(self) -> u64 {
        match self {
            Self::A => 1,
            Self::Txt => 16,
            Self::Aaaa => 28,
        }
    }
}

/// The address that asks a resolver for records of a name.
#[must_use]
pub fn question_url(resolver: &str, name: &str, kind: RecordKind) -> String {
    let mut begin = resolver.to_owned();
    begin.push(if resolver.contains('?') { '&' } else { '?' });
    let from = begin.len();
    let mut query = form_urlencoded::Serializer::for_suffix(begin, from);
    query.append_pair("name", name);
    query.append_pair("type", kind.name());
    query.finish()
}

/// The data of the records in a resolver's answer, of aliases that lead to them too; none where the name does not exist.
/// `None` where the resolver could not find out, or answers another way.
#[must_use]
pub fn read_records(body: &[u8], kind: RecordKind) -> Option<Vec<String>> {
    let body: Value = serde_json::from_slice(body).ok()?;
    // NOERROR and NXDOMAIN (RFC 6895, section 2.3).
    let status = body.get("Status").and_then(Value::as_u64).filter(|status| matches!(status, 0 | 3))?;
    let answers = body.get("Answer").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let answers = if status == 0 { answers } else { &[] };
    let is_wanted = |answer: &&Value| answer.get("type").and_then(Value::as_u64) == Some(kind.number());
    let data = answers.iter().filter(is_wanted).filter_map(|answer| answer.get("data")?.as_str());
    Some(data.map(|data| if kind == RecordKind::Txt { joined(data) } else { data.trim().to_owned() }).collect())
}

/// The addresses in a resolver's answer to [`RecordKind::A`] or [`RecordKind::Aaaa`]; `None` as [`read_records`], and where
/// one of them cannot be read.
#[must_use]
pub fn read_addresses(body: &[u8], kind: RecordKind) -> Option<Vec<IpAddr>> {
    read_records(body, kind)?.iter().map(|data| data.parse().ok()).collect()
}

/// Whether a resolver says that the name's own servers gave it no answer that holds (SERVFAIL: RFC 1035, section 4.1.1; RFC 4035,
/// section 5.5).
#[must_use]
pub fn is_name_failing(body: &[u8]) -> bool {
    let body: Option<Value> = serde_json::from_slice(body).ok();
    body.is_some_and(|body| body.get("Status").and_then(Value::as_u64) == Some(2))
}

/// The text of a record: strings of at most 255 bytes, each in quotes, which belong together (RFC 7208, section 3.3).
fn joined(data: &str) -> String {
    let Some(inner) = data.trim().strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return data.trim().to_owned();
    };
    inner.split("\" \"").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_name_is_asked_for() {
        let url = question_url("https://dns.example/dns-query", "_x402-edge.corp.example", RecordKind::Txt);
        assert_eq!(url, "https://dns.example/dns-query?name=_x402-edge.corp.example&type=TXT");
        let url = question_url("https://dns.example/?k=1", "a.b", RecordKind::Aaaa);
        assert_eq!(url, "https://dns.example/?k=1&name=a.b&type=AAAA");
    }

    #[test]
    fn an_answer_is_texts_or_no_answer() {
        let read = |body: Value| read_records(body.to_string().as_bytes(), RecordKind::Txt);
        let answers = json!([
            {"name": "a", "type": 5, "data": "b."}, {"name": "b", "type": 16, "data": "\"x402-edge-\" \"domain=1\""},
            {"name": "b", "type": 16, "data": "plain"}, {"name": "b", "type": 16}
        ]);
        let texts = Some(vec!["x402-edge-domain=1".to_owned(), "plain".to_owned()]);
        assert_eq!(read(json!({"Status": 0, "Answer": answers})), texts);
        assert_eq!(read(json!({"Status": 0})), Some(Vec::new()));
        assert_eq!(read(json!({"Status": 3, "Answer": answers})), Some(Vec::new()));
        for wrong in [json!({"Status": 2}), json!({}), json!([]), json!({"Status": "0"})] {
            assert_eq!(read(wrong.clone()), None, "{wrong}");
        }
        assert_eq!(read_records(b"<html>", RecordKind::Txt), None);
        let failing =
            [&b"{\"Status\":2}"[..], b"{\"Status\":5}", b"{\"Status\":0}", b"{}", b"<html>"].map(is_name_failing);
        assert_eq!(failing, [true, false, false, false, false]);
    }

    #[test]
    fn all_addresses_are_read_or_none_is() {
        let read =
            |kind, answers: Value| read_addresses(json!({"Status": 0, "Answer": answers}).to_string().as_bytes(), kind);
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let answers = json!([
            {"name": "a", "type": 5, "data": "b."}, {"name": "b", "type": 1, "data": "192.0.2.1"},
            {"name": "b", "type": 1, "data": "127.0.0.1"}, {"name": "b", "type": 28, "data": "2001:db8::1"}
        ]);
        let both = Some(vec![address("192.0.2.1"), address("127.0.0.1")]);
        assert_eq!(read(RecordKind::A, answers.clone()), both);
        assert_eq!(read(RecordKind::Aaaa, answers), Some(vec![address("2001:db8::1")]));
        let mixed = json!([{"type": 1, "data": "192.0.2.1"}, {"type": 1, "data": "localhost"}]);
        assert_eq!(read(RecordKind::A, mixed), None);
        assert_eq!(read(RecordKind::A, json!([])), Some(Vec::new()));
        assert_eq!(read_addresses(br#"{"Status":2}"#, RecordKind::A), None);
    }
}

//! Questions to the DNS over HTTPS, in JSON
//! (<https://developers.cloudflare.com/1.1.1.1/encryption/dns-over-https/make-api-requests/dns-json/>).

use serde_json::Value;

/// The type of a TXT record (RFC 1035, section 3.2.2).
const TXT: u64 = 16;

/// The address that asks a resolver for the TXT records of a name.
#[must_use]
pub fn txt_url(resolver: &str, name: &str) -> String {
    let mut begin = resolver.to_owned();
    begin.push(if resolver.contains('?') { '&' } else { '?' });
    let from = begin.len();
    let mut query = form_urlencoded::Serializer::for_suffix(begin, from);
    query.append_pair("name", name);
    query.append_pair("type", "TXT");
    query.finish()
}

/// The texts of the records in a resolver's answer; none where the name does not exist. `None` where the resolver could not
/// find out, or answers another way.
#[must_use]
pub fn read_txt(body: &[u8]) -> Option<Vec<String>> {
    let body: Value = serde_json::from_slice(body).ok()?;
    // NOERROR and NXDOMAIN (RFC 6895, section 2.3).
    let status = body.get("Status").and_then(Value::as_u64).filter(|status| matches!(status, 0 | 3))?;
    let answers = body.get("Answer").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let answers = if status == 0 { answers } else { &[] };
    let is_text = |answer: &&Value| answer.get("type").and_then(Value::as_u64) == Some(TXT);
    Some(answers.iter().filter(is_text).filter_map(|answer| answer.get("data")?.as_str()).map(joined).collect())
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
        let url = txt_url("https://dns.example/dns-query", "_x402-edge.corp.example");
        assert_eq!(url, "https://dns.example/dns-query?name=_x402-edge.corp.example&type=TXT");
        assert_eq!(txt_url("https://dns.example/?k=1", "a.b"), "https://dns.example/?k=1&name=a.b&type=TXT");
    }

    #[test]
    fn an_answer_is_texts_or_no_answer() {
        let read = |body: Value| read_txt(body.to_string().as_bytes());
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
        assert_eq!(read_txt(b"<html>"), None);
    }
}

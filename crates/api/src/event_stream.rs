//! `GET /v1/events/stream`: events as they come, as server-sent events (HTML Living Standard, section 9.2).

use crate::body::invalid;
use crate::events::{EventFilter, EventView, read_event_filter};
use x402_chain::id::EventId;
use x402_core::error::Fault;

/// The media type.
pub const CONTENT_TYPE: &str = "text/event-stream";

/// A comment, which keeps a connection open.
pub const HEARTBEAT: &str = ":\n\n";

/// After how long a client connects again, in milliseconds.
const RETRY_MS: u64 = 2_000;

/// The same with an id from which on a client that connects again goes on.
#[must_use]
pub fn position(id: EventId) -> String {
    format!(":\nid: {id}\n\n")
}

/// What stands first in a stream: when to connect again, and from which id on then, where no event comes before that.
#[must_use]
pub fn head(from: EventId) -> String {
    format!("retry: {RETRY_MS}\nid: {from}\n\n")
}

/// Adds an event.
///
/// # Errors
/// `INTERNAL`; none that our own types can raise.
pub fn push_event(text: &mut String, event: &EventView) -> Result<(), Fault> {
    let data = serde_json::to_string(event).map_err(Fault::internal)?;
    // The text is one line: JSON escapes line breaks, and what is stored was written without any.
    let lines = [("id", event.id.to_string().as_str()), ("event", &event.kind), ("data", &data)]
        .map(|(field, value)| format!("{field}: {value}\n"));
    lines.iter().for_each(|line| text.push_str(line));
    text.push('\n');
    Ok(())
}

/// Parameters of the list that say what a stream does otherwise.
const OF_THE_LIST: [&str; 4] = ["from", "to", "limit", "cursor"];

/// Reads `type` and `subject` of a query string.
///
/// # Errors
/// `INVALID_REQUEST`, naming the parameter; also of one that only the list takes.
pub fn read_stream_filter(query: &str) -> Result<EventFilter, Fault> {
    for (name, _) in form_urlencoded::parse(query.as_bytes()) {
        if OF_THE_LIST.contains(&name.as_ref()) {
            return Err(invalid(
                &name,
                "is for the list: a stream goes on after the event of the header Last-Event-ID",
            ));
        }
    }
    read_event_filter(query)
}

/// Reads the header `Last-Event-ID`; an empty one is absent.
///
/// # Errors
/// `INVALID_REQUEST` where it is no event's id.
pub fn read_last_event_id(header: Option<&str>) -> Result<Option<EventId>, Fault> {
    let read = |text: &str| {
        EventId::parse(text).ok_or_else(|| invalid("Last-Event-ID", "must be the id of an event of this stream, evt_…"))
    };
    header.filter(|text| !text.is_empty()).map(read).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::RawValue;
    use x402_chain::network::Environment;
    use x402_chain::time::UnixMillis;

    #[test]
    fn an_event_is_a_message_of_three_lines() {
        let id = EventId::new(UnixMillis(1_795_910_400_000), [7; 10]);
        let event = EventView {
            id,
            kind: "payment.finalized".to_owned(),
            created_at: "2026-11-29T00:00:00.000Z".to_owned(),
            environment: Environment::Live,
            subject: "a\nb".to_owned(),
            data: RawValue::from_string("{\"a\":\"1\\n2\"}".to_owned()).expect("JSON"),
        };
        let mut text = head(id);
        push_event(&mut text, &event).expect("a message");
        let want = format!(
            "retry: 2000\nid: {id}\n\nid: {id}\nevent: payment.finalized\ndata: {{\"id\":\"{id}\",\"type\":\"payment.finalized\",\
             \"created_at\":\"2026-11-29T00:00:00.000Z\",\"environment\":\"live\",\"subject\":\"a\\nb\",\
             \"data\":{{\"a\":\"1\\n2\"}}}}\n\n"
        );
        assert_eq!(text, want);
    }

    #[test]
    fn a_stream_takes_no_page() {
        assert!(read_stream_filter("type=payment.*&environment=test").is_ok_and(|filter| filter.kinds.len() > 1));
        for name in OF_THE_LIST {
            let wrong = read_stream_filter(&format!("type=payment.*&{name}=1")).expect_err("of the list");
            assert_eq!(wrong.param.as_deref(), Some(name));
        }
        let id = EventId::new(UnixMillis(1), [0; 10]);
        assert_eq!(position(id), format!(":\nid: {id}\n\n"));
    }

    #[test]
    fn a_last_id_is_an_events() {
        let id = EventId::new(UnixMillis(1), [0; 10]);
        assert_eq!(read_last_event_id(Some(&id.to_string())), Ok(Some(id)));
        assert_eq!((read_last_event_id(None), read_last_event_id(Some(""))), (Ok(None), Ok(None)));
        let wrong = read_last_event_id(Some("ver_1")).expect_err("no event");
        assert_eq!(wrong.param.as_deref(), Some("Last-Event-ID"));
    }
}

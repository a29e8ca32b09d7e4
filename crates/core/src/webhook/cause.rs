//! Which trace a message to a webhook endpoint belongs to: that of the request that caused its event. Nothing is stored for
//! it: the message's data name the request or its trace.

use crate::traceparent::TraceParent;
use serde::Deserialize;
use x402_chain::id::{EventId, RequestId};

/// The header `traceparent` of an attempt, by the message's body. Data that name no request, and those of a test event, which
/// are an example, begin a trace of their own, the same for all attempts.
#[must_use]
pub fn trace_of_message(message: &str, event: EventId, attempt: u64) -> TraceParent {
    #[derive(Deserialize)]
    struct Message {
        data: Cause,
        #[serde(default)]
        test: bool,
    }
    #[derive(Default, Deserialize)]
    struct Cause {
        traceparent: Option<String>,
        request_id: Option<String>,
    }
    let cause = match serde_json::from_str::<Message>(message) {
        Ok(Message { data, test: false }) => data,
        Ok(Message { test: true, .. }) | Err(_) => Cause::default(),
    };
    let outside = cause.traceparent.as_deref().and_then(TraceParent::parse);
    let own = || cause.request_id.as_deref().and_then(RequestId::parse).map(TraceParent::of_request);
    outside.or_else(own).unwrap_or_else(|| TraceParent::of_event(event)).with_attempt(event, attempt)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str = "req_01KB000000000000000000000A";
    const OUTSIDE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0c1902b7-00";

    #[track_caller]
    fn check(message: &str, trace: &str) {
        let event = EventId::parse("evt_01KB0000000000000000000100").expect("an id");
        for number in [1, 2] {
            let sent = trace_of_message(message, event, number).to_string();
            let span = 0x400_u64.saturating_add(number);
            assert!(sent.starts_with(&format!("00-{trace}-{span:016x}-0")), "{message}: {sent}");
        }
    }

    #[test]
    fn a_message_belongs_to_the_trace_of_the_request_that_caused_it() {
        let of_request = TraceParent::of_request(RequestId::parse(REQUEST).expect("an id")).trace.to_string();
        check(&format!(r#"{{"data":{{"request_id":"{REQUEST}","id":"ver_1"}}}}"#), &of_request);
        let outside = "4bf92f3577b34da6a3ce929d0e0e4736";
        let both = format!(r#"{{"data":{{"request_id":"{REQUEST}","traceparent":"{OUTSIDE}"}}}}"#);
        check(&both, outside);
        let sent = trace_of_message(&both, EventId::parse("evt_01KB0000000000000000000100").expect("an id"), 1);
        assert!(!sent.is_sampled, "a trace that is not recorded stays so");
        check(&format!(r#"{{"data":{{"traceparent":"{OUTSIDE}"}}}}"#), outside);
        check(&format!(r#"{{"data":{{"request_id":"{REQUEST}","traceparent":"of a later build"}}}}"#), &of_request);
    }

    #[test]
    fn a_message_without_a_request_begins_a_trace() {
        let event = TraceParent::of_event(EventId::parse("evt_01KB0000000000000000000100").expect("an id"));
        let own = event.trace.to_string();
        check(r#"{"data":{"action":"key.created"}}"#, &own);
        check(&format!(r#"{{"data":{{"request_id":"{REQUEST}","traceparent":"{OUTSIDE}"}},"test":true}}"#), &own);
        check(r#"{"data":{"request_id":"req_1"}}"#, &own);
        check(r#"{"data":{"request_id":null}}"#, &own);
        check(r#"{"data":{"request_id":7}}"#, &own);
        check("", &own);
    }
}

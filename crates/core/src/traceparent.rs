//! The header `traceparent` of W3C Trace Context (<https://www.w3.org/TR/trace-context/>): which trace a request belongs to.
//!
//! Only the ids and the bit `sampled` are read, and only they are sent on. `tracestate` is neither read nor sent: it is text
//! of a client's own, which would go to providers and to endpoints of webhooks.

use core::fmt;
use serde::{Deserialize, Serialize};
use x402_chain::id::{EventId, RequestId};

/// The length of the header of version 00.
const LENGTH: usize = 55;
/// The bit of the flags that says that the caller may have recorded its part.
const SAMPLED: u8 = 1;

/// The id of a trace, 16 bytes that are not all zero. Written as 32 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId([u8; 16]);

/// The id of a span, 8 bytes that are not all zero. Written as 16 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId([u8; 8]);

impl fmt::Display for TraceId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&hex::encode(self.0))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&hex::encode(self.0))
    }
}

impl SpanId {
    const fn of_number(number: u64) -> Self {
        // An id of zeros says that there is none.
        Self(if number == 0 { 1_u64.to_be_bytes() } else { number.to_be_bytes() })
    }

    /// The span of an id that is a ULID: its last eight bytes, which are random.
    const fn of_bits(bits: u128) -> Self {
        let [_, _, _, _, _, _, _, _, span @ ..] = bits.to_be_bytes();
        Self::of_number(u64::from_be_bytes(span))
    }
}

/// A span within its trace. In JSON it is the header's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace.
    pub trace: TraceId,
    /// The span: of what is sent, the parent of whatever the receiver does.
    pub span: SpanId,
    /// Whether the trace may be recorded.
    pub is_sampled: bool,
}

/// Hex digits in lower case, of which not all are zero.
fn read_id<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0_u8; N];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    (bytes != [0_u8; N]).then_some(bytes)
}

impl TraceParent {
    /// Reads a header. Of a version after 00 what that version adds is left out, as the specification asks. `None`: the header
    /// is to be ignored.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (head, more) = text.split_at_checked(LENGTH)?;
        if head.bytes().any(|byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-')) {
            return None;
        }
        let mut parts = head.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_whole = match version {
            "00" => more.is_empty(),
            "ff" => false,
            _ => version.len() == 2 && (more.is_empty() || more.starts_with('-')),
        };
        if !is_whole || parts.next().is_some() {
            return None;
        }
        let mut bits = [0_u8; 1];
        hex::decode_to_slice(flags, &mut bits).ok()?;
        let [bits] = bits;
        let (trace, span) = (TraceId(read_id(trace)?), SpanId(read_id(span)?));
        Some(Self { trace, span, is_sampled: bits & SAMPLED == SAMPLED })
    }

    /// The span of a request in a trace that begins with it: the id of the trace is that of the request, in hex. It is sampled:
    /// the log has a line of each request.
    #[must_use]
    pub const fn of_request(id: RequestId) -> Self {
        Self::of_bits(id.bits())
    }

    /// The span of an event behind which no request is known, in a trace that begins with it.
    #[must_use]
    pub const fn of_event(id: EventId) -> Self {
        Self::of_bits(id.bits())
    }

    const fn of_bits(bits: u128) -> Self {
        Self { trace: TraceId(bits.to_be_bytes()), span: SpanId::of_bits(bits), is_sampled: true }
    }

    /// The span of a request in this trace.
    #[must_use]
    pub const fn with_request(self, id: RequestId) -> Self {
        Self { span: SpanId::of_bits(id.bits()), ..self }
    }

    /// The span of an attempt to deliver an event, in this trace.
    #[must_use]
    pub const fn with_attempt(self, event: EventId, number: u64) -> Self {
        Self { span: SpanId::of_bits(event.bits()), ..self }.child(number)
    }

    /// The span of the request with this number that is made within this span.
    #[must_use]
    pub const fn child(self, number: u64) -> Self {
        Self { span: SpanId::of_number(u64::from_be_bytes(self.span.0).wrapping_add(number)), ..self }
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "00-{}-{}-0{}", self.trace, self.span, u8::from(self.is_sampled))
    }
}

impl Serialize for TraceParent {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TraceParent {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a traceparent"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use x402_chain::time::UnixMillis;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0c1902b7";

    #[track_caller]
    fn check(text: &str, sent_on: Option<&str>) {
        let read = TraceParent::parse(text);
        assert_eq!(read.map(|read| read.to_string()).as_deref(), sent_on, "{text}");
    }

    #[test]
    fn a_header_of_version_00_is_read() {
        let of = |flags: &str| format!("00-{TRACE}-{SPAN}-{flags}");
        check(&of("01"), Some(&of("01")));
        check(&of("00"), Some(&of("00")));
        // Flags that this version does not define are not sent on.
        check(&of("ff"), Some(&of("01")));
        check(&of("02"), Some(&of("00")));
    }

    #[test]
    fn a_header_of_a_later_version_is_read_as_far_as_it_is_known() {
        let own = format!("00-{TRACE}-{SPAN}-01");
        check(&format!("01-{TRACE}-{SPAN}-01"), Some(&own));
        check(&format!("cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like"), Some(&own));
        check(&format!("cc-{TRACE}-{SPAN}-01-"), Some(&own));
        check(&format!("cc-{TRACE}-{SPAN}-01.what"), None);
        check(&format!("cc-{TRACE}-{SPAN}-011"), None);
    }

    #[test]
    fn anything_else_is_ignored() {
        let good = format!("00-{TRACE}-{SPAN}-01");
        for wrong in [
            String::new(),
            "00".to_owned(),
            TRACE.to_owned(),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("0-{TRACE}-{SPAN}-001"),
            format!("0x-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{}-01", SPAN.to_uppercase()),
            format!("00-{TRACE}-{SPAN}-0A"),
            format!("00-{TRACE}-{SPAN}-.0"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}{SPAN}--01-"),
            format!("00_{TRACE}_{SPAN}_01"),
            format!("{good}-"),
            format!("{good}-00"),
            format!("{good} "),
            format!(" {good}"),
            // Two headers, as they are put together.
            format!("{good}, {good}"),
            format!("cc-{TRACE}-{SPAN}-01, cc-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-0\u{e9}"),
            good.replace("00f067aa", "00f067a\u{e9}"),
        ] {
            check(&wrong, None);
        }
    }

    #[test]
    fn a_trace_that_begins_here_has_the_id_of_its_request() {
        let id = RequestId::new(UnixMillis(1_795_910_400_000), [7; 10]);
        let own = TraceParent::of_request(id);
        assert_eq!(own.to_string(), format!("00-{}-0707070707070707-01", own.trace));
        assert_eq!(own.trace.to_string(), format!("{:032x}", id.bits()));
        let outside = TraceParent::parse(&format!("00-{TRACE}-{SPAN}-00")).expect("a header");
        let within = outside.with_request(id);
        assert_eq!(within.to_string(), format!("00-{TRACE}-0707070707070707-00"));
        assert_eq!(within.child(1).to_string(), format!("00-{TRACE}-0707070707070708-00"));
        let event = EventId::new(UnixMillis(1), [255; 10]);
        // After the last number comes the first one that is an id.
        assert_eq!(within.with_attempt(event, 1).span.to_string(), "0000000000000001");
        assert_eq!(within.with_attempt(event, 2).span.to_string(), "0000000000000001");
        assert_eq!(
            TraceParent::of_request(RequestId::new(UnixMillis(1), [0; 10])).span.to_string(),
            "0000000000000001"
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(trace in any::<[u8; 16]>(), span in any::<[u8; 8]>(), is_sampled: bool) {
            prop_assume!(trace != [0; 16] && span != [0; 8]);
            let own = TraceParent { trace: TraceId(trace), span: SpanId(span), is_sampled };
            prop_assert_eq!(TraceParent::parse(&own.to_string()), Some(own));
            prop_assert_eq!(own.to_string().len(), LENGTH);
        }

        #[test]
        fn no_text_is_too_strange(text in "\\PC{0,80}") {
            let _ = TraceParent::parse(&text);
        }

        #[test]
        fn what_is_sent_on_is_ids_alone(text in "[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.{0,20})?") {
            if let Some(read) = TraceParent::parse(&text) {
                prop_assert_eq!(&read.to_string()[2..53], &text[2..53]);
                prop_assert!(read.to_string().is_ascii());
            }
        }
    }
}

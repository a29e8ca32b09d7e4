use super::ledger::{LedgerEnvelope, LedgerMessage, LedgerReply};
use super::settler::{SettlerMessage, SettlerReply};
use super::*;
use crate::settlement::flight::FlightVersions;
use crate::settlement::payment::ReservedSettlement;
use crate::settlement::{Flight, SettlementReport};
use crate::tenancy::payee::PayeeAnswer;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};

/// One call as a build of version 1 made it, and the reply that it got.
#[derive(Clone, Deserialize)]
struct Recorded {
    name: String,
    request: String,
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

fn recorded(object: &str) -> Vec<Recorded> {
    let text = include_str!("../../../../tests/fixtures/messages/previous.jsonl");
    let calls = text.lines().map(|line| serde_json::from_str::<Recorded>(line).expect("a recorded call"));
    let calls: Vec<Recorded> = calls.filter(|call| call.name.starts_with(object)).collect();
    assert!(!calls.is_empty());
    calls
}

fn rewritten<T: Serialize + DeserializeOwned>(text: &str) -> (T, String) {
    let value: T = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let again = serde_json::to_string(&value).expect("JSON");
    (value, again)
}

/// A request with the lower 80 bits of its random number: only they count, and only they are written.
fn with_written_bits(request: &str) -> String {
    let mark = "\"random\":\"";
    let Some((before, rest)) = request.split_once(mark) else { return request.to_owned() };
    let (digits, after) = rest.split_once('"').expect("the end of a number");
    let number = if digits.is_empty() { 0 } else { digits.parse::<u128>().expect("a number") };
    format!("{before}{mark}{}\"{after}", number & ((1 << 80) - 1))
}

fn envelope(call: &Recorded) -> LedgerEnvelope {
    let (envelope, again) = rewritten::<LedgerEnvelope>(&call.request);
    assert_eq!(again, with_written_bits(&call.request), "{}", call.name);
    envelope
}

fn read(call: &Recorded, status: u16, headers: &BTreeMap<String, String>) -> LedgerReply {
    let message = envelope(call).message;
    LedgerReply::read(&message, status, |name| headers.get(name).cloned()).expect("a reply")
}

/// The name of a message's variant.
fn kind(request: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(request).expect("JSON");
    let message = value.get("ask").unwrap_or(&value);
    let name = message.as_object().and_then(|object| object.keys().next()).map(String::as_str);
    name.or(message.as_str()).expect("a name").to_owned()
}

#[test]
fn messages_of_the_version_before_are_read_and_written_byte_for_byte() {
    let mut kinds: BTreeSet<String> = recorded("ledger/").iter().map(|call| kind(&call.request)).collect();
    for call in recorded("ledger/") {
        envelope(&call);
    }
    // What only a cron trigger sends.
    let ping = recorded("ledger/ping").remove(0);
    let flush = Recorded { request: ping.request.replace("\"ping\"", "\"flush\""), ..ping };
    envelope(&flush);
    kinds.insert(kind(&flush.request));
    let all = [
        "account",
        "deliver",
        "flush",
        "hand_over",
        "list",
        "payees",
        "payment",
        "ping",
        "record",
        "reload",
        "reopen",
        "settled",
        "settlement",
        "settlements",
        "verify",
    ];
    assert_eq!(kinds, all.map(str::to_owned).into());
    let mut kinds = BTreeSet::new();
    for call in recorded("settler/") {
        let (_, again) = rewritten::<SettlerMessage>(&call.request);
        assert_eq!(again, call.request, "{}", call.name);
        kinds.insert(kind(&call.request));
    }
    assert_eq!(kinds, ["held", "refuse", "settle"].map(str::to_owned).into());
}

#[test]
fn a_ledgers_reply_means_the_same_in_both_versions() {
    let mut meanings = BTreeSet::new();
    for call in recorded("ledger/") {
        let reply = read(&call, call.status, &call.headers);
        // What an object of this build replies to a caller of the version before is what one of that version replied.
        assert_eq!(reply.status(call.status), call.status, "{}", call.name);
        let header = reply.header(MessageVersion::V1).expect("a header");
        let internal = |(name, value): (&String, &String)| {
            LedgerReply::INTERNAL_HEADERS.contains(&name.as_str()).then(|| (name.clone(), value.clone()))
        };
        let before = call.headers.iter().find_map(internal);
        assert_eq!(header.map(|(name, value)| (name.to_owned(), value)), before, "{}", call.name);
        // A caller of this version reads the same.
        let status = reply.status(call.status);
        let header = reply.header(MessageVersion::V2).expect("a header");
        let headers = header.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        assert_eq!(read(&call, status, &headers), reply, "{}", call.name);
        // What is no answer for the client is none without its header either.
        if !matches!(reply, LedgerReply::Refused(_) | LedgerReply::Unrecorded | LedgerReply::Success(_)) {
            assert_eq!(read(&call, status, &BTreeMap::new()), reply, "{}", call.name);
        }
        let meaning = serde_json::to_value(&reply).expect("JSON");
        let name = meaning.as_object().and_then(|object| object.keys().next()).map(String::as_str);
        meanings.insert(name.or(meaning.as_str()).expect("a name").to_owned());
    }
    let all = ["answer", "done", "chain_needed", "no_record", "payees", "refused", "settle", "success", "unrecorded"];
    assert_eq!(meanings, all.map(str::to_owned).into());
}

#[test]
fn a_ledgers_own_replies_have_bodies_that_are_read() {
    for call in recorded("ledger/payment-settle-good") {
        let (_, again) = rewritten::<ReservedSettlement>(&call.body);
        assert_eq!((read(&call, call.status, &call.headers), again), (LedgerReply::Settle, call.body));
    }
    for call in recorded("ledger/payees") {
        let (_, again) = rewritten::<Vec<PayeeAnswer>>(&call.body);
        assert_eq!((read(&call, call.status, &call.headers), again), (LedgerReply::Payees, call.body));
    }
}

#[test]
fn a_reply_of_a_later_build_is_an_error_and_no_answer() {
    let call = recorded("ledger/ping").remove(0);
    let text = "{\"version\":9,\"reply\":{\"unheard_of\":1}}";
    let reply = LedgerReply::read(&envelope(&call).message, 200, |name| {
        (name == LedgerReply::INTERNAL_HEADERS[0]).then(|| text.to_owned())
    });
    assert!(reply.is_err());
    assert!(SettlerReply::read(&SettlerMessage::Held, 200, text).is_err());
}

#[test]
fn an_erasure_is_a_message_of_its_own_and_what_is_left_is_no_answer() {
    assert_eq!(rewritten::<LedgerMessage>("\"erase\"").0, LedgerMessage::Erase);
    // As a build that does not know a message reads it.
    assert!(serde_json::from_str::<LedgerMessage>("\"unheard_of\"").is_err());
    for (reply, status) in [(LedgerReply::Erasing, 202), (LedgerReply::Done, 204)] {
        assert_eq!(reply.status(200), status);
        let (name, text) = reply.header(MessageVersion::V2).expect("JSON").expect("a header");
        let read = LedgerReply::read(&LedgerMessage::Erase, status, |asked| (asked == name).then(|| text.clone()));
        assert_eq!(read.expect("a reply"), reply);
    }
    // A refusal of a ledger that could not read the message.
    assert_eq!(LedgerReply::read(&LedgerMessage::Erase, 503, |_| None).expect("a reply"), LedgerReply::Problem);
}

#[test]
fn a_settlers_reply_is_read_in_both_versions() {
    for call in recorded("settler/") {
        let (message, _) = rewritten::<SettlerMessage>(&call.request);
        let reply = SettlerReply::read(&message, call.status, &call.body).expect("a reply");
        assert_eq!(reply.encode(MessageVersion::V1).expect("JSON"), (call.status, call.body.clone()), "{}", call.name);
        let (status, body) = reply.encode(MessageVersion::V2).expect("JSON");
        assert_eq!(SettlerReply::read(&message, status, &body).expect("a reply"), reply, "{}", call.name);
    }
    let failed = SettlerReply::Failed("MISCONFIGURED".to_owned());
    for version in [MessageVersion::V1, MessageVersion::V2] {
        let (status, body) = failed.encode(version).expect("JSON");
        assert_eq!(SettlerReply::read(&SettlerMessage::Held, status, &body).expect("a reply"), failed);
    }
}

#[test]
fn what_the_version_before_has_stored_of_a_flight_is_read() {
    let text = include_str!("../../../../tests/fixtures/messages/stored.jsonl");
    let mut open = 0_usize;
    for line in text.lines() {
        let row: BTreeMap<String, Option<String>> = serde_json::from_str(line).expect("a row");
        let column = |name: &str| row.get(name).cloned().flatten();
        let flight = column("flight").expect("a flight");
        assert_eq!(rewritten::<Flight>(&flight).1, flight);
        let sent = column("sent").expect("its versions");
        assert_eq!(rewritten::<FlightVersions>(&sent).1, sent);
        match column("report") {
            Some(report) => assert_eq!(rewritten::<SettlementReport>(&report).1, report),
            None => open += 1,
        }
    }
    assert!(open > 0, "a flight that has not ended");
}

#[test]
fn an_address_holds_the_version_and_the_deadline() {
    let deadline = Some(UnixMillis(1_764_457_200_000));
    let own = MessageHead::own(deadline);
    assert_eq!(own.address("ledger"), "https://ledger/v2/1764457200000");
    for head in [own, MessageHead::own(None)] {
        assert_eq!(MessageHead::read(&head.address("ledger")), head);
    }
    // What a build of version 1 asks, and what it reads in an address of this one: all after the last stroke.
    let first = MessageHead { version: MessageVersion::V1, deadline };
    assert_eq!(MessageHead::read("https://ledger/1764457200000"), first);
    assert_eq!(MessageHead::read("https://settler/"), MessageHead { deadline: None, ..first });
    assert_eq!(own.address("ledger").rsplit_once('/').map(|(_, until)| until), Some("1764457200000"));
    // A later build is replied to in the newest version that this one knows.
    assert_eq!(MessageHead::read("https://ledger/v3/1764457200000"), own);
    assert_eq!(MessageHead::read("").version, MessageVersion::V1);
}

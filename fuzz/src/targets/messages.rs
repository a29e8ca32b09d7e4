//! Messages between the Worker and its objects, of this build and of those before.

use crate::properties::{stable_json, text};
use x402_core::messages::MessageHead;
use x402_core::messages::courier::{CourierEnvelope, CourierReply};
use x402_core::messages::ledger::{LedgerEnvelope, LedgerMessage, LedgerReply};
use x402_core::messages::meter::{MeterMessage, MeterReply, ObjectQueue};
use x402_core::messages::records::{RecordsEnvelope, RecordsReply};
use x402_core::messages::settler::{SettlerMessage, SettlerReply};

/// The header of a reply of this build.
const HEADER: &str = LedgerReply::INTERNAL_HEADERS[0];

pub(crate) fn address(input: &[u8]) -> bool {
    let Some(address) = text(input) else { return false };
    assert_eq!(ObjectQueue::parse(address).is_some(), ["outbox", "courier"].contains(&address));
    let head = MessageHead::read(address);
    assert_eq!(MessageHead::read(&head.address("ledger")).address("ledger"), head.address("ledger"));
    head.deadline.is_some()
}

pub(crate) fn ledger(input: &[u8]) -> bool {
    stable_json::<LedgerEnvelope>(input)
}

/// A reply's header; and as the answer's body, of version 1.
pub(crate) fn ledger_reply(input: &[u8]) -> bool {
    let Some(header) = text(input) else { return false };
    let read = LedgerReply::read(&LedgerMessage::Flush, 200, |name| (name == HEADER).then(|| header.to_owned()));
    for status in [200, 202, 204, 400, 401, 404, 503] {
        let read = LedgerReply::read(&LedgerMessage::Flush, status, |name| (name != HEADER).then(|| header.to_owned()));
        assert!(read.is_ok(), "a reply of version 1 has a meaning");
    }
    read.is_ok()
}

pub(crate) fn settler(input: &[u8]) -> bool {
    let Some(body) = text(input) else { return false };
    let failed = SettlerReply::read(&SettlerMessage::Held, 503, body);
    assert!(matches!(failed, Ok(SettlerReply::Failed(code)) if code == body));
    let reply = SettlerReply::read(&SettlerMessage::Held, 200, body).is_ok();
    stable_json::<SettlerMessage>(input) || reply
}

pub(crate) fn objects(input: &[u8]) -> bool {
    let found = [
        stable_json::<RecordsEnvelope>(input),
        stable_json::<CourierEnvelope>(input),
        stable_json::<MeterMessage>(input),
    ];
    found.contains(&true)
}

pub(crate) fn replies(input: &[u8]) -> bool {
    let Some(body) = text(input) else { return false };
    let mut is_read = false;
    if let Ok(reply) = RecordsReply::read(body) {
        let written = reply.encode().expect("JSON");
        assert_eq!(RecordsReply::read(&written).expect("written").encode().expect("JSON"), written);
        is_read = true;
    }
    if let Ok(reply) = CourierReply::read(body) {
        let written = reply.encode().expect("JSON");
        assert_eq!(CourierReply::read(&written).expect("written").encode().expect("JSON"), written);
        is_read = true;
    }
    if let Ok(reply) = MeterReply::read(body) {
        let written = reply.encode().expect("JSON");
        assert_eq!(MeterReply::read(&written).expect("written").encode().expect("JSON"), written);
        is_read = true;
    }
    is_read
}

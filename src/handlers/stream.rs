//! `GET /v1/events/stream`: events as they come. A stream reads events where they are listed, from the time of its last event
//! on, whenever the ledger says that there may be something new, and once a minute.
//!
//! What was read is complete up to the time at which the ledger had shipped all that it held, but for events that were on
//! their way then: an event's id has the time at which it was begun to be written. So each reading begins [`LATE_MS`] before
//! the one before, and what was sent is left out; and a stream that goes on after an event begins so long before it.

use super::account::{Admitted, admit};
use super::events::EventPlaces;
use crate::app;
use crate::app::App;
use crate::archive::ArchiveFiles;
use crate::clients::stream::{LedgerStream, StreamNews};
use crate::directory_events;
use crate::request::IncomingRequest;
use crate::response::{OutgoingResponse, body_of};
use crate::sessions::open_session;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use futures_util::stream;
use std::collections::BTreeSet;
use std::rc::Rc;
use x402_api::ApiReply;
use x402_api::event_stream::{CONTENT_TYPE, HEARTBEAT, head, push_event, read_last_event_id};
use x402_api::events::{EventFilter, EventView, read_environment, read_event_filter};
use x402_chain::id::EventId;
use x402_chain::time::UnixMillis;
use x402_core::error::{ErrorCode, Fault};
use x402_core::records::archive::ArchiveOwner;

/// How long after its id's time an event may become visible, beside the time in which the ledger cannot ship it.
const LATE_MS: u64 = 60_000;
/// How far the clocks of two machines may be apart.
const CLOCKS_MS: u64 = 60_000;
/// How long a connection lasts; the client connects again then.
const OPEN_MS: u64 = 1_800_000;
/// After how many readings a connection ends before that: a request may make 10,000 requests to objects and the directory,
/// and a reading makes up to six.
const READS_MAX: u32 = 1_500;
/// How long after anything was sent a comment is.
const HEARTBEAT_MS: u64 = 15_000;
/// How often it is read without news, and the caller is checked.
const CHECK_MS: u64 = 60_000;
/// The least time from one reading to the next.
const PAUSE_MS: u64 = 500;
/// How long after a reading that failed it is read again.
const AGAIN_MS: u64 = 2_000;
/// Events that are read, and sent, at once.
const ROWS: usize = 500;
/// The most bytes of them, or one event.
const BYTES: usize = 1_048_576;
/// The first part of a longer time that is read at once.
const SPAN_MS: u64 = 3_600_000;

/// `GET /v1/events/stream`.
pub(super) async fn stream_events(app: &Rc<App>, incoming: IncomingRequest) -> Result<OutgoingResponse, Fault> {
    let filter = EventFilter { from: None, to: None, ..read_event_filter(&incoming.query)? };
    let last = read_last_event_id(incoming.last_event_id.as_deref())?;
    let environment = read_environment(&incoming.query, incoming.caller.map(|caller| caller.environment))?;
    let (tenant, headers) = match admit(app, &incoming, environment).await? {
        Admitted::Reader(tenant, headers) => (tenant, headers),
        Admitted::Refused(refusal) => return Ok(refusal),
    };
    let now = app::now();
    let from = last.map_or(now, EventId::created_at);
    let connection = LedgerStream::open(app, tenant, environment).await?;
    let reply = ApiReply { status: 200, content_type: CONTENT_TYPE, body: String::new(), headers };
    let mut stream = EventStream {
        app: Rc::clone(app),
        incoming,
        owner: ArchiveOwner { tenant, environment },
        filter,
        connection,
        files: ArchiveFiles::default(),
        sent: BTreeSet::new(),
        complete_to: UnixMillis(from.0.saturating_sub(LATE_MS)).max(tenant.created_at()),
        skips: last.is_none(),
        pass: None,
        span: SPAN_MS,
        reads: 0,
        is_news: true,
        read_at: UnixMillis(0),
        checked_at: now,
        beat_at: now,
        until: now.plus(OPEN_MS),
    };
    // Before the client hears that the stream is open: what comes from now on is sent.
    while stream.skips {
        stream.read(app::now()).await?;
    }
    let first = Some(head(last.unwrap_or_else(|| EventId::new(now, [0; 10]))));
    Ok(OutgoingResponse::Stream(reply, body_of(stream::unfold((first, stream), EventStream::step))?))
}

/// One reading from what is complete up to the time at which the ledger had shipped what it held.
#[derive(Clone, Copy)]
struct Pass {
    /// When that was.
    shipped_at: UnixMillis,
    /// From when on it is still to be read.
    next: UnixMillis,
}

/// A stream on its way.
struct EventStream {
    app: Rc<App>,
    incoming: IncomingRequest,
    owner: ArchiveOwner,
    filter: EventFilter,
    connection: LedgerStream,
    files: ArchiveFiles,
    /// All events before this time were sent.
    complete_to: UnixMillis,
    /// Events from then on that were sent.
    sent: BTreeSet<EventId>,
    /// Whether the first pass sends nothing: what it reads happened before the stream began.
    skips: bool,
    pass: Option<Pass>,
    /// The part of a pass that is read at once, in milliseconds.
    span: u64,
    reads: u32,
    is_news: bool,
    read_at: UnixMillis,
    checked_at: UnixMillis,
    beat_at: UnixMillis,
    until: UnixMillis,
}

/// A piece of the stream, and what follows.
type Piece = Option<(worker::Result<Vec<u8>>, (Option<String>, EventStream))>;

impl EventStream {
    /// Sends a piece; the stream ends where there is none.
    async fn step((first, mut stream): (Option<String>, Self)) -> Piece {
        let text = match first {
            Some(text) => Some(text),
            None => stream.next_piece().await,
        };
        text.map(|text| (Ok(text.into_bytes()), (None, stream)))
    }

    /// The next piece; `None` where the client is to connect again, or may not read any more.
    async fn next_piece(&mut self) -> Option<String> {
        loop {
            let now = app::now();
            if now >= self.until || self.reads >= READS_MAX {
                return None;
            }
            let read_from = self.read_at.plus(PAUSE_MS);
            if self.pass.is_some() || (self.is_news && now >= read_from) {
                match self.read(now).await {
                    Ok(text) if text.is_empty() => {}
                    Ok(text) => {
                        self.beat_at = app::now();
                        return Some(text);
                    }
                    Err(fault) if fault.code == ErrorCode::LedgerUnavailable => {
                        self.note(&fault);
                        (self.pass, self.is_news) = (None, true);
                        self.read_at = app::now().plus(AGAIN_MS);
                    }
                    Err(fault) => {
                        self.note(&fault);
                        return None;
                    }
                }
                continue;
            }
            let (beat, check) = (self.beat_at.plus(HEARTBEAT_MS), self.checked_at.plus(CHECK_MS));
            if now >= beat {
                self.beat_at = now;
                return Some(HEARTBEAT.to_owned());
            }
            if now >= check {
                (self.checked_at, self.is_news) = (now, true);
                continue;
            }
            let wake = if self.is_news { read_from.min(beat) } else { beat.min(check) };
            match self.connection.wait(wake.since(now)).await {
                StreamNews::News => self.is_news = true,
                StreamNews::Elapsed => {}
                StreamNews::Closed => return None,
            }
        }
    }

    fn note(&self, fault: &Fault) {
        let fields = [TelemetryField::RequestId(self.incoming.request_id), TelemetryField::Cause(fault)];
        event(TelemetryKind::Refused, &fields);
    }

    /// Reads a part of what is new; empty where nothing of it is to be sent.
    async fn read(&mut self, now: UnixMillis) -> Result<String, Fault> {
        self.reads = self.reads.saturating_add(1);
        let pass = match self.pass {
            Some(pass) => pass,
            None => {
                (self.read_at, self.is_news) = (now, false);
                self.check(now).await?;
                directory_events::ship_of(&self.app, self.owner.tenant, now).await?;
                Pass { shipped_at: now, next: self.complete_to }
            }
        };
        self.pass = Some(pass);
        // The clock that gave the newest id may be ahead of this one.
        let end = pass.shipped_at.plus(CLOCKS_MS);
        let to = pass.next.plus(self.span).min(end);
        let filter = EventFilter { from: Some(pass.next), to: Some(to), ..self.filter.clone() };
        let places = EventPlaces::of(&self.app, self.owner, now)?;
        let found = places.list(&filter, None, (ROWS, BYTES), &mut self.files).await?;
        if found.floor.is_some() || found.events.len() >= ROWS {
            // More than is sent at once: a shorter time, of which all is read.
            if self.span <= 1 {
                return Err(Fault::internal("a millisecond holds more events than are read at once"));
            }
            self.span = to.since(pass.next).div_euclid(4).max(1);
            return Ok(String::new());
        }
        let mut text = String::new();
        for event in found.events.into_iter().rev() {
            if self.sent.insert(event.id) && !self.skips {
                push_event(&mut text, &EventView::of(event, self.owner.environment))?;
            }
        }
        self.span = self.span.saturating_mul(2).min(u64::from(u32::MAX));
        let is_over = to >= end;
        self.pass = (!is_over).then_some(Pass { next: to, ..pass });
        self.skips &= !is_over;
        if is_over {
            self.files = ArchiveFiles::default();
        }
        let complete = if is_over { pass.shipped_at } else { to.min(pass.shipped_at) };
        let late = UnixMillis(pass.shipped_at.0.saturating_sub(LATE_MS));
        self.complete_to = self.complete_to.max(complete.min(late));
        self.sent.retain(|id| id.created_at() >= self.complete_to);
        Ok(text)
    }

    /// Checks that the caller may still read, and makes the ledger ship what it holds.
    async fn check(&mut self, now: UnixMillis) -> Result<(), Fault> {
        if let (None, Ok(visitor), Some(role)) =
            (self.incoming.caller, self.incoming.visitor(), self.incoming.row.access.role())
        {
            open_session(&self.app, &visitor.cookies, role, now).await?;
        }
        match admit(&self.app, &self.incoming, self.owner.environment).await? {
            Admitted::Reader(..) => Ok(()),
            Admitted::Refused(refusal) if refusal.status() >= 500 => {
                Err(Fault::new(ErrorCode::LedgerUnavailable, "the ledger could not ship what it holds"))
            }
            Admitted::Refused(_) => Err(Fault::new(ErrorCode::InvalidApiKey, "the key does not hold any more")),
        }
    }
}

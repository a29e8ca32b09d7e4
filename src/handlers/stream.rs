//! `GET /v1/events/stream`: events as they come. A stream reads events where they are listed, from the place where it stands
//! ([`EventTail`]), whenever the ledger says that there may be something new, and once a minute.

use super::account::{Admitted, admit};
use super::events::EventPlaces;
use super::watched::{Reader, watched_body};
use crate::app;
use crate::app::App;
use crate::archive::ArchiveFiles;
use crate::clients::stream::{LedgerStream, StreamNews};
use crate::directory_events;
use crate::request::IncomingRequest;
use crate::response::OutgoingResponse;
use futures_util::stream;
use std::rc::Rc;
use worker::Context;
use x402_api::ApiReply;
use x402_api::event_stream::{
    CONTENT_TYPE, HEARTBEAT, head, position, push_event, read_last_event_id, read_stream_filter,
};
use x402_api::events::{EventFilter, EventView, read_environment};
use x402_chain::id::EventId;
use x402_chain::time::UnixMillis;
use x402_core::error::{ErrorCode, Fault};
use x402_core::records::archive::ArchiveOwner;
use x402_core::records::tail::EventTail;

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
/// The most bytes of them, or one event. Ten streams of a tenant may be read by one isolate.
const BYTES: usize = 524_288;

/// `GET /v1/events/stream`.
pub(super) async fn stream_events(
    app: &Rc<App>,
    context: &Context,
    incoming: IncomingRequest,
) -> Result<OutgoingResponse, Fault> {
    let filter = read_stream_filter(&incoming.query)?;
    let last = read_last_event_id(incoming.last_event_id.as_deref())?;
    let environment = read_environment(&incoming.query, incoming.caller.map(|caller| caller.environment))?;
    let (tenant, headers) = match admit(app, &incoming, environment).await? {
        Admitted::Reader(tenant, headers) => (tenant, headers),
        Admitted::Refused(refusal) => return Ok(refusal),
    };
    let reply = ApiReply { status: 200, content_type: CONTENT_TYPE, body: String::new(), headers };
    if incoming.is_head {
        return Ok(reply.into());
    }
    let now = app::now();
    let connection = LedgerStream::open(app, tenant, environment).await?;
    // An id of the future, as of a clock that was ahead, would hold back all that happens until then.
    let from = last.map_or(now, |id| id.created_at().min(now));
    let reached = last.filter(|id| id.created_at() <= now).unwrap_or_else(|| EventId::new(now, [0; 10]));
    let access = incoming.row.access;
    let reader = Rc::new(Reader::new(Rc::clone(app), incoming, access));
    let mut stream = EventStream {
        reader: Rc::clone(&reader),
        owner: ArchiveOwner { tenant, environment },
        filter,
        connection,
        files: ArchiveFiles::default(),
        tail: EventTail::new(from, tenant.created_at(), last.is_none()),
        reached,
        reads: 0,
        is_news: true,
        read_at: UnixMillis(0),
        checked_at: now,
        beat_at: now,
        until: now.plus(OPEN_MS),
    };
    // Before the client hears that the stream is open: what comes from now on is sent.
    while stream.tail.skips() {
        stream.read(app::now()).await?;
    }
    let pieces = stream::unfold((Some(head(reached)), stream), EventStream::step);
    Ok(OutgoingResponse::Stream(reply, watched_body(context, &reader, pieces)?))
}

/// A stream on its way.
struct EventStream {
    reader: Rc<Reader>,
    owner: ArchiveOwner,
    filter: EventFilter,
    connection: LedgerStream,
    files: ArchiveFiles,
    tail: EventTail,
    /// After which id the client would go on.
    reached: EventId,
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
                return self.news_of_position();
            }
            let (beat, check) = (self.beat_at.plus(HEARTBEAT_MS), self.checked_at.plus(CHECK_MS));
            if now >= beat {
                self.beat_at = now;
                return Some(self.news_of_position().unwrap_or_else(|| HEARTBEAT.to_owned()));
            }
            let read_from = self.read_at.plus(PAUSE_MS);
            if self.tail.is_reading() || (self.is_news && now >= read_from) {
                match self.read(now).await {
                    Ok(text) if text.is_empty() => {}
                    Ok(text) => {
                        self.beat_at = app::now();
                        return Some(text);
                    }
                    Err(fault) if fault.code == ErrorCode::LedgerUnavailable => {
                        self.reader.note(&fault);
                        self.tail.give_up();
                        self.is_news = true;
                        self.read_at = app::now().plus(AGAIN_MS);
                    }
                    Err(fault) => {
                        self.reader.note(&fault);
                        return None;
                    }
                }
                continue;
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

    /// Tells the client how far the stream has come, also over what its filter leaves out; `None` where it knows.
    fn news_of_position(&mut self) -> Option<String> {
        let at = self.tail.position();
        if at <= self.reached || self.tail.skips() {
            return None;
        }
        self.reached = at;
        Some(position(at))
    }

    /// Reads a part of what is new; empty where nothing of it is to be sent.
    async fn read(&mut self, now: UnixMillis) -> Result<String, Fault> {
        self.reads = self.reads.saturating_add(1);
        if !self.tail.is_reading() {
            (self.read_at, self.is_news) = (now, false);
            self.check(now).await?;
            directory_events::ship_of(&self.reader.app, self.owner.tenant, now).await?;
            self.tail.begin(now);
        }
        let Some(range) = self.tail.range() else { return Ok(String::new()) };
        let places = EventPlaces::of(&self.reader.app, self.owner, now)?;
        let bounds = (Some(range.from), Some(range.before));
        let found = places.list(&self.filter, bounds, (ROWS, BYTES), &mut self.files).await?;
        let mut text = String::new();
        for event in self.tail.take(found, ROWS) {
            self.reached = self.reached.max(event.id);
            push_event(&mut text, &EventView::of(event, self.owner.environment))?;
        }
        if !self.tail.is_reading() {
            self.files = ArchiveFiles::default();
        }
        Ok(text)
    }

    /// Checks that the caller may still read, and makes the ledger ship what it holds.
    async fn check(&mut self, now: UnixMillis) -> Result<(), Fault> {
        let reader = &self.reader;
        reader.check_session(now).await?;
        match admit(&reader.app, &reader.incoming, self.owner.environment).await? {
            Admitted::Reader(..) => {
                reader.note_checked(now);
                Ok(())
            }
            Admitted::Refused(refusal) if refusal.status() >= 500 => {
                Err(Fault::new(ErrorCode::LedgerUnavailable, "the ledger could not ship what it holds"))
            }
            Admitted::Refused(_) => Err(Fault::new(ErrorCode::InvalidApiKey, "the key does not hold any more")),
        }
    }
}

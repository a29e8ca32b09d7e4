//! Bodies that are made while they are sent, of streams and exports. A task beside such a body looks after it, however slowly
//! its client reads: it ends the body where its reader may read no more, where the client takes nothing, and where it has gone.
//! With the body all is dropped that it held: its place among those of the tenant, and what was read for it.

use super::account::call_own_ledger_as;
use crate::app;
use crate::app::{App, after_answer};
use crate::request::IncomingRequest;
use crate::response::body_of;
use crate::sessions::open_session;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use core::cell::{Cell, RefCell};
use core::pin::Pin;
use core::task::{Context as TaskContext, Poll, Waker};
use core::time::Duration;
use futures_util::future::{AbortHandle, abortable};
use futures_util::stream::Stream;
use std::rc::{Rc, Weak};
use worker::{Context, Delay, web_sys};
use x402_chain::time::UnixMillis;
use x402_core::error::{ErrorCode, Fault};
use x402_core::messages::ledger::{AccountView, LedgerMessage, LedgerReply};
use x402_core::tenancy::access::Access;

/// The most bytes that are handed over at once: a client that is not taken for one that has gone takes so many within
/// [`TAKEN_MS`].
const PIECE: usize = 65_536;
/// How long a client may take nothing.
const TAKEN_MS: u64 = 60_000;
/// How often it is looked whether a body is to end.
const LOOK_MS: u64 = 15_000;
/// How long after its last check a reader is checked here. A stream that is read checks its reader itself, once a minute.
const CHECK_MS: u64 = 75_000;
/// How long a reader may read whom nobody can check.
const UNCHECKED_MS: u64 = 300_000;

/// Who reads a body.
pub(super) struct Reader {
    pub(super) app: Rc<App>,
    pub(super) incoming: IncomingRequest,
    /// What its key, or its session, must be allowed.
    access: Access,
    checked_at: Cell<UnixMillis>,
    /// When the client has asked for more last.
    pub(super) asked_at: Rc<Cell<UnixMillis>>,
}

impl Reader {
    /// A reader that was checked when its request came.
    pub(super) fn new(app: Rc<App>, incoming: IncomingRequest, access: Access) -> Self {
        let (checked_at, asked_at) = (Cell::new(incoming.now), Rc::new(Cell::new(incoming.now)));
        Self { app, incoming, access, checked_at, asked_at }
    }

    /// Notes that the reader was checked.
    pub(super) fn note_checked(&self, now: UnixMillis) {
        self.checked_at.set(now);
    }

    /// Checks that the session, if it is one, is still open.
    ///
    /// # Errors
    /// `INVALID_SESSION`, `INSUFFICIENT_ROLE`; where the directory fails.
    pub(super) async fn check_session(&self, now: UnixMillis) -> Result<(), Fault> {
        if let (None, Ok(visitor), Some(role)) = (self.incoming.caller, self.incoming.visitor(), self.access.role()) {
            open_session(&self.app, &visitor.cookies, role, now).await?;
        }
        Ok(())
    }

    async fn check(&self, now: UnixMillis) -> Result<(), Fault> {
        let Some(caller) = self.incoming.caller else { return self.check_session(now).await };
        let message = LedgerMessage::Account { key: caller.hash, view: AccountView::Whoami, off: Vec::new() };
        let response = call_own_ledger_as(&self.app, &self.incoming, self.access, message).await?;
        if *response.reply() == LedgerReply::Answer {
            return Ok(());
        }
        Err(match response.status() >= 500 {
            true => Fault::new(ErrorCode::LedgerUnavailable, "the ledger did not answer"),
            false => Fault::new(ErrorCode::InvalidApiKey, "the key does not hold any more"),
        })
    }

    /// Whether the reader may go on, checked where that is due. Where nobody can say it, it is asked again with the next look.
    async fn may_read(&self) -> bool {
        let now = app::now();
        let unchecked = now.since(self.checked_at.get());
        if unchecked < CHECK_MS {
            return true;
        }
        match self.check(now).await {
            Ok(()) => {
                self.note_checked(now);
                true
            }
            Err(fault) => {
                self.note(&fault);
                fault.code.status() >= 500 && unchecked < UNCHECKED_MS
            }
        }
    }

    /// Logs why a body ends, or goes on later.
    pub(super) fn note(&self, fault: &Fault) {
        let fields = [TelemetryField::RequestId(self.incoming.request_id), TelemetryField::Cause(fault)];
        event(TelemetryKind::Refused, &fields);
    }
}

type Pieces = Pin<Box<dyn Stream<Item = worker::Result<Vec<u8>>>>>;

/// What makes a body.
struct Source {
    /// `None`: it was ended.
    pieces: Option<Pieces>,
    /// A piece that is being handed over, and how far it is.
    piece: (Vec<u8>, usize),
    /// Whether the client has been given something, and has not asked for more.
    is_given: bool,
    /// Whoever waits for the next piece.
    waiting: Option<Waker>,
}

impl Source {
    fn end(&mut self) {
        (self.pieces, self.piece, self.is_given) = (None, (Vec::new(), 0), false);
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    /// The next bytes of the piece that is being handed over.
    fn part(&mut self) -> Option<Vec<u8>> {
        let (piece, from) = &mut self.piece;
        let part = piece.get(*from..).and_then(|rest| rest.chunks(PIECE).next())?.to_vec();
        *from = from.saturating_add(part.len());
        Some(part)
    }
}

/// A body that is looked after, until it is dropped.
struct WatchedBody {
    reader: Rc<Reader>,
    source: Rc<RefCell<Source>>,
    watching: AbortHandle,
}

impl Stream for WatchedBody {
    type Item = worker::Result<Vec<u8>>;

    fn poll_next(self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let mut source = self.source.borrow_mut();
        source.is_given = false;
        self.reader.asked_at.set(app::now());
        loop {
            if let Some(part) = source.part() {
                source.is_given = true;
                self.reader.asked_at.set(app::now());
                return Poll::Ready(Some(Ok(part)));
            }
            let Some(pieces) = source.pieces.as_mut() else {
                return Poll::Ready(Some(Err(worker::Error::from("the body was ended"))));
            };
            match pieces.as_mut().poll_next(context) {
                Poll::Pending => {
                    source.waiting = Some(context.waker().clone());
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(piece))) => source.piece = (piece, 0),
                Poll::Ready(end) => {
                    source.end();
                    return Poll::Ready(end);
                }
            }
        }
    }
}

impl Drop for WatchedBody {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

/// Ends a body when it is due; until then it is made for its reader.
async fn watch(reader: Rc<Reader>, source: Weak<RefCell<Source>>) {
    loop {
        Delay::from(Duration::from_millis(LOOK_MS)).await;
        let Some(source) = source.upgrade() else { return };
        // What is made takes its own time.
        let is_stalled = source.borrow().is_given && app::now().since(reader.asked_at.get()) >= TAKEN_MS;
        if is_stalled {
            reader.note(&Fault::internal("a client takes nothing of its answer: it was ended"));
        }
        if is_stalled || reader.incoming.signal.aborted() || !reader.may_read().await {
            source.borrow_mut().end();
            return;
        }
    }
}

/// A body that is made piece by piece for a reader, each piece when the client has taken the one before. Where it is ended
/// before it is whole, the connection ends without the end of the body.
///
/// # Errors
/// `INTERNAL` where the platform refuses it.
pub(super) fn watched_body(
    context: &Context,
    reader: &Rc<Reader>,
    pieces: impl Stream<Item = worker::Result<Vec<u8>>> + 'static,
) -> Result<web_sys::ReadableStream, Fault> {
    let source = Source { pieces: Some(Box::pin(pieces)), piece: (Vec::new(), 0), is_given: false, waiting: None };
    let source = Rc::new(RefCell::new(source));
    let (task, watching) = abortable(watch(Rc::clone(reader), Rc::downgrade(&source)));
    // It goes on for a while when the client has gone: nothing else drops what the body holds then.
    after_answer(context, async move {
        let _ = task.await;
    });
    body_of(WatchedBody { reader: Rc::clone(reader), source, watching })
}

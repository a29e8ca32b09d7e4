//! A connection to a ledger that says when there may be new events.

use crate::app::App;
use crate::clients::ledger::ledger_stub;
use core::future::poll_fn;
use core::pin::Pin;
use core::task::Poll;
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use worker::{Delay, Method, Request, WebSocket, WebsocketEvent};
use x402_chain::id::TenantId;
use x402_chain::network::Environment;
use x402_core::error::{ErrorCode, Fault};
use x402_core::messages::MessageHead;

/// The deadline of a call, as of others to a ledger.
const DEADLINE_MS: u64 = 6_000;
/// When a client may try again for which there was no room, in seconds.
const AGAIN_S: u64 = 30;

/// What has come over a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamNews {
    /// There may be something new.
    News,
    /// The time is over.
    Elapsed,
    /// The connection is closed.
    Closed,
}

/// A connection to a ledger, until it is dropped.
pub(crate) struct LedgerStream {
    socket: WebSocket,
    /// Takes what comes; it ends with the connection.
    listening: Pin<Box<dyn Future<Output = ()>>>,
    /// Whether something has come.
    is_news: Rc<Cell<bool>>,
    is_closed: bool,
}

fn not_streaming(cause: impl core::fmt::Display) -> Fault {
    Fault::new(ErrorCode::LedgerUnavailable, "the tenant's ledger does not stream").after(1).because(cause)
}

impl LedgerStream {
    /// Connects to a ledger.
    ///
    /// # Errors
    /// `RATE_LIMITED` where the ledger has too many connections; `LEDGER_UNAVAILABLE`.
    pub(crate) async fn open(app: &App, tenant: TenantId, environment: Environment) -> Result<Self, Fault> {
        let stub = ledger_stub(app, tenant, environment, None)?;
        let mut request =
            Request::new(&MessageHead::own(None).address("ledger"), Method::Get).map_err(not_streaming)?;
        let set = request.headers_mut().and_then(|headers| headers.set("upgrade", "websocket"));
        set.map_err(not_streaming)?;
        let asked = pin!(stub.fetch_with_request(request));
        let deadline = Delay::from(Duration::from_millis(DEADLINE_MS));
        let response = match select(asked, pin!(deadline)).await {
            Either::Left((response, _)) => response.map_err(not_streaming)?,
            Either::Right(_) => return Err(not_streaming(format!("no answer in {DEADLINE_MS} ms"))),
        };
        if response.status_code() == 429 {
            let detail = "too many streams of this tenant and environment are open: close one first";
            return Err(Fault::new(ErrorCode::RateLimited, detail).after(AGAIN_S));
        }
        let status = response.status_code();
        let socket = response.websocket().ok_or_else(|| not_streaming(format!("it answered {status}")))?;
        let is_news = Rc::new(Cell::new(false));
        let (own, noted) = (socket.clone(), Rc::clone(&is_news));
        let listening = async move {
            let Ok(mut events) = own.events() else { return };
            while let Some(Ok(WebsocketEvent::Message(_))) = events.next().await {
                noted.set(true);
            }
        };
        let mut stream = Self { socket, listening: Box::pin(listening), is_news, is_closed: false };
        // The listener is there before the connection is.
        stream.listen().await;
        stream.socket.accept().map_err(not_streaming)?;
        Ok(stream)
    }

    /// Takes what has come so far.
    async fn listen(&mut self) {
        poll_fn(|context| {
            self.is_closed = self.is_closed || self.listening.as_mut().poll(context).is_ready();
            Poll::Ready(())
        })
        .await;
    }

    /// Waits for news, at most so long. After it is closed, it waits for nothing.
    pub(crate) async fn wait(&mut self, limit_ms: u64) -> StreamNews {
        let mut delay = pin!(Delay::from(Duration::from_millis(limit_ms)));
        poll_fn(|context| {
            self.is_closed = self.is_closed || self.listening.as_mut().poll(context).is_ready();
            if self.is_closed {
                return Poll::Ready(StreamNews::Closed);
            }
            if self.is_news.replace(false) {
                return Poll::Ready(StreamNews::News);
            }
            delay.as_mut().poll(context).map(|()| StreamNews::Elapsed)
        })
        .await
    }
}

impl Drop for LedgerStream {
    fn drop(&mut self) {
        // One that is closed already is left so.
        let _ = self.socket.close(Some(1000), Some(""));
    }
}

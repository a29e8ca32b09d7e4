//! Connections of Workers that stream the tenant's events. Over them the ledger says that there may be something new; what
//! it is, they read where events are listed. The platform keeps the connections while the object sleeps
//! (<https://developers.cloudflare.com/durable-objects/best-practices/websockets/>).

use super::TenantLedger;
use worker::{Response, WebSocketPair};

/// The most connections of a ledger: of a tenant in an environment.
const STREAMS_MAX: usize = 10;

impl TenantLedger {
    /// Takes a connection; 429 where there are too many.
    pub(super) fn accept_stream(&self) -> worker::Result<Response> {
        if self.state.get_websockets().len() >= STREAMS_MAX {
            return Ok(Response::empty()?.with_status(429));
        }
        let WebSocketPair { client, server } = WebSocketPair::new()?;
        self.state.accept_web_socket(&server);
        Response::from_websocket(client)
    }

    /// Notes that streams read from now on what is there: what comes afterwards is news again.
    pub(super) fn note_read(&self) {
        self.streams_woken.set(false);
    }

    /// Says once that there may be something new, until it is read.
    pub(super) fn wake_streams(&self) {
        if self.streams_woken.replace(true) {
            return;
        }
        for socket in self.state.get_websockets() {
            // A connection that has just ended needs no news.
            let _ = socket.send_with_str("news");
        }
    }
}

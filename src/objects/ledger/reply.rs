//! A ledger's reply, before it is encoded in the version that the caller reads.

use x402_api::ApiReply;
use x402_core::error::Fault;
use x402_core::messages::MessageVersion;
use x402_core::messages::ledger::LedgerReply;

/// A reply: its meaning, and the HTTP answer or the body that goes with it.
#[derive(Clone, Debug)]
pub(super) struct LedgerOutput {
    reply: LedgerReply,
    pub(super) http: ApiReply,
}

impl From<ApiReply> for LedgerOutput {
    /// A complete answer for the HTTP caller.
    fn from(http: ApiReply) -> Self {
        let reply = if http.status >= 400 { LedgerReply::Problem } else { LedgerReply::Answer };
        Self { reply, http }
    }
}

impl LedgerOutput {
    /// A reply with its HTTP answer. Of a reply that is no complete answer the status is ignored.
    pub(super) const fn of(reply: LedgerReply, http: ApiReply) -> Self {
        Self { reply, http }
    }

    /// A reply without a body.
    pub(super) const fn empty(reply: LedgerReply) -> Self {
        Self::of(reply, ApiReply { status: 204, content_type: "", body: String::new(), headers: Vec::new() })
    }

    /// [`LedgerReply::Done`].
    pub(super) const fn done() -> Self {
        Self::empty(LedgerReply::Done)
    }

    /// With the headers of the rate windows.
    pub(super) fn with_rates(mut self, headers: Vec<(&'static str, String)>) -> Self {
        self.http.headers.extend(headers);
        self
    }

    /// The reply as a caller of a version reads it.
    ///
    /// # Errors
    /// None that its types can raise.
    pub(super) fn encode(self, version: MessageVersion) -> Result<ApiReply, Fault> {
        let Self { reply, mut http } = self;
        http.status = reply.status(http.status);
        http.headers.extend(reply.header(version).map_err(Fault::internal)?);
        Ok(http)
    }
}

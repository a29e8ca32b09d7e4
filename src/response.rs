//! Answers as the platform's responses, with the headers of every answer.

use crate::clients::ledger::LedgerResponse;
use crate::platform::headers::{headers_object, response_init};
use futures_util::stream::Stream;
use wasm_bindgen::JsCast;
use worker::web_sys;
use worker::{Response, ResponseBody};
use x402_api::headers::CrossOrigin;
use x402_api::{ApiReply, headers};
use x402_chain::id::RequestId;
use x402_core::error::Fault;

/// A handler's answer.
pub(crate) enum OutgoingResponse {
    /// An answer that the Worker made itself.
    Own(ApiReply),
    /// A ledger's complete reply, which is sent unchanged.
    Ledger(LedgerResponse),
    /// Status and headers of an answer whose body is made while it is sent.
    Stream(ApiReply, web_sys::ReadableStream),
}

/// A body that is made piece by piece, each when the client has room for it. An error ends the connection without the end
/// of the body, so that the client can tell it from a complete one.
///
/// # Errors
/// `INTERNAL` where the platform refuses it.
pub(crate) fn body_of(
    pieces: impl Stream<Item = worker::Result<Vec<u8>>> + 'static,
) -> Result<web_sys::ReadableStream, Fault> {
    match Response::from_stream(pieces).map_err(Fault::internal)?.body() {
        ResponseBody::Stream(stream) => Ok(stream.clone()),
        ResponseBody::Empty | ResponseBody::Body(_) => Err(Fault::internal("a stream became no stream")),
    }
}

impl From<ApiReply> for OutgoingResponse {
    fn from(reply: ApiReply) -> Self {
        Self::Own(reply)
    }
}

impl From<LedgerResponse> for OutgoingResponse {
    fn from(response: LedgerResponse) -> Self {
        Self::Ledger(response)
    }
}

/// The header of the steps of a request. It is not among those that pages of other origins may read.
const SERVER_TIMING: &str = "Server-Timing";

/// What of the headers depends on the request.
#[derive(Clone, Copy)]
pub(crate) struct AnswerHeaders<'a> {
    pub(crate) cross_origin: CrossOrigin,
    /// How long the request's steps took, where the answer says it.
    pub(crate) timing: Option<&'a str>,
}

impl AnswerHeaders<'_> {
    fn init(self, reply: &ApiReply, request_id: RequestId) -> worker::Result<web_sys::ResponseInit> {
        let request_id = request_id.to_string();
        let timing = self.timing.map(|timing| (SERVER_TIMING, timing));
        response_init(reply.status, headers::sent_headers(reply, &request_id, self.cross_origin).chain(timing))
    }
}

impl OutgoingResponse {
    /// The HTTP status code.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Own(reply) | Self::Stream(reply, _) => reply.status,
            Self::Ledger(response) => response.status(),
        }
    }

    /// The answer with status 200 where it is a fault: a client whose URL holds a key puts that URL into its message
    /// about other statuses, and shops show that message to buyers. The body says what is wrong.
    ///
    /// # Errors
    /// Where the platform refuses to copy a ledger's answer.
    pub(crate) fn always_ok(self) -> worker::Result<Self> {
        if self.status() < 400 {
            return Ok(self);
        }
        Ok(match self {
            Self::Own(mut reply) => {
                (reply.status, reply.content_type) = (200, "application/json");
                reply.headers.retain(|(name, _)| *name != "WWW-Authenticate");
                Self::Own(reply)
            }
            Self::Ledger(passed) => Self::Ledger(passed.always_ok()?),
            // A stream is an answer, and no fault.
            Self::Stream(reply, body) => Self::Stream(reply, body),
        })
    }

    /// The response to the caller; `head` leaves the body out.
    ///
    /// # Errors
    /// Where the platform refuses it.
    pub(crate) fn into_response(
        self,
        request_id: RequestId,
        sent: AnswerHeaders<'_>,
        head: bool,
    ) -> worker::Result<web_sys::Response> {
        match self {
            Self::Own(reply) => {
                let body = (!head && !reply.body.is_empty()).then_some(reply.body.as_str());
                let init = sent.init(&reply, request_id)?;
                Ok(web_sys::Response::new_with_opt_str_and_init(body, &init)?)
            }
            Self::Stream(reply, body) => {
                let init = sent.init(&reply, request_id)?;
                let body = (!head).then_some(&body);
                Ok(web_sys::Response::new_with_opt_readable_stream_and_init(body, &init)?)
            }
            Self::Ledger(response) => {
                let mut changes: Vec<(&str, Option<&str>)> = Vec::new();
                if sent.cross_origin == CrossOrigin::Refused {
                    for (name, value) in headers::own_origin_changes() {
                        changes.push((name, value));
                    }
                }
                changes.extend(sent.timing.map(|timing| (SERVER_TIMING, Some(timing))));
                let response = response.into_response(changes)?;
                if head {
                    return Ok(web_sys::Response::new_with_opt_str_and_init(None, response.unchecked_ref())?);
                }
                Ok(response)
            }
        }
    }
}

/// An object's reply with the headers of every answer, so that it can be sent unchanged.
///
/// # Errors
/// Where the platform refuses it.
pub(crate) fn object_response(
    reply: ApiReply,
    request_id: RequestId,
    cross_origin: CrossOrigin,
) -> worker::Result<Response> {
    let request_id = request_id.to_string();
    let headers = headers_object(headers::sent_headers(&reply, &request_id, cross_origin))?;
    let body = if reply.body.is_empty() { ResponseBody::Empty } else { ResponseBody::Body(reply.body.into_bytes()) };
    Ok(Response::from_body(body)?.with_headers(worker::Headers(headers)).with_status(reply.status))
}

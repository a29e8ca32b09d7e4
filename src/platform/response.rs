//! Answers as the platform takes them. Every call into JavaScript costs, so
//! status and headers cross as one text.

use crate::clients::ledger::LedgerResponse;
use serde::Serialize;
use std::collections::BTreeMap;
use wasm_bindgen::{JsCast, JsValue};
use worker::web_sys::{self, ResponseInit};
use worker::{Response, ResponseBody, js_sys};
use x402_api::{Reply, headers};
use x402_chain::id::RequestId;

/// What a handler answers with.
pub(crate) enum Outgoing {
    /// An answer made here.
    Made(Reply),
    /// A ledger's, complete, that goes out as it came.
    Passed(LedgerResponse),
}

impl From<Reply> for Outgoing {
    fn from(reply: Reply) -> Self {
        Self::Made(reply)
    }
}

impl From<LedgerResponse> for Outgoing {
    fn from(response: LedgerResponse) -> Self {
        Self::Passed(response)
    }
}

impl Outgoing {
    /// The HTTP status.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Made(reply) => reply.status,
            Self::Passed(response) => response.status(),
        }
    }

    /// The same with status 200 where it is a fault: a client of a URL with a key in it puts that URL into
    /// what it says of other statuses, and shops show that to buyers. The body says what is wrong.
    ///
    /// # Errors
    /// Where the platform refuses to copy a ledger's answer.
    pub(crate) fn always_ok(self) -> worker::Result<Self> {
        if self.status() < 400 {
            return Ok(self);
        }
        Ok(match self {
            Self::Made(mut reply) => {
                (reply.status, reply.content_type) = (200, "application/json");
                reply.headers.retain(|(name, _)| *name != "WWW-Authenticate");
                Self::Made(reply)
            }
            Self::Passed(passed) => Self::Passed(passed.always_ok()?),
        })
    }

    /// The response to the caller; `head` leaves the body out.
    ///
    /// # Errors
    /// Where the platform refuses it.
    pub(crate) fn into_response(self, request_id: RequestId, head: bool) -> worker::Result<web_sys::Response> {
        match self {
            Self::Made(reply) => {
                let body = (!head && !reply.body.is_empty()).then_some(reply.body.as_str());
                Ok(web_sys::Response::new_with_opt_str_and_init(body, &init(&reply, request_id)?)?)
            }
            Self::Passed(response) if head => {
                let response = response.into_response();
                Ok(web_sys::Response::new_with_opt_str_and_init(None, response.unchecked_ref())?)
            }
            Self::Passed(response) => Ok(response.into_response()),
        }
    }
}

/// A `ResponseInit`.
#[derive(Serialize)]
struct Init<'a> {
    status: u16,
    headers: BTreeMap<&'a str, &'a str>,
}

fn parsed(text: &str) -> worker::Result<JsValue> {
    Ok(js_sys::JSON::parse(text)?)
}

fn init(reply: &Reply, request_id: RequestId) -> worker::Result<ResponseInit> {
    let request_id = request_id.to_string();
    let init = Init { status: reply.status, headers: headers::complete(reply, &request_id) };
    Ok(parsed(&serde_json::to_string(&init)?)?.unchecked_into())
}

/// An answer of an object, with the headers that every answer has: it can go out as it is.
///
/// # Errors
/// Where the platform refuses it.
pub(crate) fn respond(reply: Reply, request_id: RequestId) -> worker::Result<Response> {
    let request_id = request_id.to_string();
    let record = parsed(&serde_json::to_string(&headers::complete(&reply, &request_id))?)?;
    let headers = web_sys::Headers::new_with_record_from_str_to_str(record.unchecked_ref())?;
    let body = if reply.body.is_empty() { ResponseBody::Empty } else { ResponseBody::Body(reply.body.into_bytes()) };
    Ok(Response::from_body(body)?.with_headers(worker::Headers(headers)).with_status(reply.status))
}

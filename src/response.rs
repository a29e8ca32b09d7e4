//! Responses for the platform. Every call into JavaScript costs time, so status and headers are passed as one text.

use crate::clients::ledger::LedgerResponse;
use serde::Serialize;
use std::collections::BTreeMap;
use wasm_bindgen::{JsCast, JsValue};
use worker::web_sys::{self, ResponseInit};
use worker::{Response, ResponseBody, js_sys};
use x402_api::headers::CrossOrigin;
use x402_api::{ApiReply, headers};
use x402_chain::id::RequestId;

/// A handler's answer.
pub(crate) enum OutgoingResponse {
    /// An answer that the Worker made itself.
    Own(ApiReply),
    /// A ledger's complete reply, which is sent unchanged.
    Ledger(LedgerResponse),
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

impl OutgoingResponse {
    /// The HTTP status code.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Own(reply) => reply.status,
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
        })
    }

    /// The response to the caller; `head` leaves the body out.
    ///
    /// # Errors
    /// Where the platform refuses it.
    pub(crate) fn into_response(
        self,
        request_id: RequestId,
        cross_origin: CrossOrigin,
        head: bool,
    ) -> worker::Result<web_sys::Response> {
        match self {
            Self::Own(reply) => {
                let body = (!head && !reply.body.is_empty()).then_some(reply.body.as_str());
                Ok(web_sys::Response::new_with_opt_str_and_init(
                    body,
                    &response_init(&reply, request_id, cross_origin)?,
                )?)
            }
            Self::Ledger(response) if head => {
                let response = response.into_response()?;
                Ok(web_sys::Response::new_with_opt_str_and_init(None, response.unchecked_ref())?)
            }
            Self::Ledger(response) => Ok(response.into_response()?),
        }
    }
}

/// The second argument of `new Response`, as JSON.
#[derive(Serialize)]
struct ResponseInitJson<'a> {
    status: u16,
    headers: BTreeMap<&'a str, &'a str>,
}

fn parse_js(text: &str) -> worker::Result<JsValue> {
    Ok(js_sys::JSON::parse(text)?)
}

fn response_init(reply: &ApiReply, request_id: RequestId, cross_origin: CrossOrigin) -> worker::Result<ResponseInit> {
    let request_id = request_id.to_string();
    let init =
        ResponseInitJson { status: reply.status, headers: headers::all_headers(reply, &request_id, cross_origin) };
    Ok(parse_js(&serde_json::to_string(&init)?)?.unchecked_into())
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
    let record = parse_js(&serde_json::to_string(&headers::all_headers(&reply, &request_id, cross_origin))?)?;
    let headers = web_sys::Headers::new_with_record_from_str_to_str(record.unchecked_ref())?;
    let body = if reply.body.is_empty() { ResponseBody::Empty } else { ResponseBody::Body(reply.body.into_bytes()) };
    Ok(Response::from_body(body)?.with_headers(worker::Headers(headers)).with_status(reply.status))
}

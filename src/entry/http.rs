//! HTTP requests: the checks that need no tenant, in this order (route, size, media type, key, body), and the log of
//! failed and slow requests.

use super::{operator, visitor};
use crate::alerts::faults;
use crate::app;
use crate::app::App;
use crate::outbound::USER_AGENT;
use crate::request::{Client, IncomingRequest, fault_reply};
use crate::response::OutgoingResponse;
use crate::telemetry::{TelemetryField, TelemetryKind, counts, event};
use crate::{handlers, isolate, metering};
use futures_util::StreamExt;
use std::cell::Cell;
use std::rc::Rc;
use worker::{Context, Env, Request, web_sys};
use x402_api::body;
use x402_api::credentials::Credentials;
use x402_api::endpoint::{Endpoint, Route, RouteRow, allowed_methods};
use x402_api::headers::CrossOrigin;
use x402_api::place::RequestPath;
use x402_api::problem::ProblemContext;
use x402_api::target::{UrlTarget, is_host};
use x402_api::webhooks::SignatureHeaders;
use x402_api::{explain, headers};
use x402_chain::network::Environment;
use x402_chain::time::UnixMillis;
use x402_core::error::{ErrorCode, Fault};
use x402_core::metrics::MetricFamily;
use x402_core::tenancy::access::Access;

/// Requests that failed, or took this long, are logged here. The platform's own log of invocations is off, since it
/// holds URLs, and a URL may hold a key.
const SLOW_MS: u64 = 1_000;
/// The most characters of a user agent that are kept: a person tells browsers apart by it.
const USER_AGENT_MAX: usize = 200;

/// Answers one request.
///
/// # Errors
/// Only where the platform cannot make a response at all.
pub(crate) async fn serve(mut request: Request, env: Env, context: Context) -> worker::Result<web_sys::Response> {
    let now = app::now();
    let request_id = app::request_id(now);
    let url = request.inner().url();
    let UrlTarget { origin: request_origin, path, query } = UrlTarget::of(&url);
    let place = RequestPath::of(path);
    let method = request.inner().method();
    #[cfg(x402_bench)]
    if path.starts_with("/bench/") {
        return super::bench::serve(path, env).await;
    }
    if method == "OPTIONS" {
        let cross_origin = path_cross_origin(&place);
        let reply = headers::preflight_reply(cross_origin);
        return OutgoingResponse::from(reply).into_response(request_id, cross_origin, false);
    }
    let (route, mut counted, mut running) = (find_route(&request, &method, &place), None, None);
    let row = route.as_ref().ok().map(|(row, _)| *row);
    let context = Rc::new(context);
    let outgoing: OutgoingResponse = match App::new(env, request_origin) {
        Ok(app) => {
            let app = Rc::new(app);
            running = Some(Rc::clone(&app));
            let asked = ProblemContext { origin: &app.origin, path: &place.shown, request_id };
            match route {
                Ok(route) => match read_request(&mut request, &app, route, (&place, query), (asked, now)).await {
                    Ok(incoming) => {
                        let is_live = incoming.caller.is_some_and(|caller| caller.environment == Environment::Live);
                        counted = (is_live && incoming.row.endpoint == Endpoint::Verify).then(|| Rc::clone(&app));
                        handlers::dispatch(&app, &context, incoming).await
                    }
                    Err(fault) => Err(fault),
                }
                .unwrap_or_else(|fault| fault_reply(&fault, asked).into()),
                Err((fault, allow)) => {
                    let reply = fault_reply(&fault, asked);
                    if allow.is_empty() { reply } else { reply.with("Allow", allow) }.into()
                }
            }
        }
        Err(fault) => {
            fault_reply(&fault, ProblemContext { origin: request_origin, path: &place.shown, request_id }).into()
        }
    };
    let (status, ms) = (outgoing.status(), app::now().since(now));
    if let Some(app) = counted.filter(|_| status >= 500) {
        faults::count(app, &context, now);
    }
    count_request(row, status);
    if let Some(work) = running.and_then(|app| metering::send_due(app.env(), app::now())) {
        app::after_answer(&context, work);
    }
    // A settlement is slow by its nature: it waits for a block.
    let waits = row.is_some_and(|row| row.endpoint == Endpoint::FacilitatorSettle);
    if status >= 400 || (ms >= SLOW_MS && !waits) {
        let fields = [
            TelemetryField::RequestId(request_id),
            TelemetryField::Method(method.as_str()),
            TelemetryField::Endpoint(row.map(|row| row.path)),
            TelemetryField::Status(status),
            TelemetryField::Took(ms),
        ];
        event(TelemetryKind::Request, &fields);
    }
    let outgoing = if place.key.is_some() { outgoing.always_ok()? } else { outgoing };
    let cross_origin = row.map_or_else(|| path_cross_origin(&place), |row| headers::cross_origin(row.access));
    outgoing.into_response(request_id, cross_origin, method == "HEAD")
}

/// Counts a request by its route and the status of its answer.
fn count_request(row: Option<&RouteRow>, status: u16) {
    let route = row.map_or("none", |row| row.path);
    counts::count(MetricFamily::HttpRequests, &[route, &status.to_string()]);
    if status == 429 {
        counts::count(MetricFamily::RateLimited, &[route]);
    }
}

/// Whether pages of other origins may call a path, where no row of the route table is met.
fn path_cross_origin(place: &RequestPath<'_>) -> CrossOrigin {
    isolate::routes().map_or(CrossOrigin::Refused, |routes| routes.cross_origin(&place.route))
}

/// A refusal, with the methods for `Allow` where the method is wrong.
type RouteRefusal = (Fault, String);

fn without_allow(fault: Fault) -> RouteRefusal {
    (fault, String::new())
}

async fn read_request(
    request: &mut Request,
    app: &App,
    (row, params): (&'static RouteRow, Vec<String>),
    (place, query): (&RequestPath<'_>, &str),
    (asked, now): (ProblemContext<'_>, UnixMillis),
) -> Result<IncomingRequest, Fault> {
    let headers = request.headers();
    let header = |name: &str| headers.get(name).ok().flatten();
    let length = header("content-length").map(|text| text.parse::<u64>().unwrap_or(u64::MAX));
    let max = u64::try_from(row.body_max).unwrap_or(u64::MAX);
    if row.has_body() && length.is_some_and(|length| length > max) {
        return Err(too_large(row));
    }
    let (content_type, content_encoding) = (header("content-type"), header("content-encoding"));
    let takes_key = row.access.key_scope().is_some() || row.access == Access::Metrics;
    let keys = ["authorization", "x-api-key", "x-secret-key"].map(|name| if takes_key { header(name) } else { None });
    let [authorization, api_key, secret_key] = keys.each_ref().map(Option::as_deref);
    let credentials = Credentials { path: place.key.as_deref(), authorization, api_key, secret_key };
    let admin_key = if row.access == Access::Admin { header("x-admin-key") } else { None };
    let user_agent = if row.access == Access::Admin || row.access.reads_cookie() { header("user-agent") } else { None };
    let user_agent = user_agent.map(|text| text.chars().take(USER_AGENT_MAX).collect());
    let client = Client { address: header("cf-connecting-ip"), user_agent };
    let (idempotency_key, last_event_id) = (header("idempotency-key"), header("last-event-id"));
    let settles = row.endpoint == Endpoint::FacilitatorSettle;
    let explain = settles && header("prefer").is_some_and(|prefer| explain::is_preferred(&prefer));
    let signature = signature_headers(row.endpoint, header);
    let body = if row.has_body() { read_body(request, row, length).await? } else { Vec::new() };
    if !body.is_empty() {
        body::check_media_type(content_type.as_deref(), content_encoding.as_deref())?;
    }
    let caller = match row.access {
        Access::Public => None,
        Access::Either | Access::Managed(_) | Access::Analytics(_) if credentials.is_none() => None,
        Access::Admin => {
            operator::check_operator(app, &client, admin_key.as_deref(), now).await?;
            None
        }
        Access::Metrics => {
            operator::check_metrics_reader(app, &client, authorization, now).await?;
            None
        }
        // A forged key is refused here, without I/O.
        Access::Key(_) | Access::Either | Access::Managed(_) | Access::Analytics(_) => {
            Some(credentials.caller(app.settings.peppers())?)
        }
        Access::Session(_) | Access::SignIn => None,
    };
    let visitor = match row.access.reads_cookie() {
        true if caller.is_none() => Some(visitor::read_visitor(request.headers(), row, app, now).await?),
        true | false => None,
    };
    body::text(&body)?;
    Ok(IncomingRequest {
        row,
        params,
        query: query.to_owned(),
        body,
        caller,
        visitor,
        idempotency_key,
        explain,
        is_head: request.inner().method() == "HEAD",
        path: asked.path.to_owned(),
        request_id: asked.request_id,
        now,
        signature,
        last_event_id,
        signal: request.inner().signal(),
        client,
        managing_key: None,
        last_entry: Cell::new(None),
    })
}

fn find_route(
    request: &Request,
    method: &str,
    place: &RequestPath<'_>,
) -> Result<(&'static RouteRow, Vec<String>), RouteRefusal> {
    // A tenant's message that leads to the service, under whichever of its names, would act on it.
    if request.headers().get("user-agent").ok().flatten().is_some_and(|agent| agent == USER_AGENT) {
        return Err(without_allow(Fault::new(ErrorCode::NotFound, "no route takes messages of the service itself")));
    }
    // The path was read from a URL that the platform has put together.
    if request.headers().get("host").ok().flatten().is_some_and(|host| !is_host(&host)) {
        return Err(without_allow(Fault::new(ErrorCode::NotFound, "no such route: the header Host is no host")));
    }
    let routes = isolate::routes().ok_or_else(|| without_allow(Fault::internal("the route table conflicts")))?;
    match routes.find(method, &place.route, place.key.is_some()) {
        Route::Found(row, params) => Ok((row, params)),
        Route::Nowhere => Err(without_allow(Fault::new(ErrorCode::NotFound, "no such route"))),
        Route::OtherMethods(rows) => {
            let allow = allowed_methods(&rows);
            Err((Fault::new(ErrorCode::MethodNotAllowed, format!("this route takes {allow}")), allow))
        }
    }
}

fn too_large(row: &RouteRow) -> Fault {
    Fault::new(ErrorCode::PayloadTooLarge, format!("the body may have {} bytes at most", row.body_max))
}

/// The headers about a webhook's signature; empty on other routes.
fn signature_headers(endpoint: Endpoint, header: impl Fn(&str) -> Option<String>) -> SignatureHeaders {
    let of = |name| header(name).unwrap_or_default();
    if endpoint == Endpoint::ResendWebhook {
        let [id, timestamp, signatures] = ["svix-id", "svix-timestamp", "svix-signature"].map(of);
        SignatureHeaders { id, timestamp, signatures }
    } else if endpoint == Endpoint::StripeWebhook {
        SignatureHeaders { signatures: of("stripe-signature"), ..SignatureHeaders::default() }
    } else {
        SignatureHeaders::default()
    }
}

/// Reads a body; where its length is not given, as a stream that is cut at the limit.
async fn read_body(request: &mut Request, row: &RouteRow, length: Option<u64>) -> Result<Vec<u8>, Fault> {
    let broken = |error: worker::Error| Fault::new(ErrorCode::InvalidJson, "the body could not be read").because(error);
    if length.is_some() {
        return request.bytes().await.map_err(broken);
    }
    let Ok(mut stream) = request.stream() else { return Ok(Vec::new()) };
    let mut body = Vec::new();
    while let Some(chunk) = stream.next().await {
        body.extend(chunk.map_err(broken)?);
        if body.len() > row.body_max {
            return Err(too_large(row));
        }
    }
    Ok(body)
}

//! HTTP requests: the checks that need no tenant, in this order (route, size, media type, key, body), and the line of each
//! request in the log.

use super::{operator, visitor};
use crate::alerts::faults;
use crate::app;
use crate::app::App;
use crate::outbound::USER_AGENT;
use crate::request::{Client, IncomingRequest, fault_reply};
use crate::request_trace::{self, ProviderCall, RequestTrace, scope};
use crate::response::{AnswerHeaders, OutgoingResponse};
use crate::telemetry::{TelemetryField, TelemetryKind, counts, event};
use crate::{handlers, isolate, metering, reporting};
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
use x402_api::server_timing::RequestStep;
use x402_api::target::UrlTarget;
use x402_api::webhooks::SignatureHeaders;
use x402_api::{explain, headers};
use x402_chain::id::RequestId;
use x402_chain::network::Environment;
use x402_chain::time::UnixMillis;
use x402_core::error::{ErrorCode, Fault};
use x402_core::metrics::MetricFamily;
use x402_core::tenancy::access::Access;

/// Requests that took this long are slow. The platform's own log of invocations is off, since it holds URLs, and a URL may
/// hold a key.
const SLOW_MS: u64 = 1_000;
/// The most characters of a user agent that are kept: a person tells browsers apart by it.
const USER_AGENT_MAX: usize = 200;

/// What is known of a request before its body is read.
#[derive(Clone, Copy)]
struct Arrival<'a> {
    place: &'a RequestPath<'a>,
    query: &'a str,
    /// The origin at which the request has found the service.
    origin: &'a str,
    request_id: RequestId,
    now: UnixMillis,
}

/// Answers one request.
///
/// # Errors
/// Only where the platform cannot make a response at all.
pub(crate) async fn serve(mut request: Request, env: Env, context: Context) -> worker::Result<web_sys::Response> {
    let now = app::now();
    let request_id = app::request_id(now);
    let url = request.inner().url();
    let UrlTarget { origin, path, query } = UrlTarget::of(&url);
    let place = RequestPath::of(path);
    let method = request.inner().method();
    #[cfg(x402_bench)]
    if path.starts_with("/bench/") {
        return super::bench::serve(path, env).await;
    }
    let traceparent = request.headers().get("traceparent").ok().flatten();
    let trace = RequestTrace::begin(request_id, now, traceparent.as_deref());
    let app = App::new(env, origin).map(Rc::new);
    // Where the settings cannot be read, all is logged.
    let logs_all = app.as_ref().map_or(true, |app| app.settings.logs_all_requests());
    if method == "OPTIONS" {
        let cross_origin = path_cross_origin(&place);
        let outgoing = OutgoingResponse::from(headers::preflight_reply(cross_origin));
        log_request(&trace, (method.as_str(), None), outgoing.status(), logs_all);
        return outgoing.into_response(request_id, AnswerHeaders { cross_origin, timing: None }, false);
    }
    let route = find_route(&request, &method, &place);
    let row = route.as_ref().ok().map(|(row, _)| *row);
    if let Some(row) = row {
        trace.note_route(row.path);
    }
    let (arrival, context) = (Arrival { place: &place, query, origin, request_id, now }, Rc::new(context));
    let mut is_live = false;
    let answering = answer(&mut request, (&app, &context), route, arrival, &mut is_live);
    let outgoing = scope(&trace, answering).await;
    let status = outgoing.status();
    if let Ok(app) = app {
        if status >= 500 && is_live && row.is_some_and(|row| row.endpoint == Endpoint::Verify) {
            faults::count(Rc::clone(&app), &context, now);
        }
        if let Some(work) = metering::send_due(app.env(), app::now()) {
            app::after_answer(&context, work);
        }
        if let Some(work) = reporting::send_due(app.env()) {
            app::after_answer(&context, work);
        }
    }
    count_request(row, status);
    log_request(&trace, (method.as_str(), row), status, logs_all);
    let timing = trace.server_timing(status);
    let outgoing = if place.key.is_some() { outgoing.always_ok()? } else { outgoing };
    let cross_origin = row.map_or_else(|| path_cross_origin(&place), |row| headers::cross_origin(row.access));
    outgoing.into_response(request_id, AnswerHeaders { cross_origin, timing: timing.as_deref() }, method == "HEAD")
}

/// Answers a request that is no preflight. `is_live` becomes whether its key is one of live.
async fn answer(
    request: &mut Request,
    (app, context): (&Result<Rc<App>, Fault>, &Rc<Context>),
    route: Result<(&'static RouteRow, Vec<String>), RouteRefusal>,
    arrival: Arrival<'_>,
    is_live: &mut bool,
) -> OutgoingResponse {
    let request_id = arrival.request_id;
    let asked = |origin| ProblemContext { origin, path: &arrival.place.shown, request_id };
    let (app, asked) = match app {
        Ok(app) => (app, asked(&app.origin)),
        Err(fault) => return fault_reply(fault, asked(arrival.origin)).into(),
    };
    let route = match route {
        Ok(route) => route,
        Err((fault, allow)) => {
            let reply = fault_reply(&fault, asked);
            return if allow.is_empty() { reply } else { reply.with("Allow", allow) }.into();
        }
    };
    let answered = match read_request(request, app, route, arrival, asked).await {
        Ok(incoming) => {
            note_caller(&incoming);
            *is_live = incoming.caller.is_some_and(|caller| caller.environment == Environment::Live);
            handlers::dispatch(app, context, incoming).await
        }
        Err(fault) => Err(fault),
    };
    answered.unwrap_or_else(|fault| fault_reply(&fault, asked).into())
}

/// Writes the line of a request, unless only those that failed or were slow have one.
fn log_request(trace: &RequestTrace, (method, row): (&str, Option<&'static RouteRow>), status: u16, logs_all: bool) {
    let ms = app::now().since(trace.began);
    // A settlement is slow by its nature: it waits for a block.
    let is_slow = ms >= SLOW_MS && row.is_none_or(|row| row.endpoint != Endpoint::FacilitatorSettle);
    if !logs_all && status < 400 && !is_slow {
        return;
    }
    let mut fields = vec![
        TelemetryField::RequestId(trace.request_id),
        TelemetryField::Trace(trace.trace_id()),
        TelemetryField::Method(method),
        TelemetryField::Endpoint(row.map(|row| row.path)),
        TelemetryField::Status(status),
        TelemetryField::Took(ms),
    ];
    let (outcome, code) = (trace.outcome(), trace.code().filter(|_| status >= 400));
    fields.extend(trace.tenant().map(TelemetryField::Tenant));
    fields.extend(trace.network().map(TelemetryField::Chain));
    fields.extend(outcome.as_deref().map(TelemetryField::Outcome));
    fields.extend(code.as_deref().map(TelemetryField::CodeName));
    fields.extend(trace.steps().into_iter().map(|(step, ms)| TelemetryField::Step(step, ms)));
    if status >= 500 || is_slow {
        fields.extend(asked_providers(trace).map(TelemetryField::Providers));
    }
    event(TelemetryKind::Request, &fields);
}

/// The last providers that a request has asked: since its beginning, which, how that ended, and how long it took.
fn asked_providers(trace: &RequestTrace) -> Option<String> {
    let of = |call: ProviderCall| {
        let ProviderCall { at, network, host, outcome, ms } = call;
        format!("+{} {} {host} {outcome} {ms} ms", at.since(trace.began), network.key)
    };
    let calls: Vec<String> = trace.calls().into_iter().map(of).collect();
    (!calls.is_empty()).then(|| calls.join(" | "))
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
    arrival: Arrival<'_>,
    asked: ProblemContext<'_>,
) -> Result<IncomingRequest, Fault> {
    let Arrival { place, query, now, .. } = arrival;
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
    let checking = if row.access == Access::Public { None } else { request_trace::step(RequestStep::Auth) };
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
    drop(checking);
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

/// Notes who asks: the tenant of a key that is none of a forger's, or of a session.
fn note_caller(incoming: &IncomingRequest) {
    let session = incoming.visitor.as_ref().and_then(|visitor| visitor.session.as_ref());
    let tenant = incoming.caller.map(|caller| caller.tenant).or_else(|| session.map(|session| session.tenant));
    if let (Some(trace), Some(tenant)) = (request_trace::current(), tenant) {
        trace.note_caller(tenant);
    }
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

//! What happens while a request is served: its trace, its steps with their times, the providers that were asked, and what
//! came of it. The answer's `Server-Timing`, the request's log line and reports of errors read it.
//!
//! Code deep below a handler finds it as [`current`]: [`scope`] sets it whenever the request's own future is polled, and takes
//! it away after that, so that requests which the isolate serves at the same time never see each other's. Work that goes on
//! after the answer, and work that several requests share, belongs to none; [`carried`] says otherwise.
//!
//! The platform's clock stands still but for I/O: a step without I/O takes no time.

use crate::app;
use core::future::poll_fn;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;
use x402_api::server_timing::{RequestStep, server_timing, shows_times};
use x402_chain::id::{RequestId, TenantId};
use x402_chain::network::Network;
use x402_chain::time::UnixMillis;
use x402_core::traceparent::{TraceId, TraceParent};

/// The most calls of providers that are kept, the last ones.
const CALLS_MAX: usize = 20;

thread_local! {
    static CURRENT: RefCell<Option<Rc<RequestTrace>>> = const { RefCell::new(None) };
}

/// One request to a provider that has ended.
#[derive(Clone, Debug)]
pub(crate) struct ProviderCall {
    /// When it ended.
    pub(crate) at: UnixMillis,
    /// The network that was asked about.
    pub(crate) network: &'static Network,
    /// The provider's host, without what its URL may hold beside.
    pub(crate) host: String,
    /// How it ended, as `x402_provider_calls_total` counts it.
    pub(crate) outcome: &'static str,
    /// How long it took.
    pub(crate) ms: u64,
}

/// How long a step has taken. Parts of it that run at the same time count once.
#[derive(Default)]
struct StepClock {
    /// How many parts are running.
    running: Cell<u32>,
    /// When the first of them began.
    since: Cell<UnixMillis>,
    /// What has ended; `None` where nothing has begun.
    ms: Cell<Option<u64>>,
}

/// A request while it is served.
pub(crate) struct RequestTrace {
    /// The request's id.
    pub(crate) request_id: RequestId,
    /// When it came.
    pub(crate) began: UnixMillis,
    /// The request's own span.
    parent: TraceParent,
    /// Whether the trace has begun outside.
    is_outside: bool,
    /// How many spans were begun within the request's.
    spans: Cell<u64>,
    clocks: [StepClock; RequestStep::ALL.len()],
    calls: RefCell<VecDeque<ProviderCall>>,
    tenant: Cell<Option<TenantId>>,
    /// Whether the caller has a tenant's key or a session.
    is_caller_known: Cell<bool>,
    network: Cell<Option<&'static Network>>,
    /// The path of the route, with the names of its parameters.
    route: Cell<Option<&'static str>>,
    code: RefCell<Option<String>>,
    outcome: RefCell<Option<String>>,
}

impl RequestTrace {
    /// Begins with a request; `header` is its `traceparent`. A header that is none, or not as the specification says, begins a
    /// trace.
    pub(crate) fn begin(request_id: RequestId, began: UnixMillis, header: Option<&str>) -> Rc<Self> {
        let outside = header.and_then(TraceParent::parse);
        let parent =
            outside.map_or_else(|| TraceParent::of_request(request_id), |outside| outside.with_request(request_id));
        Rc::new(Self {
            request_id,
            began,
            parent,
            is_outside: outside.is_some(),
            spans: Cell::new(0),
            clocks: Default::default(),
            calls: RefCell::default(),
            tenant: Cell::new(None),
            is_caller_known: Cell::new(false),
            network: Cell::new(None),
            route: Cell::new(None),
            code: RefCell::default(),
            outcome: RefCell::default(),
        })
    }

    /// The id of the trace.
    pub(crate) const fn trace_id(&self) -> TraceId {
        self.parent.trace
    }

    /// The request's own span.
    pub(crate) const fn span(&self) -> TraceParent {
        self.parent
    }

    /// A new span within the request's, for a request that it makes.
    pub(crate) fn next_span(&self) -> TraceParent {
        self.spans.set(self.spans.get().saturating_add(1));
        self.parent.child(self.spans.get())
    }

    /// The tenant that asks.
    pub(crate) const fn tenant(&self) -> Option<TenantId> {
        self.tenant.get()
    }

    /// The network that is asked about.
    pub(crate) const fn network(&self) -> Option<&'static Network> {
        self.network.get()
    }

    /// The route that is met.
    pub(crate) const fn route(&self) -> Option<&'static str> {
        self.route.get()
    }

    /// The code of the error that is answered.
    pub(crate) fn code(&self) -> Option<String> {
        self.code.borrow().clone()
    }

    /// What was found about a payment.
    pub(crate) fn outcome(&self) -> Option<String> {
        self.outcome.borrow().clone()
    }

    /// The last calls of providers, the oldest first.
    pub(crate) fn calls(&self) -> Vec<ProviderCall> {
        self.calls.borrow().iter().cloned().collect()
    }

    /// The steps that took place, with their milliseconds so far.
    pub(crate) fn steps(&self) -> Vec<(RequestStep, u64)> {
        let now = app::now();
        let of = |(step, clock): (RequestStep, &StepClock)| {
            let open = if clock.running.get() > 0 { now.since(clock.since.get()) } else { 0 };
            Some((step, clock.ms.get()?.saturating_add(open)))
        };
        RequestStep::ALL.into_iter().zip(&self.clocks).filter_map(of).collect()
    }

    /// The value of the answer's `Server-Timing`, where it shows its times.
    pub(crate) fn server_timing(&self, status: u16) -> Option<String> {
        let steps = || server_timing(&self.steps(), app::now().since(self.began));
        shows_times(status, self.is_caller_known.get()).then(steps)
    }

    /// Notes the route that is met.
    pub(crate) fn note_route(&self, path: &'static str) {
        self.route.set(Some(path));
    }

    /// Notes whose object is asked.
    pub(crate) fn note_tenant(&self, tenant: TenantId) {
        self.tenant.set(Some(tenant));
    }

    /// Notes who asks: a tenant by its key or a session.
    pub(crate) fn note_caller(&self, tenant: TenantId) {
        self.tenant.set(Some(tenant));
        self.is_caller_known.set(true);
    }

    fn clock(&self, step: RequestStep) -> Option<&StepClock> {
        RequestStep::ALL.into_iter().zip(&self.clocks).find(|(own, _)| *own == step).map(|(_, clock)| clock)
    }
}

/// A part of a step, until it is dropped.
pub(crate) struct StepGuard(Rc<RequestTrace>, RequestStep);

impl Drop for StepGuard {
    fn drop(&mut self) {
        let Some(clock) = self.0.clock(self.1) else { return };
        clock.running.set(clock.running.get().saturating_sub(1));
        if clock.running.get() == 0 {
            let ms = clock.ms.get().unwrap_or(0).saturating_add(app::now().since(clock.since.get()));
            clock.ms.set(Some(ms));
        }
    }
}

/// The request that is being served, where one is.
pub(crate) fn current() -> Option<Rc<RequestTrace>> {
    CURRENT.with_borrow(Clone::clone)
}

/// The same in a panic, which may have come at any time.
pub(crate) fn current_in_panic() -> Option<Rc<RequestTrace>> {
    CURRENT.try_with(|current| current.try_borrow().ok().and_then(|current| current.clone())).ok().flatten()
}

/// Begins a part of a step of the current request.
pub(crate) fn step(step: RequestStep) -> Option<StepGuard> {
    let trace = current()?;
    let clock = trace.clock(step)?;
    if clock.running.get() == 0 {
        clock.since.set(app::now());
    }
    clock.running.set(clock.running.get().saturating_add(1));
    clock.ms.set(Some(clock.ms.get().unwrap_or(0)));
    Some(StepGuard(Rc::clone(&trace), step))
}

/// The span of the current request, where a trace from outside goes on with it.
pub(crate) fn outside_span() -> Option<TraceParent> {
    current().filter(|trace| trace.is_outside).map(|trace| trace.span())
}

/// Notes that a provider has answered the current request, or has not.
pub(crate) fn note_call(call: ProviderCall) {
    if let Some(trace) = current() {
        let mut calls = trace.calls.borrow_mut();
        if calls.len() >= CALLS_MAX {
            calls.pop_front();
        }
        calls.push_back(call);
    }
}

/// Notes the network that the current request asks about.
pub(crate) fn note_network(network: &'static Network) {
    if let Some(trace) = current() {
        trace.network.set(Some(network));
    }
}

/// Notes the code of the error that the current request is answered with.
pub(crate) fn note_code(code: &str) {
    if let Some(trace) = current() {
        trace.code.replace(Some(code.to_owned()));
    }
}

/// Notes what was found about the payment of the current request: a name of ours, or of the protocol.
pub(crate) fn note_outcome(outcome: &str) {
    if let Some(trace) = current() {
        trace.outcome.replace(Some(outcome.to_owned()));
    }
}

/// Puts back what was current, also where a poll does not return.
struct Entered(Option<Rc<RequestTrace>>);

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.replace(self.0.take());
    }
}

/// Runs work of a request.
pub(crate) async fn scope<T>(trace: &Rc<RequestTrace>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|context| {
        let _entered = Entered(CURRENT.replace(Some(Rc::clone(trace))));
        work.as_mut().poll(context)
    })
    .await
}

/// Work of the current request that goes on where the request's own future does not.
pub(crate) fn carried<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
    let trace = current();
    async move {
        match trace {
            Some(trace) => scope(&trace, work).await,
            None => work.await,
        }
    }
}

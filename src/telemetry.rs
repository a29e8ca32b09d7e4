//! The one place through which the Worker reports what happened: [`event`] takes a kind of the table below and typed
//! fields, and writes one JSON line. No field may hold a key, a token, a body or an e-mail address: a new one is a variant of
//! [`TelemetryField`] with its own member. Those that take any text (`Cause`, `Failures`, `Words`) are as safe as what is put
//! into them: of an error about JSON only its kind and place ([`x402_core::error::json_place`]), of a provider only its host.
//! `tests/workerd/log.test.mjs` sends a marker to every route and searches the log for it.

#[cfg(target_arch = "wasm32")]
pub(crate) mod counts;
#[cfg(target_arch = "wasm32")]
pub(crate) mod errors;
pub mod sentry;

use serde_json::{Map, Value};
use x402_api::server_timing::RequestStep;
use x402_chain::id::{RequestId, SettlementId, TenantId, VerificationId};
use x402_chain::network::Network;
use x402_chain::time::UnixMillis;
use x402_core::error::{ErrorCode, Fault};
#[cfg(target_arch = "wasm32")]
use x402_core::metrics::MetricFamily;
use x402_core::traceparent::TraceId;

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TelemetryLevel {
    /// It happens in a service that is well.
    Info,
    /// It should not happen: an operator should look into it.
    Error,
}

impl TelemetryLevel {
    /// The name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Error => "error",
        }
    }
}

/// Declares [`TelemetryKind`] from its rows: variant, level, name, documentation.
macro_rules! kinds {
    ($($variant:ident $level:ident $name:literal $doc:literal;)+) => {
        /// Every kind of event. Names are stable: operators filter by them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum TelemetryKind {
            $(#[doc = $doc] $variant,)+
        }

        impl TelemetryKind {
            /// All kinds.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// How much it matters.
            #[must_use]
            pub const fn level(self) -> TelemetryLevel {
                match self { $(Self::$variant => TelemetryLevel::$level,)+ }
            }

            /// The member `message` of its log line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What has happened, in a sentence.
            #[must_use]
            pub const fn doc(self) -> &'static str {
                match self { $(Self::$variant => $doc,)+ }
            }
        }
    };
}

kinds! {
    Request Info "request" "A request was answered; under `REQUEST_LOG=failed` with a status of 400 or more, or slowly.";
    Refused Info "fault" "A request was refused, and the reason has a cause that the caller does not read.";
    Faulted Error "fault" "A request failed for a fault of the service.";
    ProvidersFailed Info "providers failed" "Some providers gave no usable answer about a transaction.";
    ProviderFailed Info "a provider failed" "A provider gave no usable answer about a payment.";
    TransactionRefused Info "a transaction was refused" "A node did not take a signed transaction.";
    PriceAboveCap Info "a gas price would exceed its cap" "Gas costs more than may be paid for a settlement.";
    ThirdPartyUnknown Info "no node reports which transaction used an authorization"
        "Whether somebody else has settled a payment is asked again later.";
    CronDone Info "cron" "A timed job is done.";
    CronFailed Error "cron failed" "A timed job failed.";
    AlarmNotSet Error "an alarm could not be set" "An object's storage did not take its next alarm.";
    LedgerAlarmFailed Error "an alarm's work failed" "A ledger's alarm did not finish its work; it comes back.";
    PaymentNotPolled Error "a payment's finality could not be polled" "It is polled again in a minute.";
    SettlementNotPolled Error "a due settlement could not be checked" "The settlement is checked again later.";
    DeliveryNotReopened Error "a delivery could not be reopened"
        "A caller has gone, and its ledger did not take the success back: the seller takes it by hand.";
    RecordCut Error "a record is shipped with shorter lists" "A record is too large for its object.";
    OutboxEntryUnread Error "an outbox entry cannot be read: it is parked, and tried again later"
        "An entry of the ledger's outbox stays there.";
    RecordsFailed Error "a message to the records failed" "A month's object did not carry a message out.";
    RecordsAlarmFailed Error "an alarm of the records failed" "Totals or the archive of a month wait; it comes back.";
    CourierFailed Error "a message to a courier failed" "A webhook endpoint's object did not carry a message out.";
    CourierAlarmFailed Error "an alarm of a courier failed" "Webhooks of one endpoint wait; it comes back.";
    MessageUnread Error "a message to a webhook endpoint cannot be read" "It is exhausted without an attempt: those behind it go on.";
    SecretLost Error "the secret of a webhook endpoint cannot be opened" "Its messages wait until its owner replaces it, or its pepper is back.";
    CouriersBehind Error "couriers took no events" "Webhooks of one tenant wait in its ledger; they are sent again.";
    WebhookUnread Error "an event that waits for a courier cannot be read" "It is left out: those behind it go on.";
    WebhooksDropped Error "events for a courier were dropped" "More waits for one webhook endpoint than a ledger keeps.";
    EndpointsNotLoaded Error "webhook endpoints could not be loaded" "They get what happens meanwhile once they are.";
    MonthArchived Info "a month is archived" "Its records are in the archive, and its object is empty.";
    MeterFailed Error "a message to a meter failed" "Metrics of one source are not counted; they are sent again.";
    RegistryUnread Error "the results of the registry check could not be read" "The last results stay in force.";
    SettlerFailed Error "a settlement failed" "A Settler did not carry a message out.";
    SettlerAlarmFailed Error "a settler's alarm failed" "A Settler's alarm did not finish its work; it comes back.";
    TurnPartFailed Error "a part of a settler's alarm failed" "The other parts of the alarm's work were done.";
    FlightsNotPolled Error "flights could not be polled" "They are polled again at the next alarm.";
    FlightStuck Error "a flight could not be carried on" "A flight is skipped for a fault; reported once a minute.";
    FlightNotNoted Error "a flight's report could not be marked as delivered" "The ledger has it, and gets it again.";
    FlightsNotPurged Error "expired rows could not be deleted" "They stay until the settler's next alarm.";
    EventsNotShipped Error "events of the directory could not be shipped" "They are shipped again within a minute.";
    DeletionFailed Error "the deletion of a tenant could not go on" "It is tried again within a minute, after those of others.";
    MailNotQueued Error "a mail could not be queued" "It is queued again within two minutes.";
    MailNotSent Error "a mail could not be sent" "It is tried again for a day, as long as its link holds.";
    AlertFailed Error "an alert could not be sent" "It is tried again: notices within a minute, messages four times.";
    AlertGivenUp Error "an alert's message was given up" "Five tries to post it have failed, or its URL cannot be opened.";
    BillingFailed Error "a customer could not be read at Stripe" "It is tried again: by the queue, within five minutes, or at night.";
    BillingDiffers Error "the directory differed from Stripe" "It was brought in line, and operators get a message.";
    CodesStopped Error "too many codes of sign-ins were wrong: no code is compared for the rest of the day"
        "Somebody guesses codes. Links sign in.";
    Panicked Error "panic" "The code has panicked, and its instance of WebAssembly was replaced; what it was doing is lost.";
    SettlementReorged Error "a settlement's block has left the chain" "A settlement is on its way again.";
}

/// One fact about an event.
#[derive(Clone, Debug)]
pub enum TelemetryField<'a> {
    /// `request_id`.
    RequestId(RequestId),
    /// `trace_id`: the trace of a request.
    Trace(TraceId),
    /// `tenant`: who has asked.
    Tenant(TenantId),
    /// `outcome`: what was found about a payment, as its answer says it.
    Outcome(&'a str),
    /// `auth_ms`, `chain_ms`, …: how long a step of a request took.
    Step(RequestStep, u64),
    /// `method`: the HTTP method.
    Method(&'a str),
    /// `endpoint`: the path in the route table, without its parameters' values; `none` where no route was met.
    Endpoint(Option<&'static str>),
    /// `status`: the HTTP status.
    Status(u16),
    /// `ms`: how long it took.
    Took(u64),
    /// `code`: an error code.
    Code(ErrorCode),
    /// `code`: an error code by its name, as an object has sent it.
    CodeName(&'a str),
    /// `cause`: a fault's cause; where it has none, its message for the caller.
    Cause(&'a Fault),
    /// `chain`: our key of a network.
    Chain(&'static Network),
    /// `usable`: whether there was an answer all the same.
    Usable(bool),
    /// `failures`: which providers failed, by host, and how.
    Failures(String),
    /// `providers`: the last providers that a request has asked, with when, and how that ended.
    Providers(String),
    /// `words`: the message of the last node that did not accept a transaction.
    Words(String),
    /// `settlement`.
    Settlement(Option<SettlementId>),
    /// `id`: a verification.
    Verification(Option<VerificationId>),
    /// `key`: a flight, as [`x402_core::settlement::Flight::key`] names it.
    Flight(&'a str),
    /// `at`: a time, milliseconds since 1970.
    At(UnixMillis),
    /// `bytes`: a size.
    Bytes(usize),
    /// `place`: a file of the sources, and a line.
    Place(&'a str),
    /// `cron`: a trigger's pattern.
    Cron(&'a str),
    /// `done`: how many.
    Done(usize),
    /// `seq`: an entry's number in a ledger's outbox.
    Sequence(i64),
}

impl TelemetryField<'_> {
    /// The member of the log line, and its value.
    fn member(&self) -> (&'static str, Value) {
        match self {
            Self::RequestId(id) => ("request_id", id.to_string().into()),
            Self::Trace(id) => ("trace_id", id.to_string().into()),
            Self::Tenant(id) => ("tenant", id.to_string().into()),
            Self::Outcome(outcome) => ("outcome", (*outcome).into()),
            Self::Step(step, ms) => (step.log_member(), (*ms).into()),
            Self::Method(method) => ("method", (*method).into()),
            Self::Endpoint(path) => ("endpoint", path.unwrap_or("none").into()),
            Self::Status(status) => ("status", (*status).into()),
            Self::Took(ms) => ("ms", (*ms).into()),
            Self::Code(code) => ("code", code.as_str().into()),
            Self::CodeName(code) => ("code", (*code).into()),
            Self::Cause(fault) => ("cause", fault.cause().unwrap_or(&fault.detail).into()),
            Self::Chain(network) => ("chain", network.key.into()),
            Self::Usable(usable) => ("usable", (*usable).into()),
            Self::Failures(failures) => ("failures", failures.as_str().into()),
            Self::Providers(calls) => ("providers", calls.as_str().into()),
            Self::Words(words) => ("words", words.as_str().into()),
            Self::Settlement(id) => ("settlement", id.map(|id| id.to_string()).into()),
            Self::Verification(id) => ("id", id.map(|id| id.to_string()).into()),
            Self::Flight(key) => ("key", (*key).into()),
            Self::At(at) => ("at", at.0.into()),
            Self::Bytes(bytes) => ("bytes", (*bytes).into()),
            Self::Place(place) => ("place", (*place).into()),
            Self::Cron(pattern) => ("cron", (*pattern).into()),
            Self::Done(done) => ("done", (*done).into()),
            Self::Sequence(seq) => ("seq", (*seq).into()),
        }
    }
}

/// The log line of an event: a JSON object of `message` and a member for each field.
#[must_use]
pub fn event_line(kind: TelemetryKind, fields: &[TelemetryField<'_>]) -> String {
    let mut line = Map::new();
    line.insert("message".to_owned(), kind.name().into());
    line.extend(fields.iter().map(TelemetryField::member).map(|(name, value)| (name.to_owned(), value)));
    Value::Object(line).to_string()
}

/// Reports an event: writes its line to the log, counts it, and keeps an error for Sentry. A panic keeps itself.
#[cfg(target_arch = "wasm32")]
pub(crate) fn event(kind: TelemetryKind, fields: &[TelemetryField<'_>]) {
    let line = event_line(kind, fields);
    counts::count(MetricFamily::TelemetryEvents, &[kind.level().name(), kind.name()]);
    match kind.level() {
        TelemetryLevel::Info => worker::console_log!("{line}"),
        TelemetryLevel::Error => worker::console_error!("{line}"),
    }
    if kind.level() == TelemetryLevel::Error && kind != TelemetryKind::Panicked {
        errors::note(kind, fields);
    }
}

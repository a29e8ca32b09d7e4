//! The platform's events: each is passed to the module that handles it.

#[cfg(x402_bench)]
mod bench;
mod cron;
mod http;
mod operator;
mod queue;
mod visitor;

use crate::platform::{microtasks, panics};
use crate::reporting;
use crate::telemetry::errors;
use worker::{Context, Env, MessageBatch, Request, ScheduleContext, ScheduledEvent, event, web_sys};

/// Runs once an isolate, before any request.
#[event(start)]
fn start() {
    microtasks::use_v8_microtasks();
    errors::watch_panics();
    panics::report_by(|env, text| Box::pin(reporting::report_panic(env, text)));
}

/// The platform calls this for every HTTP request.
#[event(fetch)]
async fn fetch(request: Request, env: Env, context: Context) -> worker::Result<web_sys::Response> {
    http::serve(request, env, context).await
}

/// The platform calls this for every cron trigger of `wrangler.toml`.
#[event(scheduled)]
async fn scheduled(event: ScheduledEvent, env: Env, _context: ScheduleContext) {
    cron::run_trigger(&event.cron(), env).await;
}

/// The platform calls this for every batch of the queue of mails.
#[event(queue)]
async fn queue(batch: MessageBatch<()>, env: Env, _context: Context) -> worker::Result<()> {
    queue::take(batch, env).await;
    Ok(())
}

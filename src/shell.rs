//! The only I/O: moves bytes between the core and the platform.

mod app;
#[cfg(x402_bench)]
mod bench;
mod chain;
mod cron;
mod directory;
mod external;
mod gas;
mod handle;
mod health;
mod holds;
mod http;
mod isolate;
mod ledger;
mod ledgers;
mod log;
mod quotes;
mod registry;
mod response;
mod rpc;
mod settler;
mod settlers;
mod sqlite;
mod tick;

use worker::{Context, Env, Request, ScheduleContext, ScheduledEvent, event, web_sys};

/// Once an isolate, before any request.
#[event(start)]
fn start() {
    tick::stay_in_v8();
}

/// Every HTTP request.
#[event(fetch)]
async fn fetch(request: Request, env: Env, context: Context) -> worker::Result<web_sys::Response> {
    http::serve(request, env, context).await
}

/// Every timed event of `wrangler.toml`.
#[event(scheduled)]
async fn scheduled(event: ScheduledEvent, env: Env, _context: ScheduleContext) {
    cron::run(&event.cron(), env).await;
}

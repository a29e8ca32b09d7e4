//! What the alarms of objects share.

use crate::app;
use std::cell::Cell;
use std::time::Duration;
use worker::Delay;
use x402_chain::time::UnixMillis;
use x402_core::alarm::pause_ms;

/// An alarm's work in pieces, with pauses in which requests are served. A timer is needed for that: calls to other objects
/// of the same process alone let no request in.
pub(crate) struct PacedWork {
    /// When the last pause ended.
    since: UnixMillis,
}

impl PacedWork {
    pub(crate) fn begin() -> Self {
        Self { since: app::now() }
    }

    /// Pauses where that is due, after a piece of work that has awaited something: the platform's clock stands still
    /// while nothing is awaited.
    pub(crate) async fn pause_if_due(&mut self) {
        if let Some(ms) = pause_ms(app::now().since(self.since)) {
            Delay::from(Duration::from_millis(ms)).await;
            self.since = app::now();
        }
    }

    /// Pauses after a piece of work that has awaited nothing.
    pub(crate) async fn pause(&mut self) {
        Delay::from(Duration::from_millis(1)).await;
        self.since = app::now();
    }
}

/// Counts pieces of an object's work that are not over.
#[derive(Default)]
pub(crate) struct Working(Cell<u32>);

/// A piece of work, until it is dropped.
pub(crate) struct WorkGuard<'a>(&'a Working);

impl Working {
    /// Begins a piece of work.
    pub(crate) fn begin(&self) -> WorkGuard<'_> {
        self.0.set(self.0.get().saturating_add(1));
        WorkGuard(self)
    }

    pub(crate) const fn is_busy(&self) -> bool {
        self.0.get() > 0
    }
}

impl Drop for WorkGuard<'_> {
    fn drop(&mut self) {
        self.0.0.set(self.0.0.get().saturating_sub(1));
    }
}

//! The exports that run in the isolate. Each holds up to some 20 MiB of the isolate's 128, so that they are few.

use std::cell::{Cell, RefCell};
use x402_chain::id::TenantId;
use x402_chain::time::UnixMillis;

/// The most exports at a time.
const ALL_MAX: usize = 3;
/// The most of one tenant at a time.
const TENANT_MAX: usize = 2;
/// An export of which nothing was read for so long gives its place up to another that begins.
const IDLE_MS: u64 = 60_000;

/// An export that runs.
struct RunningExport {
    number: u64,
    tenant: TenantId,
    read_at: UnixMillis,
}

thread_local! {
    static RUNNING: RefCell<Vec<RunningExport>> = const { RefCell::new(Vec::new()) };
    static LAST: Cell<u64> = const { Cell::new(0) };
}

/// A place among the exports that run, until it is dropped.
pub(crate) struct ExportPlace {
    number: u64,
}

impl ExportPlace {
    /// A place for another export of a tenant; `None` where too many run.
    pub(crate) fn take(tenant: TenantId, now: UnixMillis) -> Option<Self> {
        RUNNING.with_borrow_mut(|running| {
            let own = running.iter().filter(|export| export.tenant == tenant).count();
            if running.len() >= ALL_MAX || own >= TENANT_MAX {
                running.retain(|export| now.since(export.read_at) < IDLE_MS);
            }
            let own = running.iter().filter(|export| export.tenant == tenant).count();
            if running.len() >= ALL_MAX || own >= TENANT_MAX {
                return None;
            }
            let number = LAST.get().wrapping_add(1);
            LAST.set(number);
            running.push(RunningExport { number, tenant, read_at: now });
            Some(Self { number })
        })
    }

    /// Notes that the export is read; whether it still has its place.
    pub(crate) fn is_held(&self, now: UnixMillis) -> bool {
        RUNNING.with_borrow_mut(|running| {
            let own = running.iter_mut().find(|export| export.number == self.number);
            own.map(|export| export.read_at = now).is_some()
        })
    }
}

impl Drop for ExportPlace {
    fn drop(&mut self) {
        RUNNING.with_borrow_mut(|running| running.retain(|export| export.number != self.number));
    }
}

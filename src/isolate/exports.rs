//! The exports that run in the isolate. Each holds up to some 10 MiB of the isolate's 128, so that they are few.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
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
    /// When the client asked for more of it last.
    asked_at: Rc<Cell<UnixMillis>>,
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
    /// A place for another export of a tenant; `None` where too many run. `asked_at` says when its client asked for more last.
    pub(crate) fn take(tenant: TenantId, asked_at: Rc<Cell<UnixMillis>>, now: UnixMillis) -> Option<Self> {
        RUNNING.with_borrow_mut(|running| {
            let own = running.iter().filter(|export| export.tenant == tenant).count();
            if running.len() >= ALL_MAX || own >= TENANT_MAX {
                running.retain(|export| now.since(export.asked_at.get()) < IDLE_MS);
            }
            let own = running.iter().filter(|export| export.tenant == tenant).count();
            if running.len() >= ALL_MAX || own >= TENANT_MAX {
                return None;
            }
            let number = LAST.get().wrapping_add(1);
            LAST.set(number);
            running.push(RunningExport { number, tenant, asked_at });
            Some(Self { number })
        })
    }

    /// Whether the export still has its place.
    pub(crate) fn is_held(&self) -> bool {
        RUNNING.with_borrow(|running| running.iter().any(|export| export.number == self.number))
    }
}

impl Drop for ExportPlace {
    fn drop(&mut self) {
        RUNNING.with_borrow_mut(|running| running.retain(|export| export.number != self.number));
    }
}

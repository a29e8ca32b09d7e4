//! The exports that run in the isolate. Each holds up to some 10 MiB of the isolate's 128, so that they are few.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use x402_chain::id::TenantId;
use x402_chain::time::UnixMillis;
use x402_core::records::places::{HeldPlace, places_given_up};

/// An export that runs.
struct RunningExport {
    number: u64,
    tenant: TenantId,
    began_at: UnixMillis,
    /// When the client asked for more of it last.
    asked_at: Rc<Cell<UnixMillis>>,
}

impl RunningExport {
    fn place(&self) -> HeldPlace {
        let Self { number, tenant, began_at, ref asked_at } = *self;
        HeldPlace { number, tenant, began_at, asked_at: asked_at.get() }
    }
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
            let held: Vec<HeldPlace> = running.iter().map(RunningExport::place).collect();
            let given_up = places_given_up(&held, tenant, now)?;
            running.retain(|export| !given_up.contains(&export.number));
            let number = LAST.get().wrapping_add(1);
            LAST.set(number);
            running.push(RunningExport { number, tenant, began_at: now, asked_at });
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

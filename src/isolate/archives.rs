//! Files of the archive that readers of the isolate share: lists, exports and streams. A file is up to 8 MiB of text, so that
//! few are held, and one is read at a time, however many readers there are.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use x402_chain::time::UnixMillis;

/// The most bytes of the files that are held: of three readers, or of one that reads records and events.
const BYTES_MAX: usize = 25_165_824;
/// How long a file may take to be read. After that another is read beside it: the request that reads it may have been cut off.
pub(crate) const LOADING_MS: u64 = 15_000;

thread_local! {
    /// By their keys, which name the tenant; the one that was read last at the end.
    static HELD: RefCell<VecDeque<(String, Rc<String>)>> = const { RefCell::new(VecDeque::new()) };
    static READERS: Cell<u32> = const { Cell::new(0) };
    static LOADING: Cell<Option<UnixMillis>> = const { Cell::new(None) };
}

/// Counts a reader.
pub(crate) fn begin_reading() {
    READERS.set(READERS.get().saturating_add(1));
}

/// Counts a reader less; after the last one nothing is held.
pub(crate) fn end_reading() {
    READERS.set(READERS.get().saturating_sub(1));
    if READERS.get() == 0 {
        HELD.take();
    }
}

/// The text of a file that is held.
pub(crate) fn held(key: &str) -> Option<Rc<String>> {
    HELD.with_borrow_mut(|held| {
        let at = held.iter().position(|(own, _)| own == key)?;
        let file = held.remove(at)?;
        let text = Rc::clone(&file.1);
        held.push_back(file);
        Some(text)
    })
}

/// Drops files until one of so many bytes fits.
pub(crate) fn make_room(bytes: usize) {
    HELD.with_borrow_mut(|held| {
        let sum = |held: &VecDeque<(String, Rc<String>)>| {
            held.iter().fold(bytes, |sum, (_, text)| sum.saturating_add(text.len()))
        };
        while sum(held) > BYTES_MAX && held.pop_front().is_some() {}
    });
}

/// Holds a file.
pub(crate) fn hold(key: String, text: Rc<String>) {
    make_room(text.len());
    HELD.with_borrow_mut(|held| held.push_back((key, text)));
}

/// The reading of a file, until it is dropped.
pub(crate) struct Loading(UnixMillis);

impl Loading {
    /// Begins to read a file; `None` while another is read.
    pub(crate) fn begin(now: UnixMillis) -> Option<Self> {
        if LOADING.get().is_some_and(|at| now.since(at) < LOADING_MS) {
            return None;
        }
        LOADING.set(Some(now));
        Some(Self(now))
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        // Another may have begun since.
        if LOADING.get() == Some(self.0) {
            LOADING.set(None);
        }
    }
}

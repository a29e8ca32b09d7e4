//! Turns of an object's work that come one after the other, although others of its work goes on between their awaits.

use futures_channel::oneshot;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

/// Lets one turn go on at a time, in the order in which they came.
#[derive(Default)]
pub(crate) struct Turns {
    is_taken: Cell<bool>,
    waiting: RefCell<VecDeque<oneshot::Sender<()>>>,
}

/// A turn, until it is dropped.
pub(crate) struct Turn<'a>(&'a Turns);

impl Turns {
    /// Waits for its turn.
    pub(crate) async fn take(&self) -> Turn<'_> {
        if self.is_taken.replace(true) {
            let (next, own) = oneshot::channel();
            self.waiting.borrow_mut().push_back(next);
            // What was passed on stays taken. None is dropped without being used: the queue lives as long as this waits.
            let _ = own.await;
        }
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // One that has gone away takes no turn.
        while let Some(next) = self.0.waiting.borrow_mut().pop_front() {
            if next.send(()).is_ok() {
                return;
            }
        }
        self.0.is_taken.set(false);
    }
}

//! Whether an endpoint was changed since it was read: a change may be reported while the directory is being read, whose answer may
//! then be that of before.

use core::cell::Cell;

/// The changes of an endpoint that were reported to its object, and those that it has read.
#[derive(Debug, Default)]
pub struct ReportedChanges {
    reported: Cell<u64>,
    /// Those that were reported when the directory was last asked.
    asked: Cell<u64>,
    /// Those that were reported when it was last asked and has answered.
    read: Cell<u64>,
}

/// A question to the directory that is under way.
#[derive(Debug)]
pub struct AskedChanges(u64);

impl ReportedChanges {
    /// Notes that the endpoint was changed.
    pub fn note(&self) {
        self.reported.set(self.reported.get().saturating_add(1));
    }

    /// Begins to read the endpoint.
    pub fn ask(&self) -> AskedChanges {
        self.asked.set(self.reported.get());
        AskedChanges(self.reported.get())
    }

    /// Notes that it was read.
    pub fn note_read(&self, asked: &AskedChanges) {
        self.read.set(asked.0);
    }

    /// Whether it was changed since it was read.
    #[must_use]
    pub const fn is_stale(&self) -> bool {
        self.reported.get() != self.read.get()
    }

    /// Whether it was changed since anybody has asked, with or without an answer.
    #[must_use]
    pub const fn is_unasked(&self) -> bool {
        self.reported.get() != self.asked.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_is_reported_while_the_endpoint_is_read_is_read_again() {
        let changes = ReportedChanges::default();
        assert!(!changes.is_stale() && !changes.is_unasked());
        changes.note();
        assert!(changes.is_stale() && changes.is_unasked());
        let asked = changes.ask();
        changes.note();
        changes.note_read(&asked);
        assert!(changes.is_stale() && changes.is_unasked());
        let asked = changes.ask();
        changes.note_read(&asked);
        assert!(!changes.is_stale() && !changes.is_unasked());
    }

    #[test]
    fn a_question_without_an_answer_leaves_it_stale_and_is_not_asked_again_at_once() {
        let changes = ReportedChanges::default();
        changes.note();
        let _ = changes.ask();
        assert!(changes.is_stale() && !changes.is_unasked());
    }
}

//! Which requests have a line in the log.

use super::{Setting, Settings};

const REQUEST_LOG: &str = "REQUEST_LOG";
const ALL: &str = "all";
const FAILED: &str = "failed";

/// The row of `REQUEST_LOG`.
pub(super) const ROW: Setting = Setting {
    name: REQUEST_LOG,
    secret: false,
    required: false,
    default: ALL,
    meaning: "Which requests have a line in the log: `all`, or `failed`: those answered with a status of 400 or more, or \
              after a second.",
};

/// Whether every request has a line.
pub(super) fn read(get: &impl Fn(&str) -> Option<String>, wrong: &mut impl FnMut(&str, &'static str)) -> bool {
    match get(REQUEST_LOG).as_deref() {
        None | Some(ALL) => true,
        Some(FAILED) => false,
        Some(_) => {
            wrong(REQUEST_LOG, "must be 'all' or 'failed'");
            true
        }
    }
}

impl Settings {
    /// Whether every request has a line in the log; otherwise those that failed or were slow.
    #[must_use]
    pub const fn logs_all_requests(&self) -> bool {
        self.logs_all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_has_a_line_unless_it_is_switched_off() {
        for (value, is_all, is_wrong) in
            [(None, true, false), (Some(ALL), true, false), (Some(FAILED), false, false), (Some("none"), true, true)]
        {
            let mut mistakes = Vec::new();
            let found = read(&|_| value.map(str::to_owned), &mut |name: &str, _| mistakes.push(name.to_owned()));
            assert_eq!((found, !mistakes.is_empty()), (is_all, is_wrong), "{value:?}");
        }
    }
}

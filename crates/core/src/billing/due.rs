//! What is due by time alone: the mail before a trial's end, the mails after a failed charge, and the end of its grace.

use super::state::{BillingState, GRACE_MS};
use super::subscription::SubscriptionStatus;
use x402_chain::time::{DAY_MS, UnixMillis};

/// How long before its end a trial is announced to end.
const TRIAL_NOTICE_MS: u64 = 3 * DAY_MS;
/// When mails are sent after a failed charge.
const PAST_DUE_NOTICES_MS: [u64; 3] = [0, 3 * DAY_MS, 6 * DAY_MS];

/// Something that is due at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DueStep {
    /// A mail: the trial ends then.
    TrialEnds(UnixMillis),
    /// A mail: a charge has failed; the tier is lost then.
    PaymentFailed(UnixMillis),
    /// The end of the grace: the tier of who pays nothing.
    GraceEnds,
}

/// A step, when it is due, and the mark that is stored when it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// The step.
    pub step: DueStep,
    /// When.
    pub at: UnixMillis,
    /// What is stored as `done`.
    pub mark: String,
}

/// The next step; `None`: nothing is due by time. `done` is the mark of the last one that was taken.
#[must_use]
pub fn next_due(state: Option<&BillingState>, past_due_since: Option<UnixMillis>, done: Option<&str>) -> Option<Due> {
    let state = state?;
    match (state.status, state.trial_end, past_due_since) {
        (SubscriptionStatus::Trialing, Some(end), _) if state.cancel_at.is_none() => {
            let mark = format!("trial {}", end.0);
            let at = UnixMillis(end.0.saturating_sub(TRIAL_NOTICE_MS));
            (done != Some(&mark)).then_some(Due { step: DueStep::TrialEnds(end), at, mark })
        }
        (SubscriptionStatus::PastDue, _, Some(since)) => {
            let prefix = format!("past_due {} ", since.0);
            let taken = done.and_then(|done| done.strip_prefix(&prefix)).and_then(|at| at.parse::<usize>().ok());
            let next = taken.map_or(0, |taken| taken.saturating_add(1));
            let end = since.plus(GRACE_MS);
            let (step, at) = match PAST_DUE_NOTICES_MS.get(next) {
                Some(ms) => (DueStep::PaymentFailed(end), since.plus(*ms)),
                None if next == PAST_DUE_NOTICES_MS.len() => (DueStep::GraceEnds, end),
                None => return None,
            };
            Some(Due { step, at, mark: format!("{prefix}{next}") })
        }
        _ => None,
    }
}

/// The step to take now, or the next one later. Of several that are due, as after hours in which no job ran, the last is taken: the
/// mails of the others would come with it, and say what is past.
#[must_use]
pub fn due_by(
    state: Option<&BillingState>,
    past_due_since: Option<UnixMillis>,
    done: Option<&str>,
    now: UnixMillis,
) -> Option<Due> {
    let mut step = next_due(state, past_due_since, done)?;
    while let Some(later) = next_due(state, past_due_since, Some(&step.mark)).filter(|later| later.at <= now) {
        step = later;
    }
    Some(step)
}

#[cfg(test)]
mod tests {
    use super::super::subscription::tests::{one, raw};
    use super::*;
    use serde_json::json;

    const START: UnixMillis = UnixMillis(1_795_910_400_000);

    /// All steps, each taken at its time: in days from the start.
    fn steps(state: &BillingState, since: Option<UnixMillis>) -> Vec<(DueStep, u64)> {
        let (mut done, mut all) = (None, Vec::new());
        while let Some(due) = next_due(Some(state), since, done.as_deref()) {
            all.push((due.step, due.at.since(START) / DAY_MS));
            done = Some(due.mark);
            assert!(all.len() < 10, "{all:?}");
        }
        all
    }

    #[test]
    fn a_trial_is_announced_three_days_before_its_end() {
        let mut body = raw("sub_1", "trialing", "pro");
        let end = START.plus(7 * DAY_MS);
        body["trial_end"] = json!(end.seconds());
        let state = BillingState::from(&one(&body));
        assert_eq!(steps(&state, None), [(DueStep::TrialEnds(end), 4)]);
        let ending = BillingState { cancel_at: Some(end), ..state.clone() };
        assert_eq!(steps(&ending, None), [], "who has cancelled knows");
        // A trial that was made longer is announced again.
        let longer = BillingState { trial_end: Some(end.plus(DAY_MS)), ..state };
        assert!(next_due(Some(&longer), None, Some(&format!("trial {}", end.0))).is_some());
    }

    #[test]
    fn of_steps_that_are_late_the_last_is_taken() {
        let state = BillingState::from(&one(&raw("sub_1", "past_due", "pro")));
        let failed = DueStep::PaymentFailed(START.plus(GRACE_MS));
        let taken = |done: Option<&str>, days: u64| {
            let due = due_by(Some(&state), Some(START), done, START.plus(days * DAY_MS)).expect("a step");
            (due.step, due.at.since(START) / DAY_MS, due.mark.rsplit(' ').next().map(str::to_owned))
        };
        let number = |text: &str| Some(text.to_owned());
        assert_eq!(taken(None, 0), (failed, 0, number("0")));
        assert_eq!(taken(None, 4), (failed, 3, number("1")));
        assert_eq!(taken(None, 6), (failed, 6, number("2")));
        assert_eq!(taken(None, 9), (DueStep::GraceEnds, 7, number("3")), "no mail says that nothing has changed");
        // What is still to come stays so.
        assert_eq!(taken(Some(&format!("past_due {} 0", START.0)), 1), (failed, 3, number("1")));
        assert_eq!(due_by(None, None, None, START), None);
    }

    #[test]
    fn a_failed_charge_is_announced_three_times_and_then_ends_the_tier() {
        let state = BillingState::from(&one(&raw("sub_1", "past_due", "pro")));
        let (failed, end) = (DueStep::PaymentFailed(START.plus(GRACE_MS)), DueStep::GraceEnds);
        assert_eq!(steps(&state, Some(START)), [(failed, 0), (failed, 3), (failed, 6), (end, 7)]);
        // The next failure begins anew.
        let next = next_due(Some(&state), Some(START.plus(1)), Some(&format!("past_due {} 3", START.0)));
        assert_eq!(next.map(|due| due.step), Some(DueStep::PaymentFailed(START.plus(GRACE_MS + 1))));
        assert_eq!(next_due(Some(&state), None, None), None);
        let paid = BillingState::from(&one(&raw("sub_1", "active", "pro")));
        assert_eq!(next_due(Some(&paid), None, None), None);
        assert_eq!(next_due(None, None, None), None);
    }
}

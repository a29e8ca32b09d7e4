//! What operators are alerted to. A check finds something wrong, well, or cannot find out; an alert begins, lasts and ends,
//! and a line is sent when it begins, once a day while it lasts, and when it ends.

use x402_chain::time::{DAY_MS, UnixMillis};

/// Declares [`OperatorAlert`] from its rows: variant, name, how long it lasts before it begins, documentation.
macro_rules! operator_alerts {
    ($($variant:ident $name:literal $wait:literal $doc:literal;)+) => {
        /// A kind of alert.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum OperatorAlert {
            $(#[doc = $doc] $variant,)+
        }

        impl OperatorAlert {
            /// All kinds.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name in JSON.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What is wrong, one sentence.
            #[must_use]
            pub const fn doc(self) -> &'static str {
                match self { $(Self::$variant => $doc,)+ }
            }

            /// How long it must have been found in each check before a line is sent, milliseconds.
            const fn wait_ms(self) -> u64 {
                match self { $(Self::$variant => $wait,)+ }
            }

            /// The kind with this name; `None` for any other text.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|kind| kind.name() == text)
            }
        }
    };
}

operator_alerts! {
    ErrorRate "error_rate" 0 "Too many verifications of the last full hour failed for a fault of the service or of nodes.";
    ChainUnreachable "chain_unreachable" 600_000 "No provider of the chain has reported its newest block for ten minutes.";
    SignerLow "signer_low" 0 "A signer can pay for few more transactions.";
    UnknownPrice "unknown_price" 0 "A tenant's subscription has a price that is not of the table of tiers: its tier is left as it is.";
    SecretsLost "secrets_lost" 0 "Secrets of webhook endpoints cannot be opened, since a pepper was taken away: their messages wait.";
    LedgerLost "ledger_lost" 0 "A tenant's ledger has lost its storage: it refuses all requests until it is rebuilt.";
    SanctionsStale "sanctions_stale" 0 "The sanctions list is old, or could not be read.";
}

/// What a check has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Something is wrong; what, in a few words.
    Wrong(String),
    /// Nothing is.
    Well,
    /// That could not be found out: an alert that has begun lasts.
    Unknown,
}

/// A check: the kind, which chain or signer (empty where there is but one), and what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The kind of alert.
    pub kind: OperatorAlert,
    /// A chain's key, or chain and signer, as `base 0x…`.
    pub subject: String,
    /// What was found.
    pub finding: Finding,
}

/// Something that was wrong at the last check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptAlert {
    /// The kind.
    pub kind: OperatorAlert,
    /// As in [`Check`].
    pub subject: String,
    /// What was found when a line was sent last, or first.
    pub detail: String,
    /// Since when it was found in each check.
    pub first: UnixMillis,
    /// When it began: a line was sent. `None`: it has not lasted long enough.
    pub began: Option<UnixMillis>,
    /// When a line about it was sent last.
    pub notified: Option<UnixMillis>,
}

/// What follows a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlertStep {
    /// Nothing.
    Nothing,
    /// The alert is stored; a line of it is sent, if there is one.
    Keep(KeptAlert, Option<String>),
    /// The alert is removed; a line of it is sent, if it had begun.
    End(Option<String>),
}

/// What follows a check of what is kept of the same kind and subject.
#[must_use]
pub fn step(kept: Option<&KeptAlert>, check: &Check, now: UnixMillis) -> AlertStep {
    let name = match check.subject.as_str() {
        "" => check.kind.name().to_owned(),
        subject => format!("{} {subject}", check.kind.name()),
    };
    match (&check.finding, kept) {
        (Finding::Wrong(detail), None) => {
            let is_begun = check.kind.wait_ms() == 0;
            let began = is_begun.then_some(now);
            let (kind, subject, detail) = (check.kind, check.subject.clone(), detail.clone());
            let line = is_begun.then(|| format!("Begins: {name}: {detail}"));
            AlertStep::Keep(KeptAlert { kind, subject, detail, first: now, began, notified: began }, line)
        }
        (Finding::Wrong(detail), Some(kept)) => {
            let line = match (kept.began, kept.notified) {
                (None, _) if now.since(kept.first) >= kept.kind.wait_ms() => format!("Begins: {name}: {detail}"),
                (Some(began), Some(notified)) if now.since(notified) >= DAY_MS => {
                    format!("Lasts since {}: {name}: {detail}", began.rfc3339())
                }
                _ => return AlertStep::Nothing,
            };
            let (began, notified) = (Some(kept.began.unwrap_or(now)), Some(now));
            AlertStep::Keep(KeptAlert { detail: detail.clone(), began, notified, ..kept.clone() }, Some(line))
        }
        (Finding::Well, Some(kept)) => {
            AlertStep::End(kept.began.map(|began| format!("Ended: {name} (began {})", began.rfc3339())))
        }
        (Finding::Well, None) | (Finding::Unknown, _) => AlertStep::Nothing,
    }
}

/// The title of what operators are sent.
pub const OPERATORS_TITLE: &str = "x402-edge: an alert for operators";

/// Fewer faults of an hour than this are no alert.
const FAULTS_MIN: u64 = 10;
/// The share of verifications that fail from which on it is an alert, percent.
const FAULTS_PERCENT: u64 = 5;

/// Checks the verifications of an hour: those that failed with a status of 500 or more, and those that were answered.
#[must_use]
pub fn check_error_rate(hour: UnixMillis, faults: u64, answered: u64) -> Finding {
    let all = faults.saturating_add(answered);
    if faults < FAULTS_MIN || faults.saturating_mul(100) < all.saturating_mul(FAULTS_PERCENT) {
        return Finding::Well;
    }
    Finding::Wrong(format!("{faults} of {all} verifications failed in the hour from {}", hour.rfc3339()))
}

/// For how many transactions at the chain's highest price a signer's balance must suffice.
const TRANSACTIONS_MIN: u128 = 10;

/// Checks a signer's balance against the cost of one transaction at the chain's highest price, both in the coin's smallest
/// unit. A signer that holds nothing is not used on the chain, and is no alert.
#[must_use]
pub fn check_balance(held: Option<u128>, one: u128) -> Finding {
    match held {
        None => Finding::Unknown,
        Some(0) => Finding::Well,
        Some(held) if held >= one.saturating_mul(TRANSACTIONS_MIN) => Finding::Well,
        Some(held) => {
            let left = held.checked_div(one).unwrap_or_default();
            Finding::Wrong(format!("it can pay for {left} more transactions at the highest price, and holds {held}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_795_910_400_000);
    const MINUTE: u64 = 60_000;

    fn check(kind: OperatorAlert, finding: Finding) -> Check {
        Check { kind, subject: "base".to_owned(), finding }
    }

    /// Runs checks at times after the start, and answers the lines that were sent.
    fn run(kind: OperatorAlert, findings: &[(u64, Finding)]) -> Vec<(u64, String)> {
        let (mut kept, mut lines) = (None, Vec::new());
        for (after, finding) in findings {
            let now = NOW.plus(*after);
            let line = match step(kept.as_ref(), &check(kind, finding.clone()), now) {
                AlertStep::Nothing => None,
                AlertStep::Keep(next, line) => {
                    kept = Some(next);
                    line
                }
                AlertStep::End(line) => {
                    kept = None;
                    line
                }
            };
            lines.extend(line.map(|line| (*after, line.split(':').next().expect("text").to_owned())));
        }
        lines
    }

    fn sent(lines: &[(u64, &str)]) -> Vec<(u64, String)> {
        lines.iter().map(|(at, line)| (*at, (*line).to_owned())).collect()
    }

    #[test]
    fn an_alert_begins_lasts_and_ends() {
        let wrong = || Finding::Wrong("x".to_owned());
        let day: Vec<_> = (0..300).map(|at| (at * 5 * MINUTE, wrong())).collect();
        let since = "Lasts since 2026-11-29T00";
        assert_eq!(run(OperatorAlert::SignerLow, &day), sent(&[(0, "Begins"), (DAY_MS, since)]));
        let ended = [(0, wrong()), (MINUTE, Finding::Unknown), (2 * MINUTE, wrong()), (3 * MINUTE, Finding::Well)];
        let lines = run(OperatorAlert::SanctionsStale, &ended);
        assert_eq!(lines.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 3 * MINUTE]);
        assert!(lines.iter().any(|(_, line)| line.starts_with("Ended")), "{lines:?}");
    }

    #[test]
    fn a_chain_is_unreachable_after_ten_minutes() {
        let wrong = || Finding::Wrong("x".to_owned());
        let long = [(0, wrong()), (5 * MINUTE, wrong()), (10 * MINUTE, wrong()), (15 * MINUTE, wrong())];
        assert_eq!(run(OperatorAlert::ChainUnreachable, &long), sent(&[(10 * MINUTE, "Begins")]));
        // One answer in between begins the time anew, and nothing was sent, so that nothing ends.
        let flapping =
            [(0, wrong()), (5 * MINUTE, Finding::Well), (10 * MINUTE, wrong()), (15 * MINUTE, Finding::Well)];
        assert_eq!(run(OperatorAlert::ChainUnreachable, &flapping), []);
    }

    #[test]
    fn two_requests_are_no_rate() {
        let is_wrong = |faults, answered| matches!(check_error_rate(NOW, faults, answered), Finding::Wrong(_));
        assert_eq!(
            [(9, 0), (10, 0), (10, 190), (10, 191), (0, 0)].map(|(a, b)| is_wrong(a, b)),
            [false, true, true, false, false]
        );
    }

    #[test]
    fn a_balance_is_low_before_it_is_too_low() {
        for (held, finding) in [
            (None, Some(Finding::Unknown)),
            (Some(0), Some(Finding::Well)),
            (Some(1), None),
            (Some(999), None),
            (Some(1_000), Some(Finding::Well)),
        ] {
            let found = check_balance(held, 100);
            assert_eq!(matches!(found, Finding::Wrong(_)), finding.is_none(), "{held:?}");
            assert!(finding.is_none_or(|finding| finding == found), "{held:?}");
        }
    }

    #[test]
    fn kinds_have_names_of_their_own() {
        for kind in OperatorAlert::ALL {
            assert_eq!(OperatorAlert::parse(kind.name()), Some(*kind));
            assert!(kind.doc().ends_with('.'));
        }
        assert_eq!(OperatorAlert::parse("error"), None);
    }
}

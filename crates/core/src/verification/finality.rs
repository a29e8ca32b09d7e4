//! A verified payment is polled until its chain calls it final: what a later trace changes in its record, and when the
//! next poll is due.

use crate::event::EventKind;
use crate::verification::answer::{Finality, VerificationAnswer, VerificationStatus};
use crate::verification::judge::still_shows;
use x402_chain::address::Address;
use x402_chain::amount::Amount;
use x402_chain::network::{FinalityRule, Network};
use x402_chain::time::{UnixMillis, UnixSeconds};
use x402_chain::trace::{Depth, MinedTransaction, Trace};

/// A payment on a chain without a rule of finality is polled for an hour.
const TRACKED_WITHOUT_RULE_MS: u64 = 3_600_000;
/// Any other payment is polled for a week at most.
const TRACKED_MS_MAX: u64 = 604_800_000;
/// Polls are at most a minute apart in the first six hours, then half an hour.
const FREQUENT_POLLS_MS: u64 = 21_600_000;

/// Applies a later trace to a successful record. Returns whether it changed, and its event.
pub fn apply_trace(record: &mut VerificationAnswer, network: &Network, trace: &Trace) -> (bool, Option<EventKind>) {
    let before = record.clone();
    // A transaction that is back in another block may have moved something else.
    let mined = trace
        .mined()
        .filter(|mined| mined.failure.is_none() && shows_recorded_payment(mined, record, network) == Some(true));
    let event = match mined {
        None if record.status == VerificationStatus::Reorged => None,
        None => {
            record.status = VerificationStatus::Reorged;
            record.success = false;
            record.finality = None;
            record.confirmations = Some(0);
            Some(EventKind::PaymentReorged)
        }
        Some(mined) => {
            let was = record.status;
            let is_final = mined.depth == Depth::Finalized;
            record.success = true;
            record.status = if is_final { VerificationStatus::Finalized } else { VerificationStatus::Confirmed };
            record.finality = Some(if is_final { Finality::Finalized } else { Finality::Confirmed });
            record.confirmations = Some(mined.confirmations());
            record.block_number = Some(mined.block.number);
            record.block_hash.clone_from(&mined.block.hash);
            record.block_time = mined.block.time.map(|time| UnixSeconds::millis(time).rfc3339());
            match (was, is_final) {
                (VerificationStatus::Reorged, _) => Some(EventKind::PaymentRestored),
                (VerificationStatus::Confirmed, true) => Some(EventKind::PaymentFinalized),
                (
                    VerificationStatus::Confirmed
                    | VerificationStatus::Finalized
                    | VerificationStatus::Pending
                    | VerificationStatus::Rejected,
                    _,
                ) => None,
            }
        }
    };
    // New confirmations alone are not stored.
    let changed =
        event.is_some() || before.block_hash != record.block_hash || before.block_number != record.block_number;
    (changed, event)
}

/// The block of a confirmed payment: its height and hash. `None` where its record does not name one, or has another
/// status.
#[must_use]
pub fn confirmed_block(record: &VerificationAnswer) -> Option<(u64, &str)> {
    let is_confirmed = record.status == VerificationStatus::Confirmed && record.success;
    record.block_number.zip(record.block_hash.as_deref()).filter(|_| is_confirmed)
}

/// Applies that the block of a confirmed payment ([`confirmed_block`]) is final, as [`apply_trace`] would.
pub fn apply_final_block(record: &mut VerificationAnswer, confirmations: u64) -> EventKind {
    record.status = VerificationStatus::Finalized;
    record.finality = Some(Finality::Finalized);
    record.confirmations = Some(confirmations);
    EventKind::PaymentFinalized
}

/// Whether a transaction contains the record's own payment, not only another's; `None` where the record lists none that
/// can be read.
fn shows_recorded_payment(mined: &MinedTransaction, record: &VerificationAnswer, network: &Network) -> Option<bool> {
    let address = |text: &str| Address::parse(network.family, text);
    let mut lines = Vec::with_capacity(record.transfers.len());
    for line in &record.transfers {
        let payer = match &line.payer {
            Some(text) => Some(address(text)?),
            None => None,
        };
        lines.push((payer, Amount::parse_atomic(&line.amount)?));
    }
    let recipient = address(record.to_address.as_deref()?)?;
    Some(still_shows(mined, &recipient, &lines, Amount::parse_atomic(record.amount.as_deref()?)?))
}

/// When to poll again a record that was first answered at `since`; `None`: never.
#[must_use]
pub fn next_poll(
    network: &Network,
    record: &VerificationAnswer,
    since: UnixMillis,
    now: UnixMillis,
) -> Option<UnixMillis> {
    let age = now.since(since);
    let end = match network.finality {
        FinalityRule::Unknown => TRACKED_WITHOUT_RULE_MS,
        FinalityRule::Tag | FinalityRule::Instant => TRACKED_MS_MAX,
    };
    if record.status == VerificationStatus::Finalized || age >= end {
        return None;
    }
    let pause_max = if age < FREQUENT_POLLS_MS { 60_000 } else { 1_800_000 };
    Some(now.plus((age / 4).clamp(first_pause_ms(network), pause_max)))
}

/// How long after its answer a payment is polled first, in milliseconds: two blocks, 1 to 24 s.
#[must_use]
pub fn first_pause_ms(network: &Network) -> u64 {
    network.block_time_ms.saturating_mul(2).clamp(1_000, 24_000)
}

/// A poll that is due at `at`, put off by at most a quarter of the pause, to a time that payments share: those that are
/// due at the same time are polled, and stored, together.
#[must_use]
pub fn shared_poll(at: UnixMillis, now: UnixMillis) -> UnixMillis {
    let grid = match (at.since(now) / 4).checked_ilog2() {
        Some(power) => 1_u64 << power,
        None => 1,
    };
    UnixMillis(at.0.checked_next_multiple_of(grid).unwrap_or(at.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_of_about_the_same_time_are_put_together() {
        let now = UnixMillis(1_795_910_400_000);
        let polled = |after: u64, pause: u64| shared_poll(now.plus(after).plus(pause), now.plus(after)).0;
        for pause in [0, 1, 3, 1_000, 4_000, 60_000, 1_800_000] {
            for after in [0, 1, 77, 4_000] {
                let at = now.0 + after + pause;
                assert!((at..=at + pause / 4).contains(&polled(after, pause)), "{pause} {after}");
            }
        }
        // Payments of a minute, each polled a minute later, share eight times.
        let times: std::collections::BTreeSet<u64> = (0..60).map(|second| polled(second * 1_000, 60_000)).collect();
        assert_eq!(times.len(), 8);
    }
}

//! `GET /v1/analytics`: what the tenant's verifications and settlements of some days add up to.

use crate::body::invalid;
use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use x402_chain::amount::Amount;
use x402_chain::network;
use x402_chain::network::Environment;
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::records::days::{DaySpan, DaySum, MonthDays};
use x402_core::records::detail::PaymentSum;
use x402_core::settlement::status::SettlementStatus;
use x402_core::verification::answer::VerificationStatus;

/// The most days that are asked for.
pub const DAYS_MAX: u64 = 90;
/// The days of a request that names none.
pub const DAYS_DEFAULT: u64 = 30;
/// The most payers that are listed.
pub const TOP_PAYERS_MAX: usize = 20;

/// Verifications together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct VerificationCounts {
    /// All of them.
    pub count: u64,
    /// Those whose payment was found, and stands.
    pub succeeded: u64,
    /// Those that were refused, or could not be decided.
    pub failed: u64,
    /// Those whose payment was found, and whose block has left the chain since.
    pub reorged: u64,
    /// `succeeded` divided by `count`, with four decimals, rounded down; `null` where there are none.
    pub success_rate: Option<String>,
    /// What was paid by those that succeeded, in atomic units (six decimals), decimal digits.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(with = "String"))]
    pub amount: Amount,
}

/// Settlements together, each in its newest status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct SettlementCounts {
    /// All of them.
    pub count: u64,
    /// Those that are reserved, or sent and not yet in a block.
    pub pending: u64,
    /// Those that are in a block.
    pub completed: u64,
    /// Those whose transfer has moved nothing.
    pub failed: u64,
    /// What was paid by those that are completed, in atomic units (six decimals), decimal digits.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(with = "String"))]
    pub amount: Amount,
}

/// Verifications and settlements side by side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct BothCounts {
    /// Verifications, by the time of their answer.
    pub verifications: VerificationCounts,
    /// Settlements, by the time of their reservation.
    pub settlements: SettlementCounts,
}

/// A day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct DayView {
    /// The day (UTC), as `2026-11-30`.
    pub date: String,
    /// What is counted of it.
    #[serde(flatten)]
    pub counts: BothCounts,
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct ChainView {
    /// The registry's short key of the chain.
    pub chain: String,
    /// What is counted of it.
    #[serde(flatten)]
    pub counts: BothCounts,
}

/// Why verifications have failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct ErrorCodeView {
    /// The code of the first rule that failed.
    pub error_code: String,
    /// How many verifications it has failed.
    pub count: u64,
}

/// How long verifications took: from the arrival of the request until the decision, the reading of the chain included.
/// A percentile is the upper bound of a range: never below the true one, and above it by less than an eighth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct LatencyView {
    /// The start of the hour, RFC 3339.
    pub hour: String,
    /// Verifications in this hour.
    pub count: u64,
    /// Half of them took at most so many milliseconds.
    pub p50_ms: u64,
    /// 95 in a hundred took at most so many milliseconds; 65,535 stands for longer times too.
    pub p95_ms: u64,
}

/// An address that has paid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct PayerView {
    /// The address, as verifications write it.
    pub address: String,
    /// Verifications that succeeded.
    pub count: u64,
    /// What they paid, in atomic units (six decimals), decimal digits.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(with = "String"))]
    pub amount: Amount,
}

/// The answer to `GET /v1/analytics`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct AnalyticsView {
    /// Whether live or test payments are counted.
    pub environment: Environment,
    /// The first day (UTC), as `2026-11-01`.
    pub from: String,
    /// The last day (UTC): that of the request, which is not over.
    pub to: String,
    /// When this was counted, RFC 3339. The same answer is given for five minutes.
    pub generated_at: String,
    /// All days and chains together.
    #[serde(flatten)]
    pub counts: BothCounts,
    /// Each day, the first one first.
    pub by_day: Vec<DayView>,
    /// Each chain with a verification or a settlement.
    pub by_chain: Vec<ChainView>,
    /// Each code with which a verification has failed, the most frequent first.
    pub by_error_code: Vec<ErrorCodeView>,
    /// Each hour in which a verification was answered, the first one first.
    pub latency: Vec<LatencyView>,
    /// The addresses that have paid most, at most 20, by verifications that succeeded and have one payer.
    pub top_payers: Vec<PayerView>,
    /// `false`: on a day more than 2,000 addresses have paid. Those with the smallest amounts were left out, and a listed
    /// amount may be too small.
    pub top_payers_complete: bool,
}

impl VerificationCounts {
    fn add(&mut self, state: &str, sum: PaymentSum) -> Result<(), Fault> {
        let is = |status: VerificationStatus| status.name() == state;
        let part = if is(VerificationStatus::Confirmed) || is(VerificationStatus::Finalized) {
            self.amount = plus(self.amount, sum.amount)?;
            &mut self.succeeded
        } else if is(VerificationStatus::Reorged) {
            &mut self.reorged
        } else {
            &mut self.failed
        };
        *part = part.saturating_add(sum.count);
        self.count = self.count.saturating_add(sum.count);
        self.success_rate = rate(self.succeeded, self.count);
        Ok(())
    }
}

impl SettlementCounts {
    fn add(&mut self, state: &str, sum: PaymentSum) -> Result<(), Fault> {
        let part = if state == SettlementStatus::Completed.name() {
            self.amount = plus(self.amount, sum.amount)?;
            &mut self.completed
        } else if state == SettlementStatus::Failed.name() {
            &mut self.failed
        } else {
            &mut self.pending
        };
        *part = part.saturating_add(sum.count);
        self.count = self.count.saturating_add(sum.count);
        Ok(())
    }
}

/// What a sum is added to.
type Adding = fn(&mut BothCounts, &str, PaymentSum) -> Result<(), Fault>;

/// Counts by day and by chain.
struct Breakdown {
    all: BothCounts,
    days: BTreeMap<UnixMillis, BothCounts>,
    chains: BTreeMap<String, BothCounts>,
}

impl Breakdown {
    fn add(&mut self, of: DaySum, chain: &str, adding: Adding) -> Result<(), Fault> {
        let chain = self.chains.entry(chain.to_owned()).or_default();
        let day = self.days.entry(of.day).or_default();
        for counts in [&mut self.all, day, chain] {
            adding(counts, &of.state, of.sum)?;
        }
        Ok(())
    }
}

fn plus(one: Amount, other: Amount) -> Result<Amount, Fault> {
    one.plus(other).ok_or_else(|| Fault::internal("a sum of amounts has more than 256 bits"))
}

/// A part of a whole with four decimals, rounded down.
fn rate(part: u64, whole: u64) -> Option<String> {
    let parts = u128::from(part).saturating_mul(10_000).checked_div(whole.into())?;
    Some(format!("{}.{:04}", parts / 10_000, parts % 10_000))
}

/// The date of a day, as `2026-11-30`.
fn date(day: UnixMillis) -> String {
    day.rfc3339().get(..10).unwrap_or_default().to_owned()
}

impl AnalyticsView {
    /// What is counted of the days of a span.
    ///
    /// # Errors
    /// `INTERNAL` where a sum has more than 256 bits.
    pub fn of(environment: Environment, span: DaySpan, now: UnixMillis, all: MonthDays) -> Result<Self, Fault> {
        let payer = |(address, sum): (&str, PaymentSum)| PayerView {
            address: address.to_owned(),
            count: sum.count,
            amount: sum.amount,
        };
        let top_payers = all.top_payers(TOP_PAYERS_MAX).into_iter().map(payer).collect();
        let days = span.days().map(|day| (day, BothCounts::default()));
        let mut counted =
            Breakdown { all: BothCounts::default(), days: x402_chain::collect::map_of(days), chains: BTreeMap::new() };
        let mut codes: BTreeMap<String, u64> = BTreeMap::new();
        for of in all.verifications {
            if !is_status(&of.state) {
                let count = codes.entry(of.state.clone()).or_default();
                *count = count.saturating_add(of.sum.count);
            }
            let chain = of.chain.clone();
            counted.add(of, &chain, |counts, state, sum| counts.verifications.add(state, sum))?;
        }
        for of in all.settlements {
            // A network of a later build is shown as it is.
            let chain = network::by_caip2(&of.chain).map_or_else(|| of.chain.clone(), |found| found.key.to_owned());
            counted.add(of, &chain, |counts, state, sum| counts.settlements.add(state, sum))?;
        }
        let mut by_error_code: Vec<ErrorCodeView> =
            codes.into_iter().map(|(error_code, count)| ErrorCodeView { error_code, count }).collect();
        by_error_code.sort_by_key(|code| core::cmp::Reverse(code.count));
        let hour = |of: x402_core::records::days::HourLatency| LatencyView {
            hour: of.hour.rfc3339(),
            count: of.count,
            p50_ms: of.p50_ms,
            p95_ms: of.p95_ms,
        };
        let last = UnixMillis(span.to.0.saturating_sub(1));
        Ok(Self {
            environment,
            from: date(span.from),
            to: date(last),
            generated_at: now.rfc3339(),
            counts: counted.all,
            by_day: counted.days.into_iter().map(|(day, counts)| DayView { date: date(day), counts }).collect(),
            by_chain: counted.chains.into_iter().map(|(chain, counts)| ChainView { chain, counts }).collect(),
            by_error_code,
            latency: all.latency.into_iter().map(hour).collect(),
            top_payers,
            top_payers_complete: !all.is_cut,
        })
    }
}

/// Whether the outcome of a verification is a status, and no code.
fn is_status(outcome: &str) -> bool {
    use VerificationStatus as S;
    [S::Confirmed, S::Finalized, S::Pending, S::Rejected, S::Reorged].iter().any(|status| status.name() == outcome)
}

/// Reads `days` of a query string; `environment` is read apart, and any other parameter is refused.
///
/// # Errors
/// `INVALID_REQUEST`, naming the parameter.
pub fn read_days(query: &str) -> Result<u64, Fault> {
    let is_unknown = |(name, _): &(Cow<'_, str>, _)| !matches!(name.as_ref(), "days" | "environment");
    if let Some((name, _)) = form_urlencoded::parse(query.as_bytes()).find(is_unknown) {
        return Err(invalid(&name, "is no parameter of analytics"));
    }
    let named = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "days");
    let Some((_, text)) = named else { return Ok(DAYS_DEFAULT) };
    let is_number = text.bytes().all(|digit| digit.is_ascii_digit());
    let days = text.parse().ok().filter(|days| is_number && (1..=DAYS_MAX).contains(days));
    days.ok_or_else(|| invalid("days", &format!("must be a whole number from 1 to {DAYS_MAX}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use x402_chain::time::DAY_MS;

    fn sum(day: u64, chain: &str, state: &str, (count, amount): (u64, u64)) -> DaySum {
        let (chain, state) = (chain.to_owned(), state.to_owned());
        DaySum {
            day: UnixMillis(day.saturating_mul(DAY_MS)),
            chain,
            state,
            sum: PaymentSum { amount: Amount::atomic(amount), count },
        }
    }

    #[test]
    fn days_are_read_or_refused() {
        assert_eq!(read_days(""), Ok(30));
        assert_eq!(read_days("days=1&days=x"), Ok(1));
        assert_eq!(read_days("environment=test&days=90"), Ok(90));
        for wrong in ["", "0", "91", "-1", "+1", "%2B1", "1.5", "1e1", "18446744073709551616", "all"] {
            assert_eq!(read_days(&format!("days={wrong}")).expect_err(wrong).param.as_deref(), Some("days"), "{wrong}");
        }
        assert_eq!(read_days("days=3&environment=live"), Ok(3));
        assert_eq!(read_days("day=3").expect_err("a wrong name").param.as_deref(), Some("day"));
    }

    #[test]
    fn what_months_count_is_broken_down() {
        let all = MonthDays {
            verifications: vec![
                sum(0, "base", "confirmed", (2, 5)),
                sum(0, "base", "TX_NOT_FOUND", (1, 0)),
                sum(1, "polygon", "finalized", (3, 7)),
                sum(1, "polygon", "reorged", (1, 9)),
                sum(1, "base", "AMOUNT_TOO_LOW", (4, 3)),
            ],
            settlements: vec![
                sum(1, "eip155:8453", "completed", (2, 11)),
                sum(1, "eip155:8453", "pending", (1, 1)),
                sum(2, "of:later", "failed", (1, 1)),
            ],
            is_cut: true,
            ..MonthDays::default()
        };
        let span = DaySpan::until(UnixMillis(2 * DAY_MS + 5), 3);
        let view = AnalyticsView::of(Environment::Live, span, UnixMillis(2 * DAY_MS + 5), all).expect("small");
        assert_eq!((view.from.as_str(), view.to.as_str()), ("1970-01-01", "1970-01-03"));
        let all = &view.counts.verifications;
        assert_eq!((all.count, all.succeeded, all.failed, all.reorged), (11, 5, 5, 1));
        assert_eq!((all.success_rate.as_deref(), all.amount), (Some("0.4545"), Amount::atomic(12)));
        let settled = &view.counts.settlements;
        assert_eq!((settled.count, settled.pending, settled.completed, settled.failed), (4, 1, 2, 1));
        assert_eq!(settled.amount, Amount::atomic(11));
        let days: Vec<_> = view.by_day.iter().map(|day| (day.date.as_str(), day.counts.verifications.count)).collect();
        assert_eq!(days, [("1970-01-01", 3), ("1970-01-02", 8), ("1970-01-03", 0)]);
        assert_eq!(view.by_day[2].counts.verifications.success_rate, None);
        let chains: Vec<_> = view.by_chain.iter().map(|of| (of.chain.as_str(), of.counts.settlements.count)).collect();
        assert_eq!(chains, [("base", 3), ("of:later", 1), ("polygon", 0)]);
        let codes: Vec<_> = view.by_error_code.iter().map(|code| (code.error_code.as_str(), code.count)).collect();
        assert_eq!(codes, [("AMOUNT_TOO_LOW", 4), ("TX_NOT_FOUND", 1)]);
        assert!(!view.top_payers_complete);
        assert_eq!((rate(0, 0), rate(1, 1), rate(2, 3)), (None, Some("1.0000".into()), Some("0.6666".into())));
    }
}

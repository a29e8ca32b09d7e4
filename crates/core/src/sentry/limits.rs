//! How many events are sent: a bucket of tokens, sampling, and what Sentry itself asks for.

use x402_chain::time::UnixMillis;

/// The most events that are sent one after the other.
const BURST: u64 = 20;
/// After this time one more may be sent: twenty a minute.
const REFILL_MS: u64 = 3_000;
/// How long Sentry gets nothing after a 429 that says no time.
const BACKOFF_MS: u64 = 60_000;
/// The longest time that is obeyed.
const BACKOFF_MAX_MS: u64 = 3_600_000;

/// A bucket of tokens.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    tokens: u64,
    /// Until when tokens were given.
    at: UnixMillis,
}

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub const fn full() -> Self {
        Self { tokens: BURST, at: UnixMillis(0) }
    }

    /// Takes a token; whether there was one.
    pub fn take(&mut self, now: UnixMillis) -> bool {
        let gained = now.since(self.at).checked_div(REFILL_MS).unwrap_or_default();
        self.tokens = self.tokens.saturating_add(gained).min(BURST);
        self.at = if self.tokens == BURST { now } else { self.at.plus(gained.saturating_mul(REFILL_MS)) };
        let has_one = self.tokens > 0;
        self.tokens = self.tokens.saturating_sub(1);
        has_one
    }
}

/// Reads a share from `0` to `1` with at most three decimals, as thousandths.
#[must_use]
pub fn parse_share(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let are_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !are_digits(whole) || !are_digits(decimals) || whole.len() > 1 || decimals.len() > 3 {
        return None;
    }
    let thousandths: u16 = format!("{decimals:0<3}").parse().ok()?;
    let share = whole.parse::<u16>().ok()?.checked_mul(1_000)?.checked_add(thousandths)?;
    (share <= 1_000).then_some(share)
}

/// Whether an event is sent of which `per_mille` of a thousand are; `random` is evenly distributed.
#[must_use]
pub fn is_sampled(per_mille: u16, random: u32) -> bool {
    random.checked_rem(1_000).is_some_and(|roll| roll < u32::from(per_mille))
}

/// For how many milliseconds Sentry asks to get no errors. `limits` is the header `X-Sentry-Rate-Limits`
/// (`seconds:categories:scope:reason, …`), which counts with every status; `retry_after_ms` what `Retry-After` asks for.
#[must_use]
pub fn backoff_ms(status: u16, limits: Option<&str>, retry_after_ms: Option<u64>) -> u64 {
    let asked = limits.map(|limits| limits.split(',').filter_map(error_limit_ms).max().unwrap_or_default());
    let ms = match (asked, status) {
        (Some(ms), _) => ms,
        (None, 429) => retry_after_ms.unwrap_or(BACKOFF_MS),
        (None, _) if status >= 500 => retry_after_ms.unwrap_or_default(),
        (None, _) => 0,
    };
    ms.min(BACKOFF_MAX_MS)
}

/// The milliseconds of one limit, where it is about errors.
fn error_limit_ms(limit: &str) -> Option<u64> {
    let mut parts = limit.trim().split(':');
    let seconds: u64 = parts.next()?.trim().parse().ok()?;
    let categories = parts.next().unwrap_or_default().trim();
    let is_ours = categories.is_empty() || categories.split(';').any(|one| matches!(one.trim(), "error" | "default"));
    is_ours.then(|| seconds.saturating_mul(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_twenty_at_once_and_one_every_three_seconds() {
        let mut bucket = TokenBucket::full();
        let start = UnixMillis(1_795_910_400_000);
        let taken = |bucket: &mut TokenBucket, at: UnixMillis| (0..100).filter(|_| bucket.take(at)).count();
        assert_eq!(taken(&mut bucket, start), 20);
        assert_eq!(taken(&mut bucket, start.plus(2_999)), 0);
        assert_eq!(taken(&mut bucket, start.plus(3_000)), 1);
        // What is left of a span is not lost.
        assert_eq!(taken(&mut bucket, start.plus(8_999)), 1);
        assert_eq!(taken(&mut bucket, start.plus(9_000)), 1);
        assert_eq!(taken(&mut bucket, start.plus(3_600_000)), 20);
        // A clock that goes back gives nothing.
        assert_eq!(taken(&mut bucket, start), 0);
    }

    #[test]
    fn a_share_is_read_without_floats() {
        for (text, share) in [("0", 0), ("1", 1_000), ("1.000", 1_000), ("0.5", 500), ("0.25", 250), ("0.001", 1)] {
            assert_eq!(parse_share(text), Some(share), "{text}");
        }
        for text in ["", "2", "1.001", "0.0001", ".5", "0.", "-1", "+1", "1e0", "0,5", "00.5", "٠"] {
            assert_eq!(parse_share(text), None, "{text}");
        }
    }

    #[test]
    fn so_many_of_a_thousand_are_sampled() {
        for per_mille in [0_u16, 1, 250, 1_000] {
            let sampled = (0..1_000).filter(|random| is_sampled(per_mille, *random)).count();
            assert_eq!(sampled, usize::from(per_mille));
        }
    }

    #[test]
    fn sentrys_limits_are_obeyed() {
        for (status, limits, after, ms) in [
            (200, None, None, 0),
            (429, None, None, 60_000),
            (429, None, Some(5_000), 5_000),
            (503, None, Some(5_000), 5_000),
            (503, None, None, 0),
            (200, Some("60:error:organization"), None, 60_000),
            (429, Some("60:transaction:key"), Some(5_000), 0),
            (429, Some("60:transaction:key, 2700:default;error:organization:quota"), None, 2_700_000),
            (429, Some("30::organization"), None, 30_000),
            (429, Some("99999999999999999999:error, 9999999999:error"), None, 3_600_000),
            (429, Some("nonsense"), None, 0),
        ] {
            assert_eq!(backoff_ms(status, limits, after), ms, "{status} {limits:?} {after:?}");
        }
    }
}

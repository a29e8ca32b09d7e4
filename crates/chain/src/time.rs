//! Instants, days and periods. No clock is read here: `now` is always an argument.

use core::fmt;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Milliseconds since 1970-01-01 UTC; the form in storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

/// Seconds since 1970-01-01 UTC; the form in which chains report time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct UnixSeconds(pub u64);

/// Milliseconds in a day.
pub const DAY_MS: u64 = 86_400_000;

/// The last instant that RFC 3339 can write: 9999-12-31T23:59:59.999Z.
const MAX_MILLIS: u64 = 253_402_300_799_999;

impl UnixMillis {
    /// The instant `ms` later; the greatest one on overflow.
    #[must_use]
    pub const fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this instant; zero where it is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The day (UTC) of this instant, counted from 1970-01-01.
    #[must_use]
    pub const fn day(self) -> u64 {
        self.0 / DAY_MS
    }

    /// The whole seconds of this instant.
    #[must_use]
    pub const fn seconds(self) -> UnixSeconds {
        UnixSeconds(self.0 / 1_000)
    }

    /// RFC 3339 in UTC with milliseconds: `2026-11-21T04:00:00.000Z`; at most the end of the year 9999.
    #[must_use]
    pub fn rfc3339(self) -> String {
        let date = date(self);
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            date.year(),
            u8::from(date.month()),
            date.day(),
            date.hour(),
            date.minute(),
            date.second(),
            date.millisecond()
        )
    }

    /// Reads RFC 3339 with any offset; `None` for anything else, before 1970, and after the year 9999 (UTC), which could not be
    /// written again.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        let ms = at.unix_timestamp_nanos().checked_div_euclid(1_000_000)?;
        u64::try_from(ms).ok().map(Self).filter(|at| at.0 <= MAX_MILLIS)
    }
}

impl UnixSeconds {
    /// The same instant in milliseconds.
    #[must_use]
    pub const fn millis(self) -> UnixMillis {
        UnixMillis(self.0.saturating_mul(1_000))
    }

    /// The instant `s` seconds later; the greatest one on overflow.
    #[must_use]
    pub(crate) const fn plus(self, s: u64) -> Self {
        Self(self.0.saturating_add(s))
    }

    /// Seconds from `earlier` to this instant; zero where it is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A calendar month in UTC, the unit of quota: `2026-11`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period {
    year: i32,
    month: u8,
}

impl Period {
    /// The period that an instant belongs to.
    #[must_use]
    pub fn of(at: UnixMillis) -> Self {
        let date = date(at);
        Self { year: date.year(), month: u8::from(date.month()) }
    }

    /// Reads `YYYY-MM`, such as `2026-11`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (year, month) = text.split_once('-')?;
        let is_digits = |part: &str| part.bytes().all(|c| c.is_ascii_digit());
        let shaped = year.len() == 4 && month.len() == 2 && is_digits(year) && is_digits(month);
        let (year, month) = (year.parse().ok()?, month.parse().ok()?);
        (shaped && (1..=12).contains(&month)).then_some(Self { year, month })
    }

    /// The first instant of the period; of one after the year 9999, which no date names, the first after that year.
    #[must_use]
    pub fn start(self) -> UnixMillis {
        let month = time::Month::try_from(self.month).unwrap_or(time::Month::January);
        let Ok(day) = time::Date::from_calendar_date(self.year, month, 1) else {
            return UnixMillis(MAX_MILLIS.saturating_add(1));
        };
        let seconds = day.midnight().assume_utc().unix_timestamp();
        UnixSeconds(u64::try_from(seconds).unwrap_or(0)).millis()
    }

    /// The first instant of the following period: when the quota is whole again.
    #[must_use]
    pub fn end(self) -> UnixMillis {
        let next = match self.month.checked_add(1).filter(|month| *month <= 12) {
            Some(month) => Self { month, ..self },
            None => Self { year: self.year.saturating_add(1), month: 1 },
        };
        next.start()
    }

    /// The period before this one.
    #[must_use]
    pub fn previous(self) -> Self {
        match self.month.checked_sub(1).filter(|month| *month > 0) {
            Some(month) => Self { month, ..self },
            None => Self { year: self.year.saturating_sub(1), month: 12 },
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:04}-{:02}", self.year, self.month)
    }
}

impl Serialize for Period {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("a period must be YYYY-MM"))
    }
}

fn date(at: UnixMillis) -> OffsetDateTime {
    let nanos = i128::from(at.0.min(MAX_MILLIS)).saturating_mul(1_000_000);
    OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_reads_back_what_it_writes() {
        let at = UnixMillis(1_795_233_600_123);
        assert_eq!(at.rfc3339(), "2026-11-21T04:00:00.123Z");
        assert_eq!(UnixMillis::parse(&at.rfc3339()), Some(at));
        assert_eq!(UnixMillis::parse("2026-11-21T05:00:00.123+01:00"), Some(at));
        assert_eq!(UnixMillis::parse("yesterday"), None);
        assert_eq!(UnixMillis::parse("9999-12-31T23:59:59.999Z"), Some(UnixMillis(MAX_MILLIS)));
        assert_eq!(UnixMillis::parse("9999-12-31T23:59:59.999-00:01"), None);
        assert_eq!(UnixMillis::parse("1969-12-31T23:59:59.999999Z"), None);
        assert_eq!((UnixMillis(DAY_MS - 1).day(), UnixMillis(DAY_MS).day()), (0, 1));
        assert_eq!(UnixMillis(u64::MAX).rfc3339(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn a_period_ends_where_the_next_begins() {
        let november = Period::of(UnixMillis(1_795_233_600_123));
        assert_eq!(november.to_string(), "2026-11");
        assert_eq!(november.end().rfc3339(), "2026-12-01T00:00:00.000Z");
        let december = Period::of(november.end());
        assert_eq!(december.end().rfc3339(), "2027-01-01T00:00:00.000Z");
        assert_eq!((december.previous(), Period::of(december.end()).previous()), (november, december));
        assert_eq!((december.start(), Period::of(november.start())), (november.end(), november));
        let last = Period::parse("9999-12").expect("a period");
        assert_eq!((last.start().0, last.end().0), (253_399_622_400_000, MAX_MILLIS + 1));
        assert_eq!(Period::parse("2026-11"), Some(november));
        for wrong in ["2026-13", "2026-1", "26-11", "2026", "2026-00", "2026-+1", "+202-11"] {
            assert_eq!(Period::parse(wrong), None, "{wrong}");
        }
    }
}

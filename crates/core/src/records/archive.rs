//! The archive's keys: `tenant/environment/YYYY/MM/DD/<first id>-<last id>.ndjson.gz`, a tenant and day (UTC) each; and
//! how rows are cut into R2 objects.

use serde::{Deserialize, Serialize};
use x402_chain::id::{EventId, TenantId, VerificationId};
use x402_chain::network::Environment;
use x402_chain::time::{Period, UnixMillis};

/// The most rows of an R2 object.
pub const ROWS_MAX: usize = 10_000;
/// The most bytes of an R2 object's lines, uncompressed; a larger line stands alone.
pub const BYTES_MAX: usize = 8_388_608;

/// What is archived; ids of each kind share a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArchivedKind {
    /// Verification records, `ver_…`.
    Records,
    /// Events, `evt_…`.
    Events,
}

impl ArchivedKind {
    /// What its ids begin with.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Records => "ver_",
            Self::Events => "evt_",
        }
    }

    /// The time of an id's creation; `None` where it is no id of this kind.
    #[must_use]
    pub fn time_of(self, id: &str) -> Option<UnixMillis> {
        match self {
            Self::Records => VerificationId::parse(id).map(VerificationId::created_at),
            Self::Events => EventId::parse(id).map(EventId::created_at),
        }
    }
}

/// Whose archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveOwner {
    /// The tenant.
    pub tenant: TenantId,
    /// The environment.
    pub environment: Environment,
}

impl ArchiveOwner {
    /// The common start of all keys.
    #[must_use]
    pub fn prefix(&self) -> String {
        format!("{}/{}/", self.tenant, self.environment.name())
    }

    /// The common start of a month's keys.
    #[must_use]
    pub fn month(&self, month: Period) -> String {
        let month = month.to_string().replace('-', "/");
        format!("{}{month}/", self.prefix())
    }

    /// The common start of a day's keys of one kind.
    #[must_use]
    pub fn day(&self, at: UnixMillis, kind: ArchivedKind) -> String {
        let date = at.rfc3339();
        let day = date.get(8..10).unwrap_or_default();
        format!("{}{day}/{}", self.month(Period::of(at)), kind.prefix())
    }

    /// The key of an R2 object, by the time and the text of its first id and the text of its last.
    #[must_use]
    pub fn key(&self, at: UnixMillis, kind: ArchivedKind, first: &str, last: &str) -> String {
        let first = first.strip_prefix(kind.prefix()).unwrap_or(first);
        format!("{}{first}-{last}.ndjson.gz", self.day(at, kind))
    }
}

/// The ids between which the lines of an R2 object stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedRange {
    /// The first.
    pub first: String,
    /// The last.
    pub last: String,
}

impl ArchivedRange {
    /// Reads a key; `None` where it is none of this kind.
    #[must_use]
    pub fn parse(key: &str, kind: ArchivedKind) -> Option<Self> {
        let name = key.rsplit('/').next()?.strip_suffix(".ndjson.gz")?;
        let (first, last) = name.split_once('-')?;
        let both = first.starts_with(kind.prefix()) && last.starts_with(kind.prefix());
        both.then(|| Self { first: first.to_owned(), last: last.to_owned() })
    }

    /// Whether an id may stand in the R2 object.
    #[must_use]
    pub fn holds(&self, id: &str) -> bool {
        self.first.as_str() <= id && id <= self.last.as_str()
    }
}

/// The rows of an R2 object so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArchiveLoad {
    rows: usize,
    bytes: usize,
    day: Option<u64>,
    is_cut: bool,
}

impl ArchiveLoad {
    /// Whether one more row fits, by its time and its bytes; after one that does not, none does. The first always fits.
    pub fn accept(&mut self, at: UnixMillis, bytes: usize) -> bool {
        let (day, sum) = (at.0 / 86_400_000, self.bytes.saturating_add(bytes));
        let fits = self.rows < ROWS_MAX && sum <= BYTES_MAX && self.day == Some(day);
        if self.is_cut || (self.rows > 0 && !fits) {
            self.is_cut = true;
            return false;
        }
        (self.rows, self.bytes, self.day) = (self.rows.saturating_add(1), sum, Some(day));
        true
    }

    /// How many rows were accepted.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use x402_chain::id::VerificationId;

    #[test]
    fn a_key_says_which_ids_it_holds() {
        let tenant = TenantId::new(UnixMillis(1), [7; 6]);
        let owner = ArchiveOwner { tenant, environment: Environment::Live };
        let at = UnixMillis(1_795_233_600_123);
        let [first, last] = [0, 9].map(|random| VerificationId::new(at, [random; 10]).to_string());
        let key = owner.key(at, ArchivedKind::Records, &first, &last);
        assert_eq!(key, format!("{tenant}/live/2026/11/21/{first}-{last}.ndjson.gz"));
        assert!(key.starts_with(&owner.day(at, ArchivedKind::Records)));
        assert!(key.starts_with(&owner.month(Period::of(at))));
        assert_eq!(ArchivedRange::parse(&key, ArchivedKind::Events), None);
        let range = ArchivedRange::parse(&key, ArchivedKind::Records).expect("a range");
        for (random, is_held) in [(0, true), (5, true), (9, true), (10, false)] {
            assert_eq!(range.holds(&VerificationId::new(at, [random; 10]).to_string()), is_held);
        }
        assert!(!range.holds(&VerificationId::new(UnixMillis(at.0 - 1), [9; 10]).to_string()));
        for other in ["", "a/b", "ver_1.ndjson.gz", "ver_1-ver_2.json"] {
            assert_eq!(ArchivedRange::parse(other, ArchivedKind::Records), None, "{other}");
        }
    }

    #[test]
    fn an_r2_object_is_cut_by_day_by_rows_and_by_bytes() {
        let taken = |rows: &[(u64, usize)]| {
            let mut load = ArchiveLoad::default();
            let taken = rows.iter().filter(|(at, bytes)| load.accept(UnixMillis(*at), *bytes)).count();
            assert_eq!(taken, load.rows());
            taken
        };
        assert_eq!(taken(&[]), 0);
        assert_eq!(taken(&[(86_399_999, 1), (86_400_000, 1), (86_399_999, 1)]), 1);
        assert_eq!(taken(&[(0, 1); 10_001]), 10_000);
        assert_eq!(taken(&[(0, 4_194_304), (0, 4_194_304), (0, 1)]), 2);
        assert_eq!(taken(&[(0, 9_000_000), (0, 1)]), 1);
    }
}

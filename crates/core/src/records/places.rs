//! Which export of an isolate gives its place up to another that begins: places are few, and no two tenants may keep the others
//! out.

use x402_chain::id::TenantId;
use x402_chain::time::UnixMillis;

/// The most exports at a time.
pub const ALL_MAX: usize = 3;
/// The most of one tenant at a time.
pub const TENANT_MAX: usize = 2;
/// An export of which nothing was read for so long gives its place up to another that begins.
const IDLE_MS: u64 = 60_000;
/// How long a tenant's only export keeps its place against a tenant that has none: enough to get on before it is cut, and goes on
/// by its cursor.
const HELD_MS: u64 = 60_000;

/// An export that runs.
#[derive(Clone, Copy, Debug)]
pub struct HeldPlace {
    /// Which it is of those of the isolate.
    pub number: u64,
    /// Whose it is.
    pub tenant: TenantId,
    /// When it began.
    pub began_at: UnixMillis,
    /// When its client asked for more last.
    pub asked_at: UnixMillis,
}

/// Which exports give their places up, so that another of a tenant can begin; `None`: it cannot. First go those of which nothing
/// is read. Then, for a tenant that has none, the newer of another's two, or the one that has run longest.
#[must_use]
pub fn places_given_up(held: &[HeldPlace], tenant: TenantId, now: UnixMillis) -> Option<Vec<u64>> {
    let is_room = |held: &[HeldPlace]| {
        held.len() < ALL_MAX && held.iter().filter(|place| place.tenant == tenant).count() < TENANT_MAX
    };
    if is_room(held) {
        return Some(Vec::new());
    }
    let (read, idle): (Vec<HeldPlace>, Vec<HeldPlace>) =
        held.iter().partition(|place| now.since(place.asked_at) < IDLE_MS);
    let mut given_up: Vec<u64> = idle.iter().map(|place| place.number).collect();
    if is_room(&read) {
        return Some(given_up);
    }
    if read.iter().any(|place| place.tenant == tenant) {
        return None;
    }
    let is_second =
        |place: &&HeldPlace| read.iter().any(|other| other.tenant == place.tenant && other.number < place.number);
    let is_long = |place: &&HeldPlace| now.since(place.began_at) >= HELD_MS;
    let oldest = || read.iter().filter(is_long).min_by_key(|place| place.number);
    let displaced = read.iter().filter(is_second).max_by_key(|place| place.number).or_else(oldest)?;
    given_up.push(displaced.number);
    Some(given_up)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_795_910_400_000);

    /// Exports that are read: of which tenant, and for how many seconds they run.
    fn held(all: &[(u8, u64)]) -> Vec<HeldPlace> {
        let place = |(number, (tenant, seconds)): (u64, &(u8, u64))| HeldPlace {
            number,
            tenant: TenantId([*tenant; 12]),
            began_at: UnixMillis(NOW.0.saturating_sub(seconds.saturating_mul(1_000))),
            asked_at: NOW,
        };
        (0..).zip(all).map(place).collect()
    }

    #[track_caller]
    fn check(all: &[(u8, u64)], tenant: u8, want: Option<&[u64]>) {
        let found = places_given_up(&held(all), TenantId([tenant; 12]), NOW);
        assert_eq!(found.as_deref(), want, "{all:?} {tenant}");
    }

    #[test]
    fn two_tenants_cannot_keep_a_third_out() {
        check(&[(1, 5), (1, 5)], 1, None);
        check(&[(1, 5), (1, 5)], 2, Some(&[]));
        // The second of a tenant goes at once, an only one after a minute.
        check(&[(1, 5), (2, 5), (1, 5)], 3, Some(&[2]));
        check(&[(1, 59), (2, 5), (3, 5)], 4, None);
        check(&[(1, 60), (2, 60), (3, 5)], 4, Some(&[0]));
        // Who has one keeps nobody else from theirs.
        check(&[(1, 90), (2, 90), (3, 90)], 2, None);
    }

    #[test]
    fn what_nobody_reads_goes_first() {
        let mut all = held(&[(1, 90), (2, 90), (3, 90)]);
        all[1].asked_at = UnixMillis(NOW.0.saturating_sub(IDLE_MS));
        assert_eq!(places_given_up(&all, TenantId([2; 12]), NOW), Some(vec![1]));
        all[1].asked_at = UnixMillis(NOW.0.saturating_sub(IDLE_MS - 1));
        assert_eq!(places_given_up(&all, TenantId([2; 12]), NOW), None);
    }
}

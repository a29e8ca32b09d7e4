//! Fair turns: if there are more flights, or versions of a flight, than one request takes, each gets its turn.

use std::collections::BTreeMap;

/// The last keys that had a turn, of the favoured keys and of the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoundRobin {
    favoured: String,
    others: String,
}

impl RoundRobin {
    /// The next keys, at most `most`: the favoured first, but a quarter is kept for the others.
    pub fn next_turn(&mut self, keys: Vec<String>, favours: impl Fn(&str) -> bool, most: usize) -> Vec<String> {
        let (favoured, others): (Vec<String>, Vec<String>) = keys.into_iter().partition(|key| favours(key));
        let kept = (most / 4).min(others.len());
        let mut taken = keys_after(&mut self.favoured, favoured, most.saturating_sub(kept));
        let left = most.saturating_sub(taken.len());
        taken.extend(keys_after(&mut self.others, others, left));
        taken
    }
}

/// The keys after the last one, wrapping around.
fn keys_after(last: &mut String, mut keys: Vec<String>, most: usize) -> Vec<String> {
    keys.sort_unstable();
    let begin = keys.partition_point(|key| key.as_str() <= last.as_str());
    keys.rotate_left(begin);
    keys.truncate(most);
    if let Some(key) = keys.last() {
        last.clone_from(key);
    }
    keys
}

/// The older version at which each flight's next turn begins, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionRoundRobin(BTreeMap<String, usize>);

impl VersionRoundRobin {
    /// Which versions of flights are polled in one request of at most `most` calls. A flight has as many versions as
    /// the number beside its key, the newest last. Its newest is always polled; of the older ones, which may be mined
    /// too, as many as its share allows, in turn. `most` is at least twice the number of flights.
    pub fn next_turn(&mut self, flights: &[(&str, usize)], most: usize) -> Vec<Vec<usize>> {
        let older = |count: &usize| count.saturating_sub(1);
        let mut left = most.saturating_sub(flights.len());
        let mut shares: Vec<(usize, usize)> = flights.iter().map(|(_, count)| older(count)).enumerate().collect();
        // A flight with few versions leaves its share to the others.
        shares.sort_by_key(|(_, older)| *older);
        let mut waiting = flights.len();
        let mut taken: BTreeMap<usize, usize> = BTreeMap::new();
        for (at, older) in shares {
            let share = left.checked_div(waiting).unwrap_or(0).min(older);
            left = left.saturating_sub(share);
            waiting = waiting.saturating_sub(1);
            taken.insert(at, share);
        }
        let of = |(at, (key, count)): (usize, &(&str, usize))| {
            let (older, share) = (older(count), taken.get(&at).copied().unwrap_or(0));
            let from = self.0.get(*key).copied().filter(|from| *from < older).unwrap_or(0);
            let mut chosen: Vec<usize> = (0..older).cycle().skip(from).take(share).collect();
            match from.saturating_add(share).checked_rem(older) {
                Some(next) if share < older => drop(self.0.insert((*key).to_owned(), next)),
                Some(_) | None => drop(self.0.remove(*key)),
            }
            chosen.extend(count.checked_sub(1));
            chosen
        };
        flights.iter().enumerate().map(of).collect()
    }

    /// Drops a flight that has ended.
    pub fn forget(&mut self, key: &str) {
        self.0.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn few_versions_are_all_polled() {
        let mut versions = VersionRoundRobin::default();
        assert_eq!(versions.next_turn(&[("a", 3), ("b", 1), ("c", 0)], 6), [vec![0, 1, 2], vec![0], vec![]]);
        assert_eq!(versions, VersionRoundRobin::default());
    }

    #[test]
    fn a_turn_is_bounded_in_calls_and_comes_round_to_every_version() {
        let mut versions = VersionRoundRobin::default();
        let names = keys(40);
        let flights: Vec<(&str, usize)> =
            names.iter().map(|key| (key.as_str(), if key == "000" { 2 } else { 45 })).collect();
        let mut seen: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); 40];
        for _ in 0..44 {
            let turn = versions.next_turn(&flights, 100);
            assert!(turn.iter().map(Vec::len).sum::<usize>() <= 100);
            for ((seen, chosen), (_, count)) in seen.iter_mut().zip(turn).zip(&flights) {
                assert_eq!(chosen.last(), Some(&(count - 1)));
                seen.extend(chosen);
            }
        }
        assert!(seen.iter().zip(&flights).all(|(seen, (_, count))| seen.len() == *count));
        versions.forget("001");
        assert_eq!(versions.0.len(), 38);
    }

    fn keys(count: usize) -> Vec<String> {
        (0..count).map(|at| format!("{at:03}")).collect()
    }

    #[test]
    fn whoever_is_waited_for_is_in_every_batch() {
        let mut rota = RoundRobin::default();
        for _ in 0..9 {
            let taken = rota.next_turn(keys(300), |key| key == "299", 40);
            assert_eq!((taken.len(), taken.iter().filter(|key| *key == "299").count()), (40, 1));
        }
    }

    #[test]
    fn everybody_gets_a_turn() {
        let mut rota = RoundRobin::default();
        let mut seen = BTreeSet::new();
        // 100 of 300 are waited for: 30 of them at once, and 10 of the others.
        for _ in 0..20 {
            seen.extend(rota.next_turn(keys(300), |key| key < "100", 40));
        }
        assert_eq!(seen.len(), 300);
        assert_eq!(RoundRobin::default().next_turn(keys(3), |key| key == "002", 40), ["002", "000", "001"]);
        assert!(rota.next_turn(Vec::new(), |_| true, 40).is_empty());
    }

    #[test]
    fn one_that_is_over_loses_nobody_a_turn() {
        let mut rota = RoundRobin::default();
        assert_eq!(rota.next_turn(keys(5), |_| false, 2), ["000", "001"]);
        let left: Vec<String> = keys(5).into_iter().filter(|key| key != "001").collect();
        assert_eq!(rota.next_turn(left.clone(), |_| false, 2), ["002", "003"]);
        assert_eq!(rota.next_turn(left, |_| false, 2), ["004", "000"]);
    }
}

//! Whose turn it is: of more flights than one request takes, each gets its turn.

/// Who was last. Keys that are favoured and the others each go round by themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rota {
    favoured: String,
    others: String,
}

impl Rota {
    /// The next keys, at most `most`: the favoured first, but a quarter is kept for the others.
    pub fn next(&mut self, keys: Vec<String>, favours: impl Fn(&str) -> bool, most: usize) -> Vec<String> {
        let (favoured, others): (Vec<String>, Vec<String>) = keys.into_iter().partition(|key| favours(key));
        let kept = (most / 4).min(others.len());
        let mut taken = go_on(&mut self.favoured, favoured, most.saturating_sub(kept));
        let left = most.saturating_sub(taken.len());
        taken.extend(go_on(&mut self.others, others, left));
        taken
    }
}

/// The keys after the last one, around the end.
fn go_on(last: &mut String, mut keys: Vec<String>, most: usize) -> Vec<String> {
    keys.sort_unstable();
    let begin = keys.partition_point(|key| key.as_str() <= last.as_str());
    keys.rotate_left(begin);
    keys.truncate(most);
    if let Some(key) = keys.last() {
        last.clone_from(key);
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn keys(count: usize) -> Vec<String> {
        (0..count).map(|at| format!("{at:03}")).collect()
    }

    #[test]
    fn whoever_is_waited_for_is_in_every_batch() {
        let mut rota = Rota::default();
        for _ in 0..9 {
            let taken = rota.next(keys(300), |key| key == "299", 40);
            assert_eq!((taken.len(), taken.iter().filter(|key| *key == "299").count()), (40, 1));
        }
    }

    #[test]
    fn everybody_gets_a_turn() {
        let mut rota = Rota::default();
        let mut seen = BTreeSet::new();
        // 100 of 300 are waited for: 30 of them at once, and 10 of the others.
        for _ in 0..20 {
            seen.extend(rota.next(keys(300), |key| key < "100", 40));
        }
        assert_eq!(seen.len(), 300);
        assert_eq!(Rota::default().next(keys(3), |key| key == "002", 40), ["002", "000", "001"]);
        assert!(rota.next(Vec::new(), |_| true, 40).is_empty());
    }

    #[test]
    fn one_that_is_over_loses_nobody_a_turn() {
        let mut rota = Rota::default();
        assert_eq!(rota.next(keys(5), |_| false, 2), ["000", "001"]);
        let left: Vec<String> = keys(5).into_iter().filter(|key| key != "001").collect();
        assert_eq!(rota.next(left.clone(), |_| false, 2), ["002", "003"]);
        assert_eq!(rota.next(left, |_| false, 2), ["004", "000"]);
    }
}

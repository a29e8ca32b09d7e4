//! Which ways of `/facilitator/verify` can be counted exactly (docs/decisions/0012-verify-keeps-its-hop.md).
//!
//! A model runs every interleaving of two requests through isolates that may end at any time. What the ledger has
//! received by the end of a run is the run's history: whatever rule the ledger counts by, it counts the same for two
//! runs of one history. A way is exact if each history allows a count that holds every payment that was answered as
//! valid in one of its runs, and none that the chain did not find valid in another.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Two requests: the payment of each, and the isolate that it comes to.
type Requests = [(usize, usize); 2];
/// Two payments in one isolate.
const TOGETHER: Requests = [(0, 0), (1, 0)];
/// Two payments in two isolates.
const APART: Requests = [(0, 0), (1, 1)];
/// One payment in two isolates.
const TWICE: Requests = [(0, 0), (0, 1)];

/// When a verification is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// After the ledger has stored what the chain answered.
    Ledger,
    /// After the chain's answer, within a lease of the ledger to the isolate; the report follows the answer.
    Lease,
    /// After the chain's answer and the ledger's admission, which are asked for at the same time; the report follows.
    Beside,
    /// The same, but counted with the admission: a refusal is answered after the ledger has taken the count back.
    TakenBack,
    /// After a durable store near the isolate has stored what the chain answered; the store reports until it is heard.
    NearStore,
}

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    New,
    Asking,
    Found(bool),
    Answered,
}

/// What the ledger is sent about a request's payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Message {
    /// It is being verified.
    Admit(usize),
    /// The chain found it valid, or refused it.
    Report(usize, bool),
}

/// One step of a run; the number is the request's, of the last one the isolate's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Ask(usize),
    Find(usize, bool),
    /// The store near the isolate stores what was found.
    Store(usize),
    Answer(usize),
    Receive(Message),
    Lose(Message),
    End(usize),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct World {
    phases: [Phase; 2],
    ended: [bool; 2],
    /// What the isolates have sent and the ledger has not received.
    sent: BTreeSet<Message>,
    /// What the store near the isolates has stored of requests, and what of it the ledger has not received.
    stored: BTreeSet<usize>,
    unheard: BTreeSet<Message>,
    /// What the ledger has received, in order.
    history: Vec<Message>,
    /// Payments that the chain found valid.
    valid: BTreeSet<usize>,
    /// Payments that were answered as valid.
    answered: BTreeSet<usize>,
}

impl World {
    const fn new() -> Self {
        Self {
            phases: [Phase::New; 2],
            ended: [false; 2],
            sent: BTreeSet::new(),
            stored: BTreeSet::new(),
            unheard: BTreeSet::new(),
            history: Vec::new(),
            valid: BTreeSet::new(),
            answered: BTreeSet::new(),
        }
    }

    /// Whether the ledger receives nothing more about the requests that were made.
    fn is_over(&self, requests: Requests) -> bool {
        let rests = |(request, (_, isolate)): (usize, (usize, usize))| {
            self.ended[isolate] || matches!(self.phases[request], Phase::New | Phase::Answered)
        };
        self.sent.is_empty() && self.unheard.is_empty() && requests.into_iter().enumerate().all(rests)
    }

    fn may_answer(&self, way: Way, request: usize, found: bool) -> bool {
        match way {
            Way::Lease => true,
            Way::Ledger => self.history.contains(&Message::Report(request, found)),
            Way::Beside => self.history.contains(&Message::Admit(request)),
            Way::TakenBack => {
                let is_stored = |message| self.history.contains(&message);
                is_stored(Message::Admit(request)) && (found || is_stored(Message::Report(request, false)))
            }
            Way::NearStore => self.stored.contains(&request),
        }
    }

    fn steps(&self, way: Way, requests: Requests, ends: bool) -> Vec<Step> {
        let mut steps: Vec<Step> = self.sent.iter().chain(&self.unheard).map(|each| Step::Receive(*each)).collect();
        for message in &self.sent {
            let (Message::Admit(request) | Message::Report(request, _)) = *message;
            steps.extend(self.ended[requests[request].1].then_some(Step::Lose(*message)));
        }
        for (request, (_, isolate)) in requests.into_iter().enumerate() {
            if self.ended[isolate] {
                continue;
            }
            match self.phases[request] {
                Phase::New => steps.push(Step::Ask(request)),
                Phase::Asking => steps.extend([true, false].map(|found| Step::Find(request, found))),
                Phase::Found(found) if self.may_answer(way, request, found) => steps.push(Step::Answer(request)),
                Phase::Found(_) if way == Way::NearStore => steps.push(Step::Store(request)),
                Phase::Found(_) | Phase::Answered => {}
            }
            steps.extend(ends.then_some(Step::End(isolate)));
        }
        steps
    }

    fn after(&self, way: Way, requests: Requests, step: Step) -> Self {
        let mut next = self.clone();
        match step {
            Step::Ask(request) => {
                next.phases[request] = Phase::Asking;
                let admits = matches!(way, Way::Beside | Way::TakenBack);
                next.sent.extend(admits.then_some(Message::Admit(request)));
            }
            Step::Find(request, found) => {
                next.phases[request] = Phase::Found(found);
                next.valid.extend(found.then_some(requests[request].0));
                let reports = way == Way::Ledger || (way == Way::TakenBack && !found);
                next.sent.extend(reports.then_some(Message::Report(request, found)));
            }
            Step::Store(request) => {
                if let Phase::Found(found) = self.phases[request] {
                    next.stored.insert(request);
                    next.unheard.insert(Message::Report(request, found));
                }
            }
            Step::Answer(request) => {
                if let Phase::Found(found) = self.phases[request] {
                    next.phases[request] = Phase::Answered;
                    next.answered.extend(found.then_some(requests[request].0));
                    let reports = matches!(way, Way::Lease | Way::Beside);
                    next.sent.extend(reports.then_some(Message::Report(request, found)));
                }
            }
            Step::Receive(message) => {
                next.sent.remove(&message);
                next.unheard.remove(&message);
                next.history.push(message);
            }
            Step::Lose(message) => drop(next.sent.remove(&message)),
            Step::End(isolate) => next.ended[isolate] = true,
        }
        next
    }
}

/// Two runs of one history between which no count is right: in the first `payment` was answered as valid, in the second
/// the chain did not find it valid.
#[derive(Debug, PartialEq, Eq)]
struct Conflict {
    payment: usize,
    answered: Vec<Step>,
    not_valid: Vec<Step>,
}

/// Runs every interleaving, the shortest first; returns the shortest conflict. `ends`: whether isolates may end.
fn conflict(way: Way, requests: Requests, ends: bool) -> Option<Conflict> {
    let (mut queue, mut known) = (VecDeque::from([(World::new(), Vec::new())]), BTreeSet::from([World::new()]));
    let mut histories: BTreeMap<Vec<Message>, Vec<(World, Vec<Step>)>> = BTreeMap::new();
    while let Some((world, run)) = queue.pop_front() {
        for step in world.steps(way, requests, ends) {
            let next = world.after(way, requests, step);
            if known.insert(next.clone()) {
                queue.push_back((next, [run.as_slice(), &[step]].concat()));
            }
        }
        if world.is_over(requests) {
            histories.entry(world.history.clone()).or_default().push((world, run));
        }
    }
    let conflicts = histories.values().flat_map(|runs| {
        runs.iter().flat_map(move |(world, answered)| {
            world.answered.iter().filter_map(move |payment| {
                let (_, not_valid) = runs.iter().find(|(other, _)| !other.valid.contains(payment))?;
                Some(Conflict { payment: *payment, answered: answered.clone(), not_valid: not_valid.clone() })
            })
        })
    });
    conflicts.min_by_key(|found| found.answered.len() + found.not_valid.len())
}

#[test]
fn an_answer_after_the_ledgers_or_a_near_stores_step_is_counted_exactly() {
    for requests in [TOGETHER, APART, TWICE] {
        assert_eq!(conflict(Way::Ledger, requests, true), None);
        assert_eq!(conflict(Way::NearStore, requests, true), None);
    }
}

#[test]
fn the_ledger_cannot_tell_a_lease_that_was_used_from_one_that_was_not() {
    let found = conflict(Way::Lease, TOGETHER, true).unwrap();
    let lost = Step::Lose(Message::Report(0, true));
    assert_eq!(found.answered, [Step::Ask(0), Step::Find(0, true), Step::Answer(0), Step::End(0), lost]);
    assert_eq!(found.not_valid, []);
}

#[test]
fn an_admission_beside_the_chain_does_not_show_what_the_chain_answered() {
    let found = conflict(Way::Beside, TOGETHER, true).unwrap();
    let (admitted, lost) = (Step::Receive(Message::Admit(0)), Step::Lose(Message::Report(0, true)));
    assert_eq!(found.answered, [Step::Ask(0), admitted, Step::Find(0, true), Step::Answer(0), Step::End(0), lost]);
    assert_eq!(found.not_valid, [Step::Ask(0), admitted, Step::End(0)]);
}

#[test]
fn a_count_that_is_taken_back_before_a_refusal_stays_where_the_isolate_ends() {
    let found = conflict(Way::TakenBack, TOGETHER, true).unwrap();
    let admitted = Step::Receive(Message::Admit(0));
    assert_eq!(found.answered, [Step::Ask(0), admitted, Step::Find(0, true), Step::Answer(0)]);
    assert_eq!(found.not_valid, [Step::Ask(0), admitted, Step::End(0)]);
}

#[test]
fn only_an_isolate_that_ends_makes_the_difference() {
    for (way, requests) in
        [Way::Lease, Way::Beside, Way::TakenBack].into_iter().flat_map(|way| [TOGETHER, APART].map(|each| (way, each)))
    {
        assert_eq!(conflict(way, requests, false), None);
    }
}

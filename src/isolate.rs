//! What an isolate remembers between requests. All of it is bounded and may be lost at any time; nothing that must be
//! exact is kept here.

pub(crate) mod archives;
pub(crate) mod exports;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use x402_api::endpoint::Routes;
use x402_chain::address::Address;
use x402_chain::evm::cache::VerificationCache;
use x402_chain::id::{EventId, TenantId};
use x402_chain::network::Environment;
use x402_chain::registry_check::RegistryCheckOutcome;
use x402_chain::time::UnixMillis;
use x402_chain::trace::{PartyFacts, Trace};
use x402_core::messages::ledger::RefusedCaller;
use x402_core::sanctions;
use x402_core::settings::{SettingMistake, Settings};
use x402_core::tenancy::key::KeyHash;

/// Finalized traces kept: about 1 KiB each, so 16 MiB of the isolate's 128.
const TRACES_MAX: usize = 16_384;
/// A finalized trace is used again for a day.
const TRACE_MS: u64 = 86_400_000;
/// Parties remembered for [`PARTY_MS`].
const PARTIES_MAX: usize = 16_384;
/// Code and blacklist entries are read again after five minutes.
const PARTY_MS: u64 = 300_000;
/// Payments known to have a settlement, some 200 bytes each, and for how long: buyers resend within minutes.
const RECORDED_MAX: usize = 8_192;
const RECORDED_MS: u64 = 900_000;
/// Attempts remembered by their `Idempotency-Key`, some 300 bytes each, and for how long: as long as callers poll.
const ATTEMPTS_MAX: usize = 8_192;
const ATTEMPT_MS: u64 = 300_000;
/// The most refused callers that are remembered.
const REFUSED_MAX: usize = 8_192;
/// How long a refused caller is remembered. A rate limit is answered from memory, except for a request under an
/// `Idempotency-Key`. After any other refusal the ledger is asked before the chain; so it is for a rate limit that
/// lasts longer than this, since an operator may have raised it.
const REFUSED_MS: u64 = 60_000;
/// How long an entry about a refused caller is kept: the window of an hour, and some slack.
const REFUSED_KEEP_MS: u64 = 3_700_000;

/// Networks whose wrong operators' keys are counted, some 60 bytes each.
const WRONG_KEY_NETWORKS_MAX: usize = 8_192;
/// Wrong operators' keys from a network in [`WRONG_KEYS_MS`], from the first of them on; then none is compared.
const WRONG_KEYS_MAX: u32 = 20;
const WRONG_KEYS_MS: u64 = 60_000;

/// Answers about analytics, at most some 250 kB each, and for how long the same is given.
const ANALYTICS_MAX: usize = 32;
const ANALYTICS_MS: u64 = 300_000;

/// The registry check's last definite outcomes, by our keys of the chains; `Unreachable` only of a chain that was never
/// reached.
pub(crate) type RegistryOutcomes = BTreeMap<String, RegistryCheckOutcome>;

/// A map that forgets its oldest entries.
struct BoundedMap<K, V> {
    map: BTreeMap<K, (V, UnixMillis)>,
    order: VecDeque<K>,
    max: usize,
    keep_ms: u64,
}

impl<K: Ord + Clone, V: Clone> BoundedMap<K, V> {
    const fn new(max: usize, keep_ms: u64) -> Self {
        Self { map: BTreeMap::new(), order: VecDeque::new(), max, keep_ms }
    }

    fn get(&self, key: &K, now: UnixMillis) -> Option<V> {
        self.get_with_time(key, now).map(|(value, _)| value)
    }

    /// A value, and when it was put.
    fn get_with_time(&self, key: &K, now: UnixMillis) -> Option<(V, UnixMillis)> {
        self.map.get(key).filter(|(_, at)| now.since(*at) < self.keep_ms).cloned()
    }

    fn put(&mut self, key: K, value: V, now: UnixMillis) {
        if self.map.insert(key.clone(), (value, now)).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > self.max {
            if let Some(oldest) = self.order.pop_front() {
                self.map.remove(&oldest);
            }
        }
    }
}

/// A finalized trace with the number of providers that agreed on it.
#[derive(Clone)]
pub(crate) struct CachedTrace {
    pub(crate) trace: Rc<Trace>,
    pub(crate) agreed: usize,
}

/// An `Idempotency-Key` of a tenant in an environment.
pub(crate) type AttemptKey = (TenantId, Environment, String);

/// A tenant's days of an environment, counted back from the day of the request.
pub(crate) type AnalyticsKey = (TenantId, Environment, u64);

/// The settings, or what is wrong with them.
type SettingsRead = Result<Rc<Settings>, Rc<Vec<SettingMistake>>>;
/// A chain and a transaction on it.
type TraceKey = (&'static str, String);
/// A chain and an address on it.
type PartyKey = (&'static str, Address);

thread_local! {
    static VERIFICATIONS: Rc<VerificationCache> = Rc::default();
    static SETTINGS: RefCell<Option<SettingsRead>> = const { RefCell::new(None) };
    static ROUTES: RefCell<Option<Rc<Routes>>> = const { RefCell::new(None) };
    static SANCTIONS: RefCell<Option<Option<Rc<sanctions::SanctionsList>>>> = const { RefCell::new(None) };
    static TRACES: RefCell<BoundedMap<TraceKey, CachedTrace>> = const { RefCell::new(BoundedMap::new(TRACES_MAX, TRACE_MS)) };
    static PARTIES: RefCell<BoundedMap<PartyKey, PartyFacts>> = const { RefCell::new(BoundedMap::new(PARTIES_MAX, PARTY_MS)) };
    static REFUSED: RefCell<BoundedMap<KeyHash, RefusedCaller>> = const { RefCell::new(BoundedMap::new(REFUSED_MAX, REFUSED_KEEP_MS)) };
    static RECORDED: RefCell<BoundedMap<String, ()>> = const { RefCell::new(BoundedMap::new(RECORDED_MAX, RECORDED_MS)) };
    /// Whether the ledger had no answer to repeat when it was asked last.
    static ATTEMPTS: RefCell<BoundedMap<AttemptKey, bool>> = const { RefCell::new(BoundedMap::new(ATTEMPTS_MAX, ATTEMPT_MS)) };
    static ANALYTICS: RefCell<BoundedMap<AnalyticsKey, Rc<str>>> = const { RefCell::new(BoundedMap::new(ANALYTICS_MAX, ANALYTICS_MS)) };
    static WRONG_KEYS: RefCell<BoundedMap<String, u32>> = const { RefCell::new(BoundedMap::new(WRONG_KEY_NETWORKS_MAX, WRONG_KEYS_MS)) };
    static NEWEST_EVENT: Cell<Option<EventId>> = const { Cell::new(None) };
    static REGISTRY_OUTCOMES: RefCell<Option<(Rc<RegistryOutcomes>, UnixMillis)>> = const { RefCell::new(None) };
}

/// What verifying a payment leaves for later requests.
pub(crate) fn verification_cache() -> Rc<VerificationCache> {
    VERIFICATIONS.with(Rc::clone)
}

/// An id for an event: a fresh one, or of the same millisecond the next after the last that was given.
pub(crate) fn note_event(fresh: EventId) -> EventId {
    NEWEST_EVENT.with(|newest| {
        let last = newest.get().filter(|last| last.created_at() == fresh.created_at() && *last >= fresh);
        let id = last.map_or(fresh, EventId::next);
        newest.set(Some(id));
        id
    })
}

/// The settings, read once.
pub(crate) fn settings(read: impl FnOnce() -> Result<Settings, Vec<SettingMistake>>) -> SettingsRead {
    SETTINGS.with_borrow_mut(|kept| kept.get_or_insert_with(|| read().map(Rc::new).map_err(Rc::new)).clone())
}

/// The routes, built once; `None` only if rows of the table conflict, which a test excludes.
pub(crate) fn routes() -> Option<Rc<Routes>> {
    ROUTES.with_borrow_mut(|kept| {
        if kept.is_none() {
            *kept = Routes::build().ok().map(Rc::new);
        }
        kept.clone()
    })
}

/// The sanctions list, read once.
pub(crate) fn sanctions() -> Option<Rc<sanctions::SanctionsList>> {
    SANCTIONS
        .with_borrow_mut(|kept| kept.get_or_insert_with(|| sanctions::SanctionsList::builtin().map(Rc::new)).clone())
}

/// A finalized trace, if it is remembered.
pub(crate) fn cached_trace(chain: &'static str, tx: &str, now: UnixMillis) -> Option<CachedTrace> {
    TRACES.with_borrow(|kept| kept.get(&(chain, tx.to_owned()), now))
}

/// Remembers a finalized trace.
pub(crate) fn cache_trace(chain: &'static str, tx: String, kept: CachedTrace, now: UnixMillis) {
    TRACES.with_borrow_mut(|traces| traces.put((chain, tx), kept, now));
}

/// Code and blacklist entry of a party, if read in the last five minutes.
pub(crate) fn cached_party(chain: &'static str, address: Address, now: UnixMillis) -> Option<PartyFacts> {
    PARTIES.with_borrow(|kept| kept.get(&(chain, address), now))
}

/// Remembers code and blacklist entry of a party, unless neither could be read.
pub(crate) fn cache_party(chain: &'static str, address: Address, facts: PartyFacts, now: UnixMillis) {
    if facts != PartyFacts::default() {
        PARTIES.with_borrow_mut(|kept| kept.put((chain, address), facts, now));
    }
}

/// What is remembered of a caller.
pub(crate) fn refused_caller(key: KeyHash, now: UnixMillis) -> Option<RefusedCaller> {
    let (refused, at) = REFUSED.with_borrow(|kept| kept.get_with_time(&key, now))?;
    let is_recent = now.since(at) < REFUSED_MS;
    match refused {
        RefusedCaller::Limited { until, .. } if now >= until => None,
        RefusedCaller::Limited { .. } if !is_recent => Some(RefusedCaller::AskFirst),
        RefusedCaller::Limited { .. } => Some(refused),
        RefusedCaller::AskFirst => is_recent.then_some(refused),
    }
}

/// Remembers a refused caller.
pub(crate) fn remember_refused(key: KeyHash, refused: RefusedCaller, now: UnixMillis) {
    REFUSED.with_borrow_mut(|kept| kept.put(key, refused, now));
}

/// Whether the payment's ledger is known to have a settlement of it: then the ledger is asked before the chain.
pub(crate) fn is_payment_recorded(authorization: &str, now: UnixMillis) -> bool {
    RECORDED.with_borrow(|kept| kept.get(&authorization.to_owned(), now)).is_some()
}

/// Remembers that a payment's ledger has a settlement of it.
pub(crate) fn note_payment_recorded(authorization: String, now: UnixMillis) {
    RECORDED.with_borrow_mut(|kept| kept.put(authorization, (), now));
}

/// Whether the ledger is known to have no answer for an attempt yet: then the chain is asked at once.
pub(crate) fn is_attempt_open(attempt: &AttemptKey, now: UnixMillis) -> bool {
    ATTEMPTS.with_borrow(|kept| kept.get(attempt, now)).unwrap_or(false)
}

/// Remembers whether the ledger has an answer for an attempt; one with an answer is kept only if it had none before.
pub(crate) fn note_attempt(attempt: AttemptKey, is_open: bool, now: UnixMillis) {
    ATTEMPTS.with_borrow_mut(|kept| {
        if is_open || kept.map.contains_key(&attempt) {
            kept.put(attempt, is_open, now);
        }
    });
}

/// Until when no operators' key of a network is compared; `None` where it is.
pub(crate) fn wrong_keys_until(network: &str, now: UnixMillis) -> Option<UnixMillis> {
    let (count, since) = WRONG_KEYS.with_borrow(|kept| kept.get_with_time(&network.to_owned(), now))?;
    (count >= WRONG_KEYS_MAX).then(|| since.plus(WRONG_KEYS_MS))
}

/// Counts a wrong operators' key of a network. `is_over`: the platform has counted too many.
pub(crate) fn note_wrong_key(network: String, is_over: bool, now: UnixMillis) {
    WRONG_KEYS.with_borrow_mut(|kept| {
        let (count, since) = kept.get_with_time(&network, now).unwrap_or((0, now));
        let count = if is_over { WRONG_KEYS_MAX } else { count.saturating_add(1) };
        kept.put(network, count, since);
    });
}

/// What was answered about a tenant's days, if within five minutes.
pub(crate) fn analytics(key: &AnalyticsKey, now: UnixMillis) -> Option<Rc<str>> {
    ANALYTICS.with_borrow(|kept| kept.get(key, now))
}

/// Remembers what was answered about a tenant's days.
pub(crate) fn remember_analytics(key: AnalyticsKey, body: Rc<str>, now: UnixMillis) {
    ANALYTICS.with_borrow_mut(|kept| kept.put(key, body, now));
}

/// The registry check's results, with the time they were read.
pub(crate) fn registry_outcomes() -> Option<(Rc<RegistryOutcomes>, UnixMillis)> {
    REGISTRY_OUTCOMES.with_borrow(Clone::clone)
}

/// Remembers the registry check's results.
pub(crate) fn cache_registry_outcomes(checks: RegistryOutcomes, now: UnixMillis) {
    REGISTRY_OUTCOMES.with_borrow_mut(|kept| *kept = Some((Rc::new(checks), now)));
}

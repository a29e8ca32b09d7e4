//! Whether calls go to a provider as a JSON-RPC batch or one by one, as one isolate remembers it.

use crate::time::UnixMillis;

/// How long a provider that refuses batches is asked one by one: trying again costs one request in five minutes.
const SINGLY_MS: u64 = 300_000;

/// Whether one provider takes batches; by default it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchSupport {
    singly_until: UnixMillis,
}

/// The result of a batch in which no call was answered, and of the same calls made one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchRefusal {
    /// Whether the answer was a refusal of the batch itself ([`crate::jsonrpc::WholeBatchError::refuses_batch`]).
    pub refuses_batch: bool,
    /// Whether the calls were answered one by one.
    pub served: bool,
}

impl BatchSupport {
    /// Whether calls are sent as a batch at present.
    #[must_use]
    pub const fn is_on(self, now: UnixMillis) -> bool {
        self.singly_until.0 <= now.0
    }

    /// Notes a batch that was not answered. Only a refusal of the batch itself counts, and only where the same calls
    /// were answered one by one: a provider that refuses both refuses the calls.
    pub const fn note_refusal(&mut self, refused: BatchRefusal, now: UnixMillis) {
        if refused.refuses_batch && refused.served {
            self.singly_until = now.plus(SINGLY_MS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_000_000);

    fn after(refuses_batch: bool, served: bool) -> BatchSupport {
        let mut batching = BatchSupport::default();
        batching.note_refusal(BatchRefusal { refuses_batch, served }, NOW);
        batching
    }

    #[test]
    fn batches_are_the_rule() {
        assert!(BatchSupport::default().is_on(UnixMillis(0)));
    }

    #[test]
    fn only_a_refused_batch_whose_calls_are_served_singly_turns_batches_off() {
        assert!(!after(true, true).is_on(NOW));
        assert!(after(true, false).is_on(NOW) && after(false, true).is_on(NOW) && after(false, false).is_on(NOW));
    }

    #[test]
    fn batches_are_tried_again_after_a_while() {
        let refused = after(true, true);
        assert!(!refused.is_on(NOW.plus(SINGLY_MS - 1)) && refused.is_on(NOW.plus(SINGLY_MS)));
        assert!(refused.is_on(UnixMillis(u64::MAX)));
    }
}

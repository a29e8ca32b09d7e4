//! What a Courier sends again on demand. One event is opened at once; of many the alarm opens some at a time, so that the
//! answer waits for none of them.

use super::{Courier, REDELIVERY};
use crate::app;
use crate::objects::alarm::PacedWork;
use x402_chain::id::EventId;
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::messages::courier::CourierReply;
use x402_core::webhook::delivery::WAITING_MAX;
use x402_core::webhook::redelivery::Redelivery;

/// Deliveries that are opened again in one transaction.
const REOPENED_MAX: usize = 200;
/// The most such transactions of one alarm.
const TURNS_MAX: usize = 20;

impl Courier {
    pub(super) async fn redeliver(&self, event: EventId, now: UnixMillis) -> Result<CourierReply, Fault> {
        if !self.open_stored()? {
            return Ok(CourierReply::Redelivered(0));
        }
        let (store, seq) = (self.store(), self.next_seq(now));
        let opened = store.atomically(|| {
            let is_opened = store.reopen(event, seq, now)?;
            if !is_opened {
                store.hasten(event, now)?;
            }
            Ok(is_opened)
        });
        // Without a commit they are counted again.
        let counted = opened.as_ref().ok().and_then(|is_opened| self.waiting.get().map(|all| (all, *is_opened)));
        self.waiting.set(counted.map(|(all, is_opened)| all.saturating_add(u64::from(is_opened))));
        let is_known = opened? || store.delivery(event)?.is_some();
        self.wake_to_deliver(app::now()).await?;
        Ok(CourierReply::Redelivered(u64::from(is_known)))
    }

    pub(super) async fn redeliver_since(&self, since: UnixMillis, now: UnixMillis) -> Result<CourierReply, Fault> {
        if !self.open_stored()? {
            return Ok(CourierReply::Redelivered(0));
        }
        let (store, since) = (self.store(), EventId::new(since, [0; 10]).to_string());
        let earlier = self.redelivery()?;
        let from = Redelivery::first(earlier.as_ref(), &since);
        let (wanted, all) = (store.count_exhausted(&since)?, store.count_exhausted(from)?);
        let room = WAITING_MAX.saturating_sub(store.waiting()?);
        let left = all.min(room);
        if left > 0 {
            // Also those that ended while the clock was ahead.
            let asked_at = store.last_exhausted()?.map_or(now, |last| last.max(now));
            store.put_state(REDELIVERY, &Some(Redelivery { from: from.to_owned(), asked_at, left }))?;
            self.waiting.set(None);
            self.wake_to_deliver(app::now()).await?;
        }
        Ok(CourierReply::Redelivered(Redelivery::going(wanted, all, room)))
    }

    /// What is left of a demand.
    pub(super) fn redelivery(&self) -> Result<Option<Redelivery>, Fault> {
        Ok(self.store().state::<Option<Redelivery>>(REDELIVERY)?.flatten())
    }

    /// Opens some of what is to be sent again.
    pub(super) async fn reopen_some(&self) -> Result<(), Fault> {
        let (store, mut work) = (self.store(), PacedWork::begin());
        for _ in 0..TURNS_MAX {
            // A message may have changed it in a pause.
            let Some(job) = self.redelivery()? else { return Ok(()) };
            let limit = REOPENED_MAX.min(usize::try_from(job.left).unwrap_or(usize::MAX));
            let found = store.exhausted(&job, limit)?;
            let now = app::now();
            let left = store.atomically(|| {
                let mut opened = 0_u64;
                for event in &found {
                    opened = opened.saturating_add(u64::from(store.reopen(*event, self.next_seq(now), now)?));
                }
                let left = job.after(&found, limit, opened);
                store.put_state(REDELIVERY, &left)?;
                Ok(left)
            })?;
            if left.is_none() {
                // Some may have gone their own way.
                self.waiting.set(None);
                return Ok(());
            }
            work.pause().await;
        }
        Ok(())
    }
}

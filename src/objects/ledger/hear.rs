//! Hands events to the Couriers of the tenant's webhook endpoints when they are shipped. What one does not take at once waits in
//! a table of its own (`waiting.rs`), which holds up no record and nothing of the outbox. While something waits for a Courier,
//! what is new for it waits behind that, so that it gets a payment's events in their order. For that the turns that ship, an
//! alarm and lists, hand over one after the other.

use super::TenantLedger;
use super::shipment::{HeardEvent, Refusing};
use super::store::LedgerStore;
use crate::app;
use crate::app::couriers;
use crate::clients::courier::hand_over_within;
use crate::objects::turns::Turns;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use futures_util::future::join_all;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use x402_chain::id::EndpointId;
use x402_core::error::Fault;
use x402_core::messages::courier::CourierItem;
use x402_core::webhook::subscription::{WebhookSubscription, learned};

/// The deadline of a Courier that is asked while a list may wait: it stores a batch in some 100 ms. All are asked side by side,
/// and one for which something waits is not asked.
const NEWS_MS: u64 = 1_000;
/// After so many batches with a Courier that was late a turn asks no Courier any more.
const LATE_MAX: u32 = 2;

/// What is being handed over to Couriers.
#[derive(Default)]
pub(super) struct HandingOver {
    /// Held from when a turn looks for what waits until it notes what it has shipped.
    pub(super) turns: Turns,
    /// How often something was noted as shipped.
    pub(super) noted: Cell<u64>,
    /// Endpoints that are being sent what waits for them.
    pub(super) sending: RefCell<BTreeSet<EndpointId>>,
}

impl TenantLedger {
    /// The endpoints of the tenant. One that was made, or made active, by a clock that was ahead hears what happens from now on.
    pub(super) fn endpoints(&self) -> Result<Vec<WebhookSubscription>, Fault> {
        let store = self.store();
        self.with_state(|memory| {
            let known = memory.tenant.endpoints();
            let heeding = learned(known.to_vec(), known, app::now());
            if heeding != known {
                memory.tenant.webhooks = Some(heeding.clone());
                store.put_tenant(&memory.tenant)?;
            }
            Ok(heeding)
        })
    }

    /// Sends events to the Couriers that are to get them, unless something waits for these. Returns the endpoints whose Couriers
    /// have not taken theirs.
    pub(super) async fn send_heard(
        &self,
        endpoints: &[WebhookSubscription],
        heard: &[HeardEvent],
        refusing: &mut Refusing,
    ) -> Result<BTreeSet<EndpointId>, Fault> {
        let mut behind = BTreeSet::new();
        if endpoints.is_empty() || heard.is_empty() {
            return Ok(behind);
        }
        let (store, couriers) = (self.store(), couriers(&self.env)?);
        let (missed, is_any) = (store.missed()?, store.has_webhooks()?);
        let mut calls = Vec::new();
        for one in endpoints {
            let items: Vec<CourierItem> = wanted(one, heard).map(|each| each.event.clone().into()).collect();
            if items.is_empty() {
                continue;
            }
            let is_behind = refusing.couriers.contains(&one.id)
                || refusing.late >= LATE_MAX
                || missed.get(one.id).is_some()
                || (is_any && !store.webhook_sizes(&one.id.to_string(), 1)?.is_empty());
            if is_behind {
                behind.insert(one.id);
            } else {
                let call = hand_over_within(&couriers, one.id, items, NEWS_MS);
                calls.push(async move { (one.id, call.await) });
            }
        }
        let mut is_late = false;
        for (endpoint, taken) in join_all(calls).await {
            if let Err(fault) = taken {
                event(TelemetryKind::CouriersBehind, &[TelemetryField::Cause(&fault)]);
                refusing.couriers.insert(endpoint);
                behind.insert(endpoint);
                is_late = true;
            }
        }
        refusing.late = refusing.late.saturating_add(u32::from(is_late));
        Ok(behind)
    }
}

/// The events that an endpoint gets.
fn wanted<'a>(one: &'a WebhookSubscription, heard: &'a [HeardEvent]) -> impl Iterator<Item = &'a HeardEvent> {
    heard.iter().filter(|each| one.hears(each.event.id, &each.event.kind))
}

/// Stores what Couriers have not taken of events that count as shipped, as far as there is room; whether any was stored.
pub(super) fn keep_unheard(
    store: &LedgerStore,
    endpoints: &[WebhookSubscription],
    behind: &BTreeSet<EndpointId>,
    shipped: &[HeardEvent],
) -> Result<bool, Fault> {
    if behind.is_empty() {
        return Ok(false);
    }
    let before = store.backlog()?;
    let (mut backlog, mut dropped, mut is_any) = (before.clone(), 0_usize, false);
    for one in endpoints.iter().filter(|one| behind.contains(&one.id)) {
        // The build before takes out what has waited, and leaves its count.
        if store.webhook_sizes(&one.id.to_string(), 1)?.is_empty() {
            backlog.clear(one.id);
        }
        for each in wanted(one, shipped) {
            let text = serde_json::to_string(&each.event).map_err(Fault::internal)?;
            if backlog.add(one.id, text.len()) {
                store.put_webhook(one.id, &text)?;
                is_any = true;
            } else {
                dropped = dropped.saturating_add(1);
            }
        }
    }
    if dropped > 0 {
        event(TelemetryKind::WebhooksDropped, &[TelemetryField::Done(dropped)]);
    }
    if backlog != before {
        store.put_backlog(&backlog)?;
    }
    Ok(is_any)
}

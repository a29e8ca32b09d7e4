//! Hands events to the Couriers of the tenant's webhook endpoints. What one does not take waits in a table of its own, which
//! holds up no record and nothing of the outbox; while something waits for a Courier, what is new for it waits behind that,
//! so that it gets a payment's events in their order.

use super::TenantLedger;
use super::shipment::{HeardEvent, Refusing};
use super::store::LedgerStore;
use crate::app::couriers;
use crate::clients::courier::hand_over;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use futures_util::future::join_all;
use std::collections::BTreeSet;
use x402_chain::id::EndpointId;
use x402_core::error::Fault;
use x402_core::messages::courier::CourierItem;
use x402_core::outbox::load::ShipmentLoad;
use x402_core::records::events::EventCopy;
use x402_core::webhook::subscription::WebhookSubscription;

/// The most rows that are read for one message to a Courier.
const ROWS_MAX: i64 = 100;
/// The most messages to a Courier of what has waited, in one turn.
const MESSAGES_MAX: usize = 20;

/// Whether an endpoint gets an event: not one of before it was made.
fn wants(subscription: &WebhookSubscription, heard: &EventCopy) -> bool {
    heard.id.created_at() >= subscription.id.created_at() && subscription.wants(&heard.kind)
}

impl TenantLedger {
    /// Sends what waits for Couriers, the oldest first. What one does not take, and what is left, stays: until the next turn
    /// nothing else is sent to it.
    pub(super) async fn send_waiting(
        &self,
        subscriptions: &[WebhookSubscription],
        refusing: &mut Refusing,
    ) -> Result<(), Fault> {
        let store = self.store();
        if !store.has_webhooks()? {
            return Ok(());
        }
        let ids: Vec<EndpointId> = subscriptions.iter().map(|one| one.id).collect();
        store.forget_webhooks_but(&ids)?;
        for (endpoint, behind) in join_all(ids.into_iter().map(|id| self.send_waiting_to(id))).await {
            match behind {
                Ok(false) => {}
                Ok(true) => _ = refusing.couriers.insert(endpoint),
                Err(fault) => {
                    event(TelemetryKind::CouriersBehind, &[TelemetryField::Cause(&fault)]);
                    refusing.couriers.insert(endpoint);
                }
            }
        }
        Ok(())
    }

    /// Sends what waits for one Courier; whether some is left.
    async fn send_waiting_to(&self, endpoint: EndpointId) -> (EndpointId, Result<bool, Fault>) {
        let send = async {
            let (store, couriers) = (self.store(), couriers(&self.env)?);
            for _ in 0..MESSAGES_MAX {
                let mut load = ShipmentLoad::default();
                let sizes = store.webhook_sizes(endpoint, ROWS_MAX)?;
                let Some(last) = sizes.into_iter().take_while(|size| load.accept(size.bytes)).last() else {
                    return Ok(false);
                };
                let mut items = Vec::new();
                for row in store.webhooks(endpoint, last.seq)? {
                    items.push(CourierItem::from(EventCopy::read(&row.body)?));
                }
                hand_over(&couriers, endpoint, items).await?;
                store.delete_webhooks(endpoint, last.seq)?;
            }
            Ok(true)
        };
        (endpoint, send.await)
    }

    /// Sends events to the Couriers that are to get them, unless something waits for these.
    pub(super) async fn send_heard(
        &self,
        subscriptions: &[WebhookSubscription],
        heard: &[HeardEvent],
        refusing: &mut Refusing,
    ) -> Result<(), Fault> {
        if subscriptions.is_empty() || heard.is_empty() {
            return Ok(());
        }
        let couriers = couriers(&self.env)?;
        let asked = subscriptions.iter().filter(|one| !refusing.couriers.contains(&one.id));
        let calls = asked.filter_map(|one| {
            let wanted = heard.iter().filter(|each| wants(one, &each.event));
            let items: Vec<CourierItem> = wanted.map(|each| CourierItem::from(each.event.clone())).collect();
            if items.is_empty() {
                return None;
            }
            let call = hand_over(&couriers, one.id, items);
            Some(async move { (one.id, call.await) })
        });
        for (endpoint, taken) in join_all(calls).await {
            if let Err(fault) = taken {
                event(TelemetryKind::CouriersBehind, &[TelemetryField::Cause(&fault)]);
                refusing.couriers.insert(endpoint);
            }
        }
        Ok(())
    }
}

/// Stores what Couriers have not taken of events that count as shipped.
pub(super) fn keep_unheard<'a>(
    store: &LedgerStore,
    subscriptions: &[WebhookSubscription],
    couriers: &BTreeSet<EndpointId>,
    shipped: impl Iterator<Item = &'a HeardEvent>,
) -> Result<(), Fault> {
    if couriers.is_empty() {
        return Ok(());
    }
    for each in shipped {
        let behind = subscriptions.iter().filter(|one| couriers.contains(&one.id) && wants(one, &each.event));
        for one in behind {
            store.put_webhook(one.id, &serde_json::to_string(&each.event).map_err(Fault::internal)?)?;
        }
    }
    Ok(())
}

//! Paths of routes about webhook endpoints.

pub(super) const WEBHOOKS: &str = "/v1/webhook-endpoints";
pub(super) const WEBHOOK: &str = "/v1/webhook-endpoints/{id}";
pub(super) const WEBHOOK_ROTATE: &str = "/v1/webhook-endpoints/{id}/rotate-secret";
pub(super) const WEBHOOK_TEST: &str = "/v1/webhook-endpoints/{id}/test";
pub(super) const WEBHOOK_REDELIVER: &str = "/v1/webhook-endpoints/{id}/redeliver";
pub(super) const DELIVERIES: &str = "/v1/webhook-endpoints/{id}/deliveries";
pub(super) const DELIVERY: &str = "/v1/webhook-endpoints/{id}/deliveries/{event_id}";
pub(super) const REDELIVERY: &str = "/v1/webhook-endpoints/{id}/deliveries/{event_id}/redeliver";

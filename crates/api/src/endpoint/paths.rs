//! Paths that several rows have.

/// A path under both base paths.
pub(super) type Paths = [&'static str; 2];
pub(super) const VERIFY_PATHS: Paths = ["/facilitator/verify", "/v1/facilitator/verify"];
pub(super) const SETTLE_PATHS: Paths = ["/facilitator/settle", "/v1/facilitator/settle"];
pub(super) const SUPPORTED_PATHS: Paths = ["/facilitator/supported", "/v1/facilitator/supported"];
pub(super) const ACCEPTS_PATHS: Paths = ["/facilitator/accepts", "/v1/facilitator/accepts"];
pub(super) const HEALTH_PATHS: Paths = ["/facilitator/health", "/v1/facilitator/health"];
pub(super) const VERSION_PATHS: Paths = ["/facilitator/version", "/v1/facilitator/version"];

pub(super) const WEBHOOKS: &str = "/v1/webhook-endpoints";
pub(super) const WEBHOOK: &str = "/v1/webhook-endpoints/{id}";
pub(super) const WEBHOOK_ROTATE: &str = "/v1/webhook-endpoints/{id}/rotate-secret";
pub(super) const WEBHOOK_TEST: &str = "/v1/webhook-endpoints/{id}/test";
pub(super) const WEBHOOK_REDELIVER: &str = "/v1/webhook-endpoints/{id}/redeliver";
pub(super) const DELIVERIES: &str = "/v1/webhook-endpoints/{id}/deliveries";
pub(super) const DELIVERY: &str = "/v1/webhook-endpoints/{id}/deliveries/{event_id}";
pub(super) const REDELIVERY: &str = "/v1/webhook-endpoints/{id}/deliveries/{event_id}/redeliver";

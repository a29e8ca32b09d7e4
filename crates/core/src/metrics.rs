//! What is measured. [`MetricFamily`] is the one table: name, labels, kind, how exact it is, and its help text, as Prometheus
//! reads them (text format 0.0.4). Durations are whole milliseconds here, and seconds in the text.

pub mod histogram;
pub mod series;
pub mod shipped;
pub mod signers;
pub mod status;
pub mod text;

use histogram::{DELAY_BOUNDS_MS, LATENCY_BOUNDS_MS};

/// What kind of values a family has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// It only grows.
    Counter,
    /// It grows and falls.
    Gauge,
    /// Durations, counted in buckets with these upper bounds in milliseconds. A family's bounds never change: others are
    /// another family.
    Histogram(&'static [u64]),
}

/// How exact a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricAccuracy {
    /// Ledgers count it with what they store, and send each count once.
    Exact,
    /// Isolates count it in memory and send it every ten seconds.
    Operational,
    /// It is read when the metrics are.
    AtScrape,
}

impl MetricAccuracy {
    /// The sentence that ends the help text.
    #[must_use]
    pub const fn promise(self) -> &'static str {
        match self {
            Self::Exact => "Exact: each is counted once, within minutes, also over crashes.",
            Self::Operational => "Operational: up to ten seconds of an isolate are lost where the platform ends it.",
            Self::AtScrape => "Read at the scrape; what is behind it may be some minutes old.",
        }
    }
}

/// Declares [`MetricFamily`] from its rows: variant, kind, accuracy, name, labels, help text.
macro_rules! metric_families {
    ($($variant:ident $kind:expr, $accuracy:ident $name:literal [$($label:literal)*] $help:literal;)+) => {
        /// A family of metrics. Names and labels are stable: operators' rules and dashboards name them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum MetricFamily {
            $(#[doc = $help] $variant,)+
        }

        impl MetricFamily {
            /// All families, in the order of the text.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its name, without the suffixes of a histogram's series.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The names of its labels.
            #[must_use]
            pub const fn labels(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($label,)*],)+ }
            }

            /// What kind of values it has.
            #[must_use]
            pub const fn kind(self) -> MetricKind {
                match self { $(Self::$variant => $kind,)+ }
            }

            /// How exact it is.
            #[must_use]
            pub const fn accuracy(self) -> MetricAccuracy {
                match self { $(Self::$variant => MetricAccuracy::$accuracy,)+ }
            }

            /// What it is, a sentence.
            #[must_use]
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => $help,)+ }
            }
        }
    };
}

metric_families! {
    Verifications MetricKind::Counter, Exact "x402_verifications_total" ["chain" "outcome"]
        "Verifications that were answered and stored, by the outcome when they were stored: a status, or the code of the refusal.";
    Settlements MetricKind::Counter, Exact "x402_settlements_total" ["chain" "outcome"]
        "Settlements that have reached a status.";
    Reorgs MetricKind::Counter, Exact "x402_reorgs_total" ["chain"]
        "Verified payments whose block has left the chain.";
    VerificationDuration MetricKind::Histogram(LATENCY_BOUNDS_MS), Operational "x402_verification_duration_seconds" ["chain"]
        "How long verifications took, from the request to the answer.";
    VerificationFaults MetricKind::Counter, Operational "x402_verification_faults_total" ["chain"]
        "Verifications that got no verdict for a fault of the service or of its providers.";
    ProviderCalls MetricKind::Counter, Operational "x402_provider_calls_total" ["chain" "provider" "outcome"]
        "Requests to providers, by the provider's host.";
    ProviderCallDuration MetricKind::Histogram(LATENCY_BOUNDS_MS), Operational "x402_provider_call_duration_seconds" ["chain"]
        "How long requests to providers took, those that failed too.";
    InclusionDuration MetricKind::Histogram(DELAY_BOUNDS_MS), Operational "x402_settlement_inclusion_seconds" ["chain"]
        "The time from a settlement's reservation to when its block was seen.";
    HttpRequests MetricKind::Counter, Operational "x402_http_requests_total" ["route" "status"]
        "Requests that were answered, by route and HTTP status.";
    Errors MetricKind::Counter, Operational "x402_errors_total" ["code"]
        "Answers with an error code: refusals of a request, and faults.";
    RateLimited MetricKind::Counter, Operational "x402_rate_limited_total" ["route"]
        "Requests that were refused for a rate or a quota.";
    TelemetryEvents MetricKind::Counter, Operational "x402_events_logged_total" ["level" "kind"]
        "Lines of the log, by their message.";
    WebhookDeliveries MetricKind::Counter, Operational "x402_webhook_attempts_total" ["outcome"]
        "Attempts to deliver an event to a webhook endpoint.";
    WebhookLag MetricKind::Histogram(DELAY_BOUNDS_MS), Operational "x402_webhook_lag_seconds" []
        "The time from an event to its successful delivery to an endpoint.";
    QueueLag MetricKind::Histogram(DELAY_BOUNDS_MS), Operational "x402_queue_lag_seconds" ["queue"]
        "The time from a message's entry into a queue to its consumer.";
    SeriesDropped MetricKind::Counter, Operational "x402_series_dropped_total" []
        "Counts that were left out because a family has too many series.";
    OutboxEntries MetricKind::Gauge, AtScrape "x402_outbox_entries" []
        "Entries that wait in ledgers to be shipped; of one ledger at most 10,000 are counted.";
    CourierEntries MetricKind::Gauge, AtScrape "x402_courier_waiting_deliveries" []
        "Deliveries that wait for their webhook endpoint.";
    QuotaUsed MetricKind::Gauge, AtScrape "x402_quota_used" ["tier"]
        "Verifications that live tenants have used of their quota in this month, by tier.";
    ActiveTenants MetricKind::Gauge, AtScrape "x402_active_tenants" ["tier"]
        "Tenants with live verifications in this month, by tier.";
    SignerBalance MetricKind::Gauge, AtScrape "x402_signer_balance" ["chain" "signer"]
        "What a signer holds of its chain's coin, in whole coins.";
    SignerDays MetricKind::Gauge, AtScrape "x402_signer_days_left" ["chain" "signer"]
        "For how many days a signer's coins last, at what the last seven days have cost.";
    BuildInfo MetricKind::Gauge, AtScrape "x402_build_info" ["version"]
        "1, with the version that answers.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_of_prometheus() {
        let mut names: Vec<&str> = MetricFamily::ALL.iter().map(|family| family.name()).collect();
        for family in MetricFamily::ALL {
            let name = family.name();
            assert!(
                name.starts_with("x402_")
                    && name.bytes().all(|byte| byte.is_ascii_lowercase() || b"_0123456789".contains(&byte))
            );
            let is_counter = matches!(family.kind(), MetricKind::Counter);
            assert_eq!(name.ends_with("_total"), is_counter, "{name}");
            if matches!(family.kind(), MetricKind::Histogram(_)) {
                assert!(name.ends_with("_seconds"), "{name}");
            }
            let is_read = family.accuracy() == MetricAccuracy::AtScrape;
            assert_eq!(is_read, matches!(family.kind(), MetricKind::Gauge), "{name}: a gauge is read at the scrape");
            assert!(!family.labels().contains(&"tenant"), "{name}: a tenant is no label");
            assert!(family.help().ends_with('.'), "{name}");
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), MetricFamily::ALL.len());
    }
}

//! Billing by Stripe.

use super::{Setting, Settings};

const KEY: &str = "STRIPE_SECRET_KEY";
const WEBHOOK: &str = "STRIPE_WEBHOOK_SECRET";
const TAX: &str = "STRIPE_TAX";
const REFUND: &str = "BILLING_REFUND_DUPLICATES";

const fn row(name: &'static str, secret: bool, default: &'static str, meaning: &'static str) -> Setting {
    Setting { name, secret, required: false, default, meaning }
}

/// The rows about billing.
pub(super) const ROWS: [Setting; 4] = [
    row(
        KEY,
        true,
        "none: nothing is sold, and the routes of billing answer 503 `MISCONFIGURED`",
        "Stripe's secret key (`sk_…`), or a restricted one (`rk_…`) that may write customers, subscriptions, checkout and portal \
         sessions and refunds, and read prices, invoices and events.",
    ),
    row(
        WEBHOOK,
        true,
        "none: `/v1/webhooks/stripe` answers 503, and a change at Stripe is found by the nightly run alone",
        "The signing secret (`whsec_…`) of the webhook endpoint that `npm run stripe:setup` makes; two, with a comma between, \
         while one replaces another.",
    ),
    row(TAX, false, "off", "`on`: Stripe computes taxes in checkouts (Stripe Tax must be set up in its dashboard)."),
    row(
        REFUND,
        false,
        "on",
        "`on`: where a customer pays two checkouts, the older subscription is cancelled and its payment is refunded. `off`: it \
         is cancelled, and operators get a message to refund it.",
    ),
];

/// The most secrets of webhooks.
const SECRETS_MAX: usize = 4;

/// The settings of billing.
#[derive(Default)]
pub(super) struct BillingSettings {
    pub(super) key: Option<String>,
    pub(super) webhook_secrets: Vec<String>,
    pub(super) tax: bool,
    pub(super) refunds: bool,
}

impl BillingSettings {
    /// Reads them.
    pub(super) fn read(get: &impl Fn(&str) -> Option<String>, wrong: &mut impl FnMut(&str, &'static str)) -> Self {
        let is_word =
            |text: &str| text.len() <= 255 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let key = get(KEY);
        let is_key = |key: &str| {
            is_word(key) && ["sk_live_", "sk_test_", "rk_live_", "rk_test_"].iter().any(|kind| key.starts_with(kind))
        };
        if key.as_deref().is_some_and(|key| !is_key(key)) {
            wrong(KEY, "must be a secret or restricted key of Stripe (sk_live_…, sk_test_…, rk_live_…, rk_test_…)");
        }
        let text = get(WEBHOOK).unwrap_or_default();
        let secrets: Vec<String> =
            text.split(',').map(|secret| secret.trim().to_owned()).filter(|secret| !secret.is_empty()).collect();
        if secrets.len() > SECRETS_MAX || !secrets.iter().all(|secret| is_word(secret) && secret.starts_with("whsec_"))
        {
            wrong(WEBHOOK, "must be one to four signing secrets of Stripe (whsec_…), with commas between");
        }
        let mut switch = |name: &str, default| match get(name).as_deref() {
            None => default,
            Some("on") => true,
            Some("off") => false,
            Some(_) => {
                wrong(name, "must be `on` or `off`");
                default
            }
        };
        Self { key, webhook_secrets: secrets, tax: switch(TAX, false), refunds: switch(REFUND, true) }
    }
}

impl Settings {
    /// Stripe's secret key; `None`: nothing is sold.
    #[must_use]
    pub fn stripe_key(&self) -> Option<&str> {
        self.billing.key.as_deref()
    }

    /// The secrets of Stripe's webhooks; none: no event of Stripe's is taken.
    #[must_use]
    pub fn stripe_webhook_secrets(&self) -> &[String] {
        &self.billing.webhook_secrets
    }

    /// Whether Stripe computes taxes in checkouts.
    #[must_use]
    pub const fn stripe_tax(&self) -> bool {
        self.billing.tax
    }

    /// Whether a payment for a subscription that was paid twice is refunded.
    #[must_use]
    pub const fn refunds_duplicates(&self) -> bool {
        self.billing.refunds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pairs: &[(&str, &str)], wrong: &[&str]) -> BillingSettings {
        let get = |name: &str| pairs.iter().find(|(each, _)| *each == name).map(|(_, value)| (*value).to_owned());
        let mut found = Vec::new();
        let read = BillingSettings::read(&get, &mut |name: &str, _| found.push(name.to_owned()));
        assert_eq!(found, wrong, "{pairs:?}");
        read
    }

    #[test]
    fn keys_and_secrets_have_the_forms_of_stripe() {
        let none = check(&[], &[]);
        assert!(none.key.is_none() && none.webhook_secrets.is_empty() && !none.tax && none.refunds);
        let all = check(&[(KEY, "sk_test_1"), (WEBHOOK, "whsec_a, whsec_b"), (TAX, "on"), (REFUND, "off")], &[]);
        assert_eq!((all.webhook_secrets.len(), all.tax, all.refunds), (2, true, false));
        for wrong in ["pk_test_1", "sk_test 1", "sk_1"] {
            check(&[(KEY, wrong)], &[KEY]);
        }
        check(&[(WEBHOOK, "secret")], &[WEBHOOK]);
        check(&[(TAX, "yes"), (REFUND, "no")], &[TAX, REFUND]);
    }
}

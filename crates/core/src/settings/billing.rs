//! Billing by Stripe.

use super::{Setting, Settings};

const KEY: &str = "STRIPE_SECRET_KEY";
const WEBHOOK: &str = "STRIPE_WEBHOOK_SECRET";
const MODE: &str = "STRIPE_MODE";
const TAX: &str = "STRIPE_TAX";
const REFUND: &str = "BILLING_REFUND_DUPLICATES";

const fn row(name: &'static str, secret: bool, default: &'static str, meaning: &'static str) -> Setting {
    Setting { name, secret, required: false, default, meaning }
}

/// The rows about billing.
pub(super) const ROWS: [Setting; 5] = [
    row(
        KEY,
        true,
        "none: nothing is sold, and the routes of billing answer 503 `MISCONFIGURED`",
        "Stripe's secret key (`sk_…`), or a restricted one (`rk_…`) that may write checkout sessions, customers, invoices (to \
         preview them), the customer portal, refunds, and subscriptions with their schedules, and read events, payments of \
         invoices, payment methods, the portal's configurations, and prices. Where a permission is missing, `MISCONFIGURED` \
         names what of Stripe's API it is for.",
    ),
    row(
        WEBHOOK,
        true,
        "none: as without `STRIPE_SECRET_KEY`, since what is paid would be seen a day later",
        "The signing secret (`whsec_…`) of the webhook endpoint that `npm run stripe:setup` makes; two, with a comma between, \
         while one replaces another.",
    ),
    row(
        MODE,
        false,
        "none: a key of either mode is taken",
        "`live` or `test`: the mode that `STRIPE_SECRET_KEY` must be of; one of the other is as none. `wrangler.toml` has \
         `live` for production, where a test key would sell plans to whoever knows Stripe's test cards.",
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

/// A mode of Stripe's: live, or the one in which nobody pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StripeMode {
    Live,
    Test,
}

impl StripeMode {
    const ALL: [Self; 2] = [Self::Live, Self::Test];

    const fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }

    /// Whether a key is of it.
    fn has(self, key: &str) -> bool {
        key.split('_').nth(1) == Some(self.name())
    }
}

/// The settings of billing.
#[derive(Default)]
pub(super) struct BillingSettings {
    /// The key, unless it is of the other mode.
    pub(super) key: Option<String>,
    /// The mode that the key should be of, and is not.
    pub(super) mode_missed: Option<StripeMode>,
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
        let mode = get(MODE).and_then(|text| {
            let found = StripeMode::ALL.into_iter().find(|mode| mode.name() == text);
            if found.is_none() {
                wrong(MODE, "must be `live` or `test`");
            }
            found
        });
        let mode_missed = mode.filter(|mode| key.as_deref().is_some_and(|key| !mode.has(key)));
        let key = key.filter(|_| mode_missed.is_none());
        let mut switch = |name: &str, default| match get(name).as_deref() {
            None => default,
            Some("on") => true,
            Some("off") => false,
            Some(_) => {
                wrong(name, "must be `on` or `off`");
                default
            }
        };
        Self { key, mode_missed, webhook_secrets: secrets, tax: switch(TAX, false), refunds: switch(REFUND, true) }
    }
}

impl Settings {
    /// What keeps plans from being sold; `None`: nothing. What was sold before is looked after as long as there is a key.
    #[must_use]
    pub fn billing_gap(&self) -> Option<String> {
        let BillingSettings { key, mode_missed, webhook_secrets, .. } = &self.billing;
        let mode = mode_missed.map(|mode| format!("{KEY} is not of the {} mode, which {MODE} wants", mode.name()));
        let absent = [(KEY, key.is_none() && mode.is_none()), (WEBHOOK, webhook_secrets.is_empty())];
        let names: Vec<&str> = absent.into_iter().filter(|(_, is_absent)| *is_absent).map(|(name, _)| name).collect();
        let missing = match names.as_slice() {
            [] => None,
            [one] => Some(format!("the setting {one} is missing")),
            all => Some(format!("the settings {} are missing", all.join(" and "))),
        };
        let all: Vec<String> = [mode, missing].into_iter().flatten().collect();
        (!all.is_empty()).then(|| all.join(", and "))
    }

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
        check(&[(MODE, "production")], &[MODE]);
    }

    #[track_caller]
    fn gap(pairs: &[(&str, &str)]) -> Option<String> {
        let peppers = "01".repeat(32);
        let needed = [("ADMIN_KEY", "a key of thirty-two characters, or more"), ("KEY_PEPPERS", peppers.as_str())];
        let get = |name: &str| {
            let mut all = needed.iter().chain(pairs);
            all.find(|(each, _)| *each == name).map(|(_, value)| (*value).to_owned())
        };
        Settings::read(get).expect("settings").billing_gap()
    }

    #[test]
    fn what_is_missing_is_named_at_once() {
        let (key, secret) = ((KEY, "sk_test_1"), (WEBHOOK, "whsec_a"));
        assert_eq!(gap(&[key, secret]), None);
        assert_eq!(gap(&[]).as_deref(), Some("the settings STRIPE_SECRET_KEY and STRIPE_WEBHOOK_SECRET are missing"));
        assert_eq!(gap(&[key]).as_deref(), Some("the setting STRIPE_WEBHOOK_SECRET is missing"));
        assert_eq!(gap(&[secret]).as_deref(), Some("the setting STRIPE_SECRET_KEY is missing"));
    }

    #[test]
    fn a_key_of_the_other_mode_is_as_none() {
        let key = |mode: &str, key: &str| check(&[(MODE, mode), (KEY, key)], &[]).key;
        assert!(key("live", "sk_live_1").is_some() && key("test", "rk_test_1").is_some());
        assert!(key("live", "sk_test_1").is_none() && key("test", "rk_live_1").is_none());
        let text = gap(&[(MODE, "live"), (KEY, "rk_test_live_1")]).expect("a gap");
        let wanted = "STRIPE_SECRET_KEY is not of the live mode, which STRIPE_MODE wants, and the setting \
            STRIPE_WEBHOOK_SECRET is missing";
        assert_eq!(text, wanted);
        assert!(gap(&[(MODE, "live"), (KEY, "sk_live_1"), (WEBHOOK, "whsec_a")]).is_none());
    }
}

//! The mails and messages about billing. Receipts are Stripe's.

use super::due::DueStep;
use super::subscription::SubscriptionStatus;
use crate::tenancy::tier::Tier;
use x402_chain::time::UnixMillis;

/// A kind of notice. Its name is stored with the notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BillingNotice {
    /// A trial ends.
    TrialEnds,
    /// A charge has failed.
    PaymentFailed,
    /// The plan has changed.
    PlanChanged,
    /// Two checkouts were paid, and one subscription was cancelled.
    PaidTwice,
}

impl BillingNotice {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::TrialEnds, Self::PaymentFailed, Self::PlanChanged, Self::PaidTwice];

    /// The stored name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TrialEnds => "billing.trial_ends",
            Self::PaymentFailed => "billing.payment_failed",
            Self::PlanChanged => "billing.plan_changed",
            Self::PaidTwice => "billing.paid_twice",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == text)
    }

    /// The subject line of the mail.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            // A trial may have less than three days left when this is sent: who has cancelled it may take that back.
            Self::TrialEnds => "Your trial ends soon",
            Self::PaymentFailed => "A payment failed",
            Self::PlanChanged => "Your plan has changed",
            Self::PaidTwice => "A second subscription was cancelled",
        }
    }
}

/// A time as a mail names it, to the minute: at its end something is charged or lost, and a day is another elsewhere.
fn moment(at: UnixMillis) -> String {
    let text = at.rfc3339();
    match text.split_once('T').and_then(|(day, time)| Some((day, time.get(..5)?))) {
        Some((day, minute)) => format!("{day}, {minute} UTC"),
        None => text,
    }
}

/// The routes that a mail names, since a browser has no page of ours for them.
const PORTAL: &str = "the billing portal, to which POST /v1/billing/portal leads";

/// What is said of a tier that does not follow what is paid.
const BY_OPERATOR: &str = "The tier of your account was set by us by hand, and stays as it is.";

/// What a notice that is due is about.
#[derive(Clone, Copy, Debug, Default)]
pub struct DueNotice<'a> {
    /// The plan of the subscription.
    pub plan: Option<Tier>,
    /// Whether an operator has set the tier: nothing is lost with the subscription.
    pub is_by_operator: bool,
    /// The page on which the invoice is paid.
    pub invoice_url: Option<&'a str>,
}

/// A notice about something that is due by time, a paragraph a line; `None` where there is no notice.
#[must_use]
pub fn due_text(step: DueStep, of: DueNotice<'_>) -> Option<(BillingNotice, String)> {
    let plan = of.plan.map_or("your plan", |tier| tier.plan().name);
    match step {
        DueStep::TrialEnds(end) => {
            let then =
                if of.is_by_operator { BY_OPERATOR } else { "Your data stay, with the limits of the free tier." };
            let text = format!(
                "The trial of {plan} ends on {}: your card is charged then, and every month from then on.\nIf you do not \
                 want that, cancel before: POST /v1/billing/cancel. {then}",
                moment(end)
            );
            Some((BillingNotice::TrialEnds, text))
        }
        DueStep::PaymentFailed(end) => {
            let pay = match of.invoice_url {
                Some(url) => format!("Please pay the invoice: {url}\nOr give another card in {PORTAL}."),
                None => format!("Please pay the invoice, or give another card, in {PORTAL}."),
            };
            let then = match of.is_by_operator {
                true => {
                    format!("{BY_OPERATOR} If you no longer want the subscription, cancel it: POST /v1/billing/cancel.")
                }
                false => format!(
                    "Until {} nothing changes for you. Then the limits of the free tier hold, until the invoice is paid. \
                     Your data stay.",
                    moment(end)
                ),
            };
            Some((BillingNotice::PaymentFailed, format!("The charge for {plan} failed.\n{pay}\n{then}")))
        }
        DueStep::GraceEnds => None,
    }
}

/// A notice that the tier has changed.
#[must_use]
pub fn changed_text(from: Tier, to: Tier) -> String {
    changed_by_text(from, to, None)
}

/// A notice that the tier has changed with a subscription that has this status since. One that goes on cannot be bought once
/// more: what brings the plan back is said.
#[must_use]
pub fn changed_by_text(from: Tier, to: Tier, status: Option<SubscriptionStatus>) -> String {
    let (from, to) = (from.plan(), to.plan());
    let limits = to
        .limits
        .per_month
        .map_or("verifications without a limit".to_owned(), |most| format!("{most} verifications a month"));
    let kept = "Chains, webhook endpoints and branding beyond it are kept, and refused until";
    let more = match (to.price_usd, status) {
        (0, Some(SubscriptionStatus::PastDue | SubscriptionStatus::Unpaid)) => format!(
            "The invoice of your subscription is not paid. Pay it, and {} holds again: in {PORTAL}, or on the invoice's own \
             page, which GET /v1/billing/invoices names.\n{kept} then.",
            from.name
        ),
        (0, Some(SubscriptionStatus::Paused)) => format!(
            "Your subscription is paused, since it has no card. Give one in {PORTAL}, then POST /v1/billing/resume.\n{kept} \
             then."
        ),
        (0, _) => format!("{kept} you choose a plan again: POST /v1/billing/checkout."),
        (usd, _) if usd < from.price_usd => {
            "What is beyond it is kept, and refused until you choose a larger plan.".to_owned()
        }
        _ => "It holds from now on.".to_owned(),
    };
    format!("Your plan was {}, and is {} now: {limits}.\n{more}", from.name, to.name)
}

/// What becomes of what was paid for a second subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecondPayment {
    /// It was given back.
    Refunded,
    /// Operators are asked to give it back.
    Owed,
    /// It stays: the subscription was used.
    Used,
}

/// A notice that a second subscription is cancelled.
#[must_use]
pub fn paid_twice_text(subscription: &str, payment: SecondPayment) -> String {
    let money = match payment {
        SecondPayment::Refunded => "What was paid for it is refunded to your card.",
        SecondPayment::Owed => "If it was paid for, we refund it: you need to do nothing.",
        SecondPayment::Used => {
            "What was paid for it before is not refunded by itself. If that is wrong, please write to us."
        }
    };
    format!("There were two subscriptions. One of them, {subscription}, is cancelled; the other one counts.\n{money}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: UnixMillis = UnixMillis(1_795_910_400_000);

    const OF_PRO: DueNotice<'_> = DueNotice { plan: Some(Tier::Pro), is_by_operator: false, invoice_url: None };

    #[test]
    fn notices_name_the_plan_and_the_time() {
        for step in [DueStep::TrialEnds(END), DueStep::PaymentFailed(END)] {
            let (kind, text) = due_text(step, OF_PRO).expect("a notice");
            assert!(text.contains("pro") && text.contains("2026-11-29, 00:00 UTC"), "{text}");
            assert_eq!(BillingNotice::parse(kind.name()), Some(kind));
        }
        assert_eq!(moment(UnixMillis(END.0 + 13 * 60_000 + 59_999)), "2026-11-29, 00:13 UTC");
        assert_eq!(due_text(DueStep::GraceEnds, OF_PRO), None);
    }

    #[test]
    fn a_failed_charge_leads_to_its_invoice() {
        let url = "https://invoice.stripe.com/i/1";
        let text =
            |invoice_url| due_text(DueStep::PaymentFailed(END), DueNotice { invoice_url, ..OF_PRO }).map(|all| all.1);
        assert!(
            text(Some(url)).is_some_and(|text| text.contains(&format!("invoice: {url}\n")) && text.contains("portal"))
        );
        assert!(text(None).is_some_and(|text| !text.contains("http") && text.contains("POST /v1/billing/portal")));
    }

    #[test]
    fn a_tier_by_an_operator_is_not_said_to_be_lost() {
        for step in [DueStep::TrialEnds(END), DueStep::PaymentFailed(END)] {
            let (_, text) = due_text(step, DueNotice { is_by_operator: true, ..OF_PRO }).expect("a notice");
            assert!(text.contains("stays as it is") && text.contains("cancel"), "{text}");
            assert!(!text.contains("free") && !text.contains("Until"), "{text}");
        }
    }

    #[test]
    fn a_plan_that_is_lost_is_said_to_come_back_by_what_brings_it_back() {
        let text = |status| changed_by_text(Tier::Pro, Tier::Free, status);
        for (status, wanted, other) in [
            (SubscriptionStatus::PastDue, "/v1/billing/portal", "checkout"),
            (SubscriptionStatus::Unpaid, "/v1/billing/invoices", "checkout"),
            (SubscriptionStatus::Paused, "/v1/billing/resume", "checkout"),
            (SubscriptionStatus::Canceled, "/v1/billing/checkout", "portal"),
        ] {
            let text = text(Some(status));
            assert!(text.contains(wanted) && !text.contains(other), "{status:?}: {text}");
        }
        assert_eq!(text(None), text(Some(SubscriptionStatus::Canceled)));
        // What is smaller and paid is not owed.
        let smaller = changed_by_text(Tier::Pro, Tier::Starter, Some(SubscriptionStatus::PastDue));
        assert_eq!(smaller, changed_text(Tier::Pro, Tier::Starter));
    }

    #[test]
    fn a_change_names_the_limits() {
        assert!(changed_text(Tier::Free, Tier::Pro).contains("500000 verifications"));
        assert!(changed_text(Tier::Pro, Tier::Free).contains("kept"));
        assert!(changed_text(Tier::Pro, Tier::Enterprise).contains("without a limit"));
        let twice = |payment| paid_twice_text("sub_1", payment);
        assert!(twice(SecondPayment::Refunded).contains("refunded to your card"));
        assert!(twice(SecondPayment::Owed).contains("we refund it"));
        let used = twice(SecondPayment::Used);
        assert!(used.contains("not refunded") && !used.contains("we refund"), "{used}");
    }
}

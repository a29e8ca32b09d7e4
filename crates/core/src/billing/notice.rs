//! The mails and messages about billing. Receipts are Stripe's.

use super::due::DueStep;
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
            Self::TrialEnds => "Your trial ends in three days",
            Self::PaymentFailed => "A payment failed",
            Self::PlanChanged => "Your plan has changed",
            Self::PaidTwice => "A second subscription was cancelled",
        }
    }
}

/// The day of a time, as a mail names it.
fn day(at: UnixMillis) -> String {
    let text = at.rfc3339();
    text.split_once('T').map_or(text.as_str(), |(day, _)| day).to_owned()
}

/// A notice about something that is due by time, a paragraph a line; `None` where there is no notice.
#[must_use]
pub fn due_text(step: DueStep, plan: Option<Tier>) -> Option<(BillingNotice, String)> {
    let plan = plan.map_or("your plan", |tier| tier.plan().name);
    match step {
        DueStep::TrialEnds(end) => Some((
            BillingNotice::TrialEnds,
            format!(
                "The trial of {plan} ends on {}: your card is charged then, and every month from then on.\nIf you do not \
                 want that, cancel before. Your data stay, with the limits of the free tier.",
                day(end)
            ),
        )),
        DueStep::PaymentFailed(end) => Some((
            BillingNotice::PaymentFailed,
            format!(
                "The charge for {plan} failed. Please pay the invoice, or give another card, in the billing portal.\nUntil \
                 {} nothing changes for you. Then the limits of the free tier hold, until the invoice is paid. Your data \
                 stay.",
                day(end)
            ),
        )),
        DueStep::GraceEnds => None,
    }
}

/// A notice that the tier has changed.
#[must_use]
pub fn changed_text(from: Tier, to: Tier) -> String {
    let (from, to) = (from.plan(), to.plan());
    let limits = to
        .limits
        .per_month
        .map_or("verifications without a limit".to_owned(), |most| format!("{most} verifications a month"));
    let more = match to.price_usd {
        0 => "Chains, webhook endpoints and branding beyond it are kept, and refused until you choose a plan again.",
        _ if to.price_usd < from.price_usd => "What is beyond it is kept, and refused until you choose a larger plan.",
        _ => "It holds from now on.",
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

    #[test]
    fn notices_name_the_plan_and_the_day() {
        for step in [DueStep::TrialEnds(END), DueStep::PaymentFailed(END)] {
            let (kind, text) = due_text(step, Some(Tier::Pro)).expect("a notice");
            assert!(text.contains("pro") && text.contains("2026-11-29"), "{text}");
            assert_eq!(BillingNotice::parse(kind.name()), Some(kind));
        }
        assert_eq!(due_text(DueStep::GraceEnds, None), None);
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

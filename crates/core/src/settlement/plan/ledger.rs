//! The questions to the ledger, and what its answer leads to.

use super::onchain::{self, FindThirdParty};
use super::ready::ReadyPayment;
use super::{PlanStep, PlannedPayment};
use crate::settlement::payment::{PaymentFinding, PaymentRequest};
use std::ops::ControlFlow;
use x402_chain::checks::Checks;
use x402_chain::reason::Reason;

/// A question to the ledger.
pub struct AskLedger<'a> {
    asked: PaymentRequest,
    purpose: AskPurpose<'a>,
}

/// What comes after the ledger's answer.
enum AskPurpose<'a> {
    /// Before the chain is asked: only a record may answer.
    BeforeChain(Box<PlannedPayment<'a>>),
    /// The authorization is used: a record may answer, else the user is looked for.
    Used(Box<ReadyPayment>),
    /// The answer is the request's.
    Last(Option<Box<ReadyPayment>>),
}

/// The end of a plan: the ledger's last answer is the request's.
pub struct PlanEnd {
    /// The payment, where it is one that the Settler may go on with.
    pub ready: Option<ReadyPayment>,
    /// What the chain lets happen once, where the ledger was given all that was found out: if it has reserved or
    /// given a settlement, it is known to hold one.
    pub booked: Option<String>,
}

impl<'a> AskLedger<'a> {
    /// A refusal that no chain is asked for.
    pub(super) fn refused(
        mut asked: PaymentRequest,
        checks: Checks,
        reason: Reason,
        message: impl Into<String>,
    ) -> PlanStep<'a> {
        asked.finding = PaymentFinding::Refused(checks, reason, message.into());
        Self::last(asked)
    }

    /// What is found stands, and no chain is asked.
    pub(super) fn last(asked: PaymentRequest) -> PlanStep<'a> {
        PlanStep::AskLedger(Box::new(Self { asked, purpose: AskPurpose::Last(None) }))
    }

    /// Before the chain.
    pub(super) fn before_chain(payment: PlannedPayment<'a>) -> PlanStep<'a> {
        let asked = PaymentRequest { finding: PaymentFinding::Deferred, ..payment.asked.clone() };
        PlanStep::AskLedger(Box::new(Self { asked, purpose: AskPurpose::BeforeChain(Box::new(payment)) }))
    }

    /// With all that was found out.
    pub(super) fn with_finding(asked: PaymentRequest, ready: ReadyPayment) -> PlanStep<'a> {
        let ready = Box::new(ready);
        let purpose = match asked.finding {
            PaymentFinding::Used(..) => AskPurpose::Used(ready),
            PaymentFinding::Good(_)
            | PaymentFinding::Refused(..)
            | PaymentFinding::External(..)
            | PaymentFinding::Unavailable
            | PaymentFinding::Deferred => AskPurpose::Last(Some(ready)),
        };
        PlanStep::AskLedger(Box::new(Self { asked, purpose }))
    }

    /// With who has used the authorization, or that nobody has.
    pub(super) fn with_user(asked: PaymentRequest, ready: ReadyPayment) -> PlanStep<'a> {
        PlanStep::AskLedger(Box::new(Self { asked, purpose: AskPurpose::Last(Some(Box::new(ready))) }))
    }

    /// The question.
    #[must_use]
    pub const fn asked(&self) -> &PaymentRequest {
        &self.asked
    }

    /// What the chain lets happen once, where the ledger may give a settlement for it.
    #[must_use]
    pub fn authorization(&self) -> Option<&str> {
        match &self.purpose {
            AskPurpose::Last(None) => None,
            AskPurpose::BeforeChain(..) | AskPurpose::Used(_) | AskPurpose::Last(Some(_)) => {
                self.asked.terms.as_ref().map(|terms| terms.authorization.as_str())
            }
        }
    }

    /// Goes on by whether the ledger has an answer; `false`: more must be found out.
    pub fn then(self, is_answered: bool) -> ControlFlow<PlanEnd, PlanStep<'a>> {
        let booked = self.authorization().map(str::to_owned);
        match (self.purpose, is_answered) {
            (AskPurpose::BeforeChain(payment), true) => {
                // What the chain was not asked about is waited for, and sent only where it was judged just now.
                let message = "the payment was not checked again: repeat the request".to_owned();
                let ready = payment.into_ready(Some((Reason::UnexpectedSettle, message)), None, Checks::none());
                ControlFlow::Break(PlanEnd { ready: Some(ready.1), booked: None })
            }
            (AskPurpose::BeforeChain(payment), false) => ControlFlow::Continue(onchain::begin(*payment)),
            (AskPurpose::Used(ready), false) => ControlFlow::Continue(FindThirdParty::next(self.asked, *ready)),
            (AskPurpose::Used(ready), true) | (AskPurpose::Last(Some(ready)), _) => {
                ControlFlow::Break(PlanEnd { ready: Some(*ready), booked })
            }
            (AskPurpose::Last(None), _) => ControlFlow::Break(PlanEnd { ready: None, booked: None }),
        }
    }
}

//! The messages to the ledger, and the step after its reply.

use super::onchain::{self, FindThirdParty};
use super::ready::ReadyPayment;
use super::{PlanStep, PlannedPayment};
use crate::settlement::payment::{PaymentFinding, PaymentRequest};
use std::ops::ControlFlow;
use x402_chain::checks::Checks;
use x402_chain::reason::Reason;

/// A message to the ledger.
pub struct AskLedger<'a> {
    asked: PaymentRequest,
    purpose: AskPurpose<'a>,
}

/// What follows the ledger's reply.
enum AskPurpose<'a> {
    /// Before the chain is asked: only a record may answer.
    BeforeChain(Box<PlannedPayment<'a>>),
    /// The authorization is used: a record may answer; else the transaction that used it is searched for.
    Used(Box<ReadyPayment>),
    /// The reply answers the request.
    Last(Option<Box<ReadyPayment>>),
}

/// The end of a plan: the ledger's last reply answers the request.
pub struct PlanEnd {
    /// The payment, where the Settler may be called for it.
    pub ready: Option<ReadyPayment>,
    /// The authorization's id, where the ledger was sent a complete finding: unless it refuses, it holds a settlement
    /// from then on.
    pub recorded: Option<String>,
}

impl<'a> AskLedger<'a> {
    /// Sends a refusal that needs no chain.
    pub(super) fn refused(
        mut asked: PaymentRequest,
        checks: Checks,
        reason: Reason,
        message: impl Into<String>,
    ) -> PlanStep<'a> {
        asked.finding = PaymentFinding::Refused(checks, reason, message.into());
        Self::last(asked)
    }

    /// Sends the finding as it is, without asking the chain.
    pub(super) fn last(asked: PaymentRequest) -> PlanStep<'a> {
        PlanStep::AskLedger(Box::new(Self { asked, purpose: AskPurpose::Last(None) }))
    }

    /// Asks for a recorded answer before the chain is asked.
    pub(super) fn before_chain(payment: PlannedPayment<'a>) -> PlanStep<'a> {
        let asked = PaymentRequest { finding: PaymentFinding::Deferred, ..payment.asked.clone() };
        PlanStep::AskLedger(Box::new(Self { asked, purpose: AskPurpose::BeforeChain(Box::new(payment)) }))
    }

    /// Sends what the chain's answers showed.
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

    /// Sends the result of the search for a third party's transaction.
    pub(super) fn with_third_party(asked: PaymentRequest, ready: ReadyPayment) -> PlanStep<'a> {
        PlanStep::AskLedger(Box::new(Self { asked, purpose: AskPurpose::Last(Some(Box::new(ready))) }))
    }

    /// The message.
    #[must_use]
    pub const fn asked(&self) -> &PaymentRequest {
        &self.asked
    }

    /// The authorization's id, where the ledger may reserve a settlement or hand one over for it.
    #[must_use]
    pub fn authorization(&self) -> Option<&str> {
        match &self.purpose {
            AskPurpose::Last(None) => None,
            AskPurpose::BeforeChain(..) | AskPurpose::Used(_) | AskPurpose::Last(Some(_)) => {
                self.asked.terms.as_ref().map(|terms| terms.authorization.as_str())
            }
        }
    }

    /// The next step, or the end. `is_answered`: the ledger has an answer, and does not need the chain.
    pub fn then(self, is_answered: bool) -> ControlFlow<PlanEnd, PlanStep<'a>> {
        let recorded = self.authorization().map(str::to_owned);
        match (self.purpose, is_answered) {
            (AskPurpose::BeforeChain(payment), true) => {
                // A payment that was not checked on the chain is waited for, but nothing new is sent for it.
                let message = "the payment was not checked again: repeat the request".to_owned();
                let ready = payment.into_ready(Some((Reason::UnexpectedSettle, message)), None, Checks::none());
                ControlFlow::Break(PlanEnd { ready: Some(ready.1), recorded: None })
            }
            (AskPurpose::BeforeChain(payment), false) => ControlFlow::Continue(onchain::begin(*payment)),
            (AskPurpose::Used(ready), false) => ControlFlow::Continue(FindThirdParty::next(self.asked, *ready)),
            (AskPurpose::Used(ready), true) | (AskPurpose::Last(Some(ready)), _) => {
                ControlFlow::Break(PlanEnd { ready: Some(*ready), recorded })
            }
            (AskPurpose::Last(None), _) => ControlFlow::Break(PlanEnd { ready: None, recorded: None }),
        }
    }
}

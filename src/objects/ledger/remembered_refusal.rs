//! The reply by which a ledger makes the calling isolate remember a refused caller, so that the caller's next requests
//! cost no call to a chain.

use super::reply::LedgerOutput;
use x402_api::ApiReply;
use x402_chain::time::UnixMillis;
use x402_core::error::{ErrorCode, Fault};
use x402_core::messages::ledger::{LedgerReply, RefusedCaller};
use x402_core::tenancy::admission::RateWindows;

/// A refusal at admission, with what the isolate is to remember. A conflict of `Idempotency-Key`s says nothing about
/// the caller's next request, and is not remembered.
pub(super) fn with_remembered_refusal(
    reply: ApiReply,
    fault: &Fault,
    rates: RateWindows,
    now: UnixMillis,
) -> LedgerOutput {
    if fault.code == ErrorCode::IdempotencyConflict {
        return reply.into();
    }
    let refused = if fault.code == ErrorCode::RateLimited {
        let until = now.plus(fault.retry_after_s.unwrap_or(1).saturating_mul(1_000));
        RefusedCaller::Limited { until, detail: fault.detail.to_string(), upgrade: fault.upgrade, rates }
    } else {
        RefusedCaller::AskFirst
    };
    LedgerOutput::of(LedgerReply::Refused(refused), reply)
}

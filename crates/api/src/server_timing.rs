//! The header `Server-Timing` (<https://www.w3.org/TR/server-timing/>): how long the steps of a request took.

use core::fmt::Write;

/// A step of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestStep {
    /// Who asks was found out: a session, an operator's key. A tenant's key takes no I/O.
    Auth,
    /// Providers of a chain were asked.
    Chain,
    /// The tenant's ledger was asked.
    Ledger,
    /// The settler was asked to bring a payment to the chain.
    Settler,
}

impl RequestStep {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Auth, Self::Chain, Self::Ledger, Self::Settler];

    /// The name in the header.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Chain => "chain",
            Self::Ledger => "ledger",
            Self::Settler => "settler",
        }
    }

    /// The member of a log line.
    #[must_use]
    pub const fn log_member(self) -> &'static str {
        match self {
            Self::Auth => "auth_ms",
            Self::Chain => "chain_ms",
            Self::Ledger => "ledger_ms",
            Self::Settler => "settler_ms",
        }
    }
}

/// The value of the header: steps that took place, with their milliseconds, then the whole request.
#[must_use]
pub fn server_timing(steps: &[(RequestStep, u64)], total_ms: u64) -> String {
    let mut value = String::new();
    for (step, ms) in steps {
        // Writing to a text cannot fail.
        let _ = write!(value, "{};dur={ms}, ", step.name());
    }
    let _ = write!(value, "total;dur={total_ms}");
    value
}

/// Whether an answer shows its times: never where a credential may have been refused, or something may belong to somebody
/// else, so that exact times name no key, tenant or object that exists.
#[must_use]
pub const fn shows_times(status: u16, is_caller_known: bool) -> bool {
    is_caller_known && !matches!(status, 401 | 403 | 404)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_lists_the_steps_that_took_place() {
        assert_eq!(server_timing(&[], 0), "total;dur=0");
        let steps = [(RequestStep::Auth, 0), (RequestStep::Chain, 41), (RequestStep::Ledger, 7)];
        assert_eq!(server_timing(&steps, 50), "auth;dur=0, chain;dur=41, ledger;dur=7, total;dur=50");
        for step in RequestStep::ALL {
            assert_eq!(step.log_member(), format!("{}_ms", step.name()));
        }
    }

    #[test]
    fn a_refusal_shows_no_times() {
        for status in [200, 201, 400, 409, 422, 429, 500, 503] {
            assert!(shows_times(status, true), "{status}");
            assert!(!shows_times(status, false), "{status}");
        }
        for status in [401, 403, 404] {
            assert!(!shows_times(status, true), "{status}");
        }
    }
}

//! `POST /v1/admin/tenants/{id}/rebuild`: what it is asked, and how far it has come.

use crate::body::{invalid, parse_body, variant};
use serde::{Deserialize, Serialize};
use x402_chain::id::SettlementId;
use x402_chain::network::Environment;
use x402_chain::time::Period;
use x402_core::error::Fault;

/// What a tenant is rebuilt from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum RebuildSource {
    /// Its ledgers: rows of the directory are rebuilt.
    Ledger,
    /// The directory, with the months' records: a ledger that is empty is rebuilt.
    Directory,
}

/// The body of the request.
#[derive(Debug, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RebuildBody {
    /// What is intact.
    #[serde(deserialize_with = "variant")]
    pub from: RebuildSource,
    /// `next_cursor` of the part before; only with `ledger`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 100)))]
    pub cursor: Option<String>,
}

/// Where a part of what ledgers give the directory begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyCursor {
    /// With all that is not a list.
    First,
    /// Settlements of an environment, after this one.
    Settlements(Environment, Option<SettlementId>),
    /// Totals of an environment, of this month and earlier ones.
    Totals(Environment, Period),
}

impl CopyCursor {
    /// The cursor as a text; `None` of the first.
    #[must_use]
    pub fn text(self) -> Option<String> {
        match self {
            Self::First => None,
            Self::Settlements(of, None) => Some(format!("{}:stl_", of.name())),
            Self::Settlements(of, Some(after)) => Some(format!("{}:{after}", of.name())),
            Self::Totals(of, month) => Some(format!("{}:{month}", of.name())),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (name, rest) = text.split_once(':')?;
        let of = Environment::parse(name)?;
        if rest == "stl_" {
            return Some(Self::Settlements(of, None));
        }
        let settlement = SettlementId::parse(rest).map(|after| Self::Settlements(of, Some(after)));
        settlement.or_else(|| Period::parse(rest).map(|month| Self::Totals(of, month)))
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rebuild {
    /// Rows of the directory, from where the part before has ended.
    Directory(CopyCursor),
    /// Ledgers that are empty. Each of them knows how far it has come.
    Ledgers,
}

/// Reads a body.
///
/// # Errors
/// `INVALID_JSON`, `INVALID_REQUEST` naming the member.
pub fn read_rebuild(body: &[u8]) -> Result<Rebuild, Fault> {
    let RebuildBody { from, cursor } = parse_body(body)?;
    let wrong = || invalid("cursor", "must be the next_cursor of a part before, and is none with 'directory'");
    match (from, cursor) {
        (RebuildSource::Directory, None) => Ok(Rebuild::Ledgers),
        (RebuildSource::Directory, Some(_)) => Err(wrong()),
        (RebuildSource::Ledger, None) => Ok(Rebuild::Directory(CopyCursor::First)),
        (RebuildSource::Ledger, Some(text)) => CopyCursor::parse(&text).map(Rebuild::Directory).ok_or_else(wrong),
    }
}

/// Something that cannot be rebuilt so, and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct MissingPart {
    /// What is missing.
    pub what: &'static str,
    /// Where it comes from, or what it is until then.
    pub from: &'static str,
}

const fn missing(what: &'static str, from: &'static str) -> MissingPart {
    MissingPart { what, from }
}

/// What no ledger knows of the directory.
pub const MISSING_IN_LEDGERS: &[MissingPart] = &[
    missing("people, members, invitations, sessions, sign-ins", "the directory's backup"),
    missing(
        "the tenant's contact, support address, branding, alert URL",
        "the backup; the contact is <id>@lost.invalid",
    ),
    missing("who sets the tier", "PATCH the tenant: tier_by is 'operator' where the tier is not free"),
    missing(
        "customer and subscription",
        "Stripe, whose customers name the tenant: POST /v1/admin/billing/check lists them",
    ),
    missing("URL and secret of webhook endpoints", "their owner: they are paused, with the URL https://lost.invalid/"),
    missing("revoked keys, the kind and the last characters of keys", "the backup; a key is shown as 'bearer'"),
    missing(
        "retired addresses, proofs, indexes of derived addresses",
        "the backup: restore derived_recipients before EVM_XPUB is used",
    ),
    missing("usage of periods that ended before the ledger kept them", "the backup"),
    missing("totals of months that are archived", "the backup"),
    missing("audit log, notices, mails", "the backup; the events of changes are in the months"),
];

/// What the directory does not know of a ledger.
pub const MISSING_IN_DIRECTORY: &[MissingPart] = &[
    missing("what had happened and was not shipped", "nowhere: some four seconds, or what waited in the outbox"),
    missing("answers under an Idempotency-Key, identifiers of payments", "nowhere: a repeat is judged by its claim"),
    missing("payments that were verified and not settled", "nowhere: a verification of one counts once more"),
    missing("events that waited for a webhook endpoint", "GET /v1/events; POST a redelivery"),
    missing("requests of the last hour", "nowhere: the rate windows begin anew"),
];

/// How many rows, or objects, this part has dealt with; what was there already is counted too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct RebuiltCounts {
    /// Ledgers that gave what they know, or were rebuilt.
    pub ledgers: usize,
    /// Keys.
    pub api_keys: usize,
    /// Addresses.
    pub recipients: usize,
    /// Webhook endpoints.
    pub webhook_endpoints: usize,
    /// Periods with their usage.
    pub periods: usize,
    /// Settlements.
    pub settlements: usize,
    /// Verification records.
    pub records: usize,
    /// Months whose totals were copied.
    pub months: usize,
}

/// The answer.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct RebuildView {
    /// The tenant, `ten_…`.
    pub tenant: String,
    /// What it is rebuilt from.
    pub from: RebuildSource,
    /// Whether it is over. If not, send the same again, with `next_cursor` as `cursor` where there is one.
    pub done: bool,
    /// Where the next part begins; `null` where the ledger knows that, and at the end.
    pub next_cursor: Option<String>,
    /// What this part has dealt with.
    pub rebuilt: RebuiltCounts,
    /// What cannot be rebuilt so.
    pub missing: &'static [MissingPart],
}

#[cfg(test)]
mod tests {
    use super::*;
    use x402_chain::time::UnixMillis;
    use x402_core::error::ErrorCode;

    #[test]
    fn a_cursor_is_read_as_it_was_given() {
        let (of, at) = (Environment::Test, UnixMillis(1_795_000_000_000));
        for cursor in [
            CopyCursor::Settlements(Environment::Live, None),
            CopyCursor::Settlements(of, Some(SettlementId::new(at, [1; 10]))),
            CopyCursor::Totals(of, Period::of(at)),
        ] {
            let text = cursor.text().expect("a text");
            let body = serde_json::json!({"from": "ledger", "cursor": text}).to_string();
            assert_eq!(read_rebuild(body.as_bytes()), Ok(Rebuild::Directory(cursor)));
        }
        assert_eq!(CopyCursor::First.text(), None);
    }

    #[test]
    fn a_body_names_what_is_intact() {
        let read = |text: &str| read_rebuild(text.as_bytes()).map_err(|fault| (fault.code, fault.param));
        assert_eq!(read(r#"{"from":"ledger"}"#), Ok(Rebuild::Directory(CopyCursor::First)));
        assert_eq!(read(r#"{"from":"directory"}"#), Ok(Rebuild::Ledgers));
        for (text, member) in [
            (r#"{"from":"backup"}"#, "from"),
            (r#"{"from":"directory","cursor":"live:stl_"}"#, "cursor"),
            (r#"{"from":"ledger","cursor":"live:ver_"}"#, "cursor"),
            (r#"{"from":"ledger","cursor":"prod:stl_"}"#, "cursor"),
        ] {
            assert_eq!(read(text), Err((ErrorCode::InvalidRequest, Some(member.into()))), "{text}");
        }
    }
}

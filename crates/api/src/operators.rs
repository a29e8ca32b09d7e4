//! What operators do for support: find, send a mail again, end sessions.

use crate::admin::read_email_member;
use crate::body::invalid;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use x402_chain::address::{Address, Family, TxId};
use x402_chain::id::{SettlementId, TenantId, VerificationId};
use x402_chain::network::Environment;
use x402_core::alert::operator::KeptAlert;
use x402_core::error::{ErrorCode, Fault};

/// The most bytes of what is searched for.
pub const QUERY_BYTES_MAX: usize = 254;

/// What is searched for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchTerm {
    /// A mail address, in lower case.
    Email(String),
    /// An address on a chain.
    Recipient(Address),
    /// A settlement's id.
    Settlement(SettlementId),
    /// A verification's id, and the tenant to search in; `None`: only what the directory knows.
    Verification(VerificationId, Option<TenantId>),
    /// A transaction's hash or first signature.
    Transaction(TxId),
}

/// Reads `q` and `tenant` of the query string. Other parameters are ignored.
///
/// # Errors
/// `INVALID_REQUEST`, naming the parameter.
pub fn read_search(query: &str) -> Result<SearchTerm, Fault> {
    let of = |name: &str| form_urlencoded::parse(query.as_bytes()).find(|(given, _)| given == name);
    let text = of("q").map(|(_, text)| text).unwrap_or_default();
    let text = text.trim();
    if text.is_empty() || text.len() > QUERY_BYTES_MAX {
        return Err(invalid("q", &format!("must be a text of 1 to {QUERY_BYTES_MAX} bytes")));
    }
    if text.contains('@') {
        return read_email_member("q", text).map(SearchTerm::Email);
    }
    if let Some(id) = SettlementId::parse(text) {
        return Ok(SearchTerm::Settlement(id));
    }
    if let Some(id) = VerificationId::parse(text) {
        let tenant = match of("tenant") {
            Some((_, tenant)) => {
                Some(TenantId::parse(&tenant).ok_or_else(|| invalid("tenant", "must be a tenant's id"))?)
            }
            None => None,
        };
        return Ok(SearchTerm::Verification(id, tenant));
    }
    let families = [Family::Evm, Family::Svm];
    let address = families.iter().find_map(|family| Address::parse(*family, text)).map(SearchTerm::Recipient);
    let transaction = || families.iter().find_map(|family| TxId::parse(*family, text)).map(SearchTerm::Transaction);
    let rule = "must be a mail address, an address on a chain, 'stl_…', 'ver_…', or a transaction's hash or signature";
    address.or_else(transaction).ok_or_else(|| invalid("q", rule))
}

/// Reads a mail address that is a part of the path.
///
/// # Errors
/// `NOT_FOUND` where it is none.
pub fn address_in_path(part: &str) -> Result<String, Fault> {
    let decoded = percent_decode_str(part).decode_utf8().ok();
    let address = decoded.and_then(|text| read_email_member("address", &text).ok());
    address.ok_or_else(|| Fault::new(ErrorCode::NotFound, "no such mail address"))
}

/// Declares [`FoundKind`] from its rows: variant, name, documentation.
macro_rules! kinds {
    ($($variant:ident $name:literal $doc:literal;)+) => {
        /// What was found.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
        #[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
        #[serde(rename_all = "lowercase")]
        pub enum FoundKind {
            $(#[doc = $doc] $variant,)+
        }

        impl FoundKind {
            /// The kind with this name; `None` for any other text.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                match text {
                    $($name => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    Tenant "tenant" "A tenant whose contact the mail address is; the state is its status.";
    Person "person" "A person who signs in with the mail address.";
    Member "member" "The same person as a member of a tenant; the state is the role.";
    Mark "mark" "The mail address gets no mails; the state is `bounced` or `complained`.";
    Invitation "invitation" "An invitation of the mail address; the state is `open`, `accepted`, `revoked` or `expired`.";
    Mail "mail" "A mail to the address; the state is `queued`, `sent`, `failed` or `suppressed`.";
    Recipient "recipient" "A recipient's address; the state is `held`, `first_use` or `retired`.";
    Settlement "settlement" "A payment that was taken to the chain; the state is its status.";
    Verification "verification" "A verification.";
}

/// One thing that was found, and whose it is.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct FoundView {
    /// What it is.
    pub kind: FoundKind,
    /// Its id, or the address.
    pub id: String,
    /// The tenant that it belongs to, `ten_…`; `null` where it belongs to none.
    pub tenant: Option<String>,
    /// Its environment; `null` where it belongs to both or to none.
    pub environment: Option<Environment>,
    /// Its state; `null` where the directory does not know it.
    pub state: Option<String>,
    /// When it was made, RFC 3339.
    pub created_at: String,
}

/// Something that is wrong, which operators are alerted to.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct OperatorAlertView {
    /// `error_rate`, `chain_unreachable`, `signer_low` or `sanctions_stale`.
    pub kind: &'static str,
    /// The chain, or the chain and the signer; empty where there is but one.
    pub subject: String,
    /// What was found when operators were alerted last.
    pub detail: String,
    /// Since when each check has found it, RFC 3339.
    pub since: String,
    /// When operators were alerted to it last, RFC 3339.
    pub alerted_at: String,
}

impl OperatorAlertView {
    /// An alert; `None` where it has not begun.
    #[must_use]
    pub fn of(alert: KeptAlert) -> Option<Self> {
        let KeptAlert { kind, subject, detail, first, notified, .. } = alert;
        let alerted_at = notified?.rfc3339();
        Some(Self { kind: kind.name(), subject, detail, since: first.rfc3339(), alerted_at })
    }
}

/// The answer to `POST /v1/admin/mails/{id}/resend`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct MailQueued {
    /// The new mail, `mail_…`.
    pub id: String,
    /// The mail that it repeats.
    pub repeats: String,
}

/// The answer to `DELETE /v1/admin/mail-marks/{address}`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct MarkRemoved {
    /// The address, which gets mails again.
    pub address: String,
    /// When the mark was removed, RFC 3339.
    pub removed_at: String,
}

/// The answer to `DELETE /v1/admin/people/{id}/sessions`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct PersonSessionsEnded {
    /// The person, `per_…`.
    pub person_id: String,
    /// How many sessions were ended.
    pub ended: usize,
    /// When, RFC 3339.
    pub ended_at: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: &str = "ten_01a22830e24a3a1f7b1ccee9";

    #[test]
    fn a_term_is_known_by_its_shape() {
        let read = |query: &str| read_search(query).map_err(|fault| fault.param.map(|param| param.to_string()));
        assert_eq!(read("q=%20Ann@Example.com%20"), Ok(SearchTerm::Email("ann@example.com".to_owned())));
        assert_eq!(read("q=a%2Bb@c.d"), Ok(SearchTerm::Email("a+b@c.d".to_owned())));
        let ver = "ver_01KB0000000000000000000000";
        let id = VerificationId::parse(ver).expect("an id");
        assert_eq!(read(&format!("q={ver}")), Ok(SearchTerm::Verification(id, None)));
        let tenant = TenantId::parse(TENANT);
        assert_eq!(read(&format!("q={ver}&tenant={TENANT}")), Ok(SearchTerm::Verification(id, tenant)));
        assert!(matches!(read("q=stl_01KB0000000000000000000000"), Ok(SearchTerm::Settlement(_))));
        let recipient = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C";
        for text in [recipient.to_owned(), recipient.to_lowercase(), "11111111111111111111111111111112".to_owned()] {
            assert!(matches!(read(&format!("q={text}")), Ok(SearchTerm::Recipient(_))), "{text}");
        }
        for text in [format!("0x{}", "Ab".repeat(32)), "1".repeat(64)] {
            assert!(matches!(read(&format!("q={text}")), Ok(SearchTerm::Transaction(_))), "{text}");
        }
        let long = format!("q={}@b.c", "a".repeat(QUERY_BYTES_MAX));
        for wrong in ["", "q=", "q=%20", "q=a@", "q=ver_1", "q=x402_live_1", "q=0x12", &long] {
            assert_eq!(read(wrong), Err(Some("q".to_owned())), "{wrong}");
        }
        assert_eq!(read(&format!("q={ver}&tenant=ten_1")), Err(Some("tenant".to_owned())));
    }

    #[test]
    fn an_address_in_a_path_is_decoded() {
        for (part, want) in [("Ann@example.com", Some("ann@example.com")), ("a%2Bb%40c.d", Some("a+b@c.d"))] {
            assert_eq!(address_in_path(part).ok().as_deref(), want);
        }
        for wrong in ["ann", "%ff@c.d", "a%20b@c.d"] {
            assert_eq!(address_in_path(wrong).map_err(|fault| fault.code), Err(ErrorCode::NotFound), "{wrong}");
        }
    }
}

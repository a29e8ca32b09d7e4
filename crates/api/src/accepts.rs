//! `POST /facilitator/accepts`: a seller's partial requirements, completed with what a buyer's client needs.
//!
//! Two forms are taken. A list, as Faremeter's middleware sends it (`{x402Version, resource, accepts: [...]}`, in
//! either version of the protocol), is answered 200 in the same form. A price, as thirdweb's server sends it
//! (`{resourceUrl, method, network, price, routeConfig, ...}`), is answered 402 with the body of a version 1
//! `PaymentRequired`, which is what its client takes for the answer.

mod price;

use super::ApiReply;
use super::body::invalid;
use serde_json::{Map, Value, json};
use x402_chain::address::{Address, Family};
use x402_chain::amount::Amount;
use x402_chain::network::Network;
use x402_chain::reason::Reason;
use x402_chain::schemes::Scheme;
use x402_chain::x402::{X402Version, network_named};
use x402_core::error::{ErrorCode, Fault};
use x402_core::tenancy::payee::{PayeeAnswer, PayeeQuery};

/// The scheme of completed requirements.
const SCHEME: Scheme = Scheme::Exact;
/// The most requirements in one request.
pub(super) const ENTRIES_MAX: usize = 100;
/// How long a buyer's authorization is valid where the seller names no time, seconds.
const TIMEOUT_S: u64 = 300;
/// The most characters of a `payTo` that an error text quotes.
const QUOTED_MAX: usize = 64;

/// A JSON object whose members are passed on unread.
type JsonMap = Map<String, Value>;

/// Why an entry is left out.
type EntryRefusal = (Reason, String);

/// Requirements to complete, in either of the two forms.
#[derive(Clone, Debug, PartialEq)]
pub struct AcceptsRequest {
    form: AcceptsForm,
    entries: Vec<Result<AcceptsEntry, EntryRefusal>>,
}

/// The form of the request, and of its answer.
#[derive(Clone, Debug, PartialEq)]
enum AcceptsForm {
    /// A list, with its resource.
    List(X402Version, Value),
    /// A price, with the seller's sentence for a buyer who has not paid.
    Price(String),
}

/// One entry, as far as it can be read without the tenant.
#[derive(Clone, Debug, PartialEq)]
struct AcceptsEntry {
    given: JsonMap,
    network: &'static Network,
    pay_to: Option<Address>,
}

/// Whether payments on a network are settled at present, and what the service adds to requirements there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OfferedSettlement {
    /// They are; on Solana with this fee payer.
    Settled {
        /// The fee payer (Solana).
        fee_payer: Option<String>,
    },
    /// No signer can settle on the network at present.
    NotSettled,
}

impl AcceptsRequest {
    /// Reads a body.
    ///
    /// # Errors
    /// `INVALID_JSON`; `INVALID_REQUEST` where it has neither form.
    pub fn read(body: &[u8]) -> Result<Self, Fault> {
        let mut body: JsonMap = serde_json::from_slice(body).map_err(|error| {
            Fault::new(ErrorCode::InvalidJson, "the body is not a JSON object").because_json(&error)
        })?;
        let accepts = body.remove("accepts").filter(|accepts| !accepts.is_null());
        let Some(accepts) = accepts else { return price::read_price_request(&body) };
        let version = match body.get("x402Version").filter(|version| !version.is_null()) {
            None => X402Version::Two,
            Some(version) if *version == json!(2) => X402Version::Two,
            Some(version) if *version == json!(1) => X402Version::One,
            Some(_) => return Err(invalid("x402Version", "must be 1 or 2")),
        };
        let Value::Array(entries) = accepts else { return Err(invalid("accepts", "must be a list")) };
        if entries.len() > ENTRIES_MAX {
            return Err(invalid("accepts", &format!("may have {ENTRIES_MAX} entries at most")));
        }
        let resource = match body.remove("resource").filter(|resource| !resource.is_null()) {
            None => json!({"url": ""}),
            Some(resource) if resource.is_object() || version == X402Version::One => resource,
            Some(_) => return Err(invalid("resource", "must be an object")),
        };
        let entries = entries.into_iter().map(|entry| AcceptsEntry::read(entry, version)).collect();
        Ok(Self { form: AcceptsForm::List(version, resource), entries })
    }

    /// The queries to the tenant's ledger, in the order of the entries that can be completed.
    #[must_use]
    pub fn payee_queries(&self) -> Vec<PayeeQuery> {
        let wanted = |entry: &AcceptsEntry| PayeeQuery { network: entry.network.key.to_owned(), pay_to: entry.pay_to };
        self.entries.iter().flatten().map(wanted).collect()
    }

    /// The networks of the entries that can be completed, each once.
    #[must_use]
    pub fn networks(&self) -> Vec<&'static Network> {
        let mut all: Vec<&'static Network> = Vec::new();
        for entry in self.entries.iter().flatten() {
            if !all.iter().any(|network| network.key == entry.network.key) {
                all.push(entry.network);
            }
        }
        all
    }

    /// The answer. `payees` are the ledger's answers to [`Self::payee_queries`], in the same order; `offered` says
    /// what is settled on a network. Entries that are not the tenant's, or not settled here, are left out; `error`
    /// says why.
    #[must_use]
    pub fn answer(self, payees: Vec<PayeeAnswer>, offered: impl Fn(&Network) -> OfferedSettlement) -> ApiReply {
        let version = self.form.version();
        let mut payees = payees.into_iter();
        let (mut accepts, mut left_out) = (Vec::new(), Vec::new());
        for (at, entry) in self.entries.into_iter().enumerate() {
            let completed = entry.and_then(|entry| {
                let payee = payees.next().unwrap_or_else(unanswered_payee);
                entry.complete(version, payee, &offered)
            });
            match completed {
                Ok(whole) => accepts.push(Value::Object(whole)),
                Err((reason, message)) => left_out.push(format!("accepts[{at}]: {}: {message}", reason.as_str())),
            }
        }
        self.form.answer(&accepts, &left_out.join("; "))
    }
}

/// Stands for an answer that the ledger did not give.
fn unanswered_payee() -> PayeeAnswer {
    PayeeAnswer::Refused(Reason::UnexpectedVerify, "the ledger did not answer about this entry".to_owned())
}

impl AcceptsForm {
    const fn version(&self) -> X402Version {
        match self {
            Self::List(version, _) => *version,
            Self::Price(_) => X402Version::One,
        }
    }

    fn answer(self, accepts: &[Value], left_out: &str) -> ApiReply {
        match self {
            Self::List(X402Version::Two, resource) if left_out.is_empty() => {
                ApiReply::json(200, &json!({"x402Version": 2, "resource": resource, "accepts": accepts}))
            }
            Self::List(X402Version::Two, resource) => ApiReply::json(
                200,
                &json!({"x402Version": 2, "resource": resource, "accepts": accepts, "error": left_out}),
            ),
            Self::List(X402Version::One, _) => {
                ApiReply::json(200, &json!({"x402Version": 1, "accepts": accepts, "error": left_out}))
            }
            Self::Price(unpaid) if left_out.is_empty() => {
                ApiReply::json(402, &json!({"x402Version": 1, "accepts": accepts, "error": unpaid}))
            }
            Self::Price(_) => ApiReply::json(402, &json!({"x402Version": 1, "accepts": accepts, "error": left_out})),
        }
    }
}

impl AcceptsEntry {
    fn read(entry: Value, version: X402Version) -> Result<Self, EntryRefusal> {
        let wrong = |message: &str| (Reason::InvalidRequirements, message.to_owned());
        let Value::Object(mut given) = entry else { return Err(wrong("each entry must be an object")) };
        // Faremeter's server sends 0 for the default timeout.
        let is_default = |name: &str, value: &Value| name == "maxTimeoutSeconds" && value.as_u64() == Some(0);
        given.retain(|name, value| !value.is_null() && !is_default(name, value));
        let text = |name: &str| given.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let network = text("network").and_then(network_named);
        let network =
            network.ok_or_else(|| (Reason::InvalidNetwork, "the network is missing or not known".to_owned()))?;
        if given.contains_key("scheme") && text("scheme").and_then(Scheme::parse).is_none() {
            return Err((Reason::UnsupportedScheme, format!("the only scheme served here is '{}'", SCHEME.name())));
        }
        for name in ["asset", "payTo", "amount", "maxAmountRequired"] {
            if given.get(name).is_some_and(|value| !value.is_string()) {
                return Err(wrong(&format!("{name} must be a string")));
            }
        }
        let own = |text: &str| Address::parse(network.family, text) == Some(network.asset.address);
        if text("asset").is_some_and(|asset| !own(asset)) {
            return Err((Reason::AssetNotAllowed, format!("the registered asset is {}", network.asset.text)));
        }
        let contract = given.get("extra").and_then(|extra| extra.get("verifyingContract"));
        if contract.is_some_and(|contract| !contract.is_null() && !contract.as_str().is_some_and(own)) {
            return Err(wrong("extra.verifyingContract names another contract than the asset"));
        }
        if given.get("maxTimeoutSeconds").is_some_and(|timeout| timeout.as_u64().is_none()) {
            return Err(wrong("maxTimeoutSeconds must be a whole number"));
        }
        if given.get("extra").is_some_and(|extra| !extra.is_object()) {
            return Err(wrong("extra must be an object"));
        }
        let amount = ["amount", "maxAmountRequired"].into_iter().find_map(text);
        let amount = amount.filter(|amount| Amount::parse_atomic(amount).is_some_and(|amount| !amount.is_zero()));
        let amount =
            amount.ok_or_else(|| wrong("the amount must be a string of decimal digits, above zero"))?.to_owned();
        let pay_to = text("payTo").map(|text| {
            let short: String = text.chars().take(QUOTED_MAX).collect();
            Address::parse(network.family, text)
                .ok_or_else(|| wrong(&format!("payTo '{short}' is not an address of the network")))
        });
        let pay_to = pay_to.transpose()?;
        let name = if version == X402Version::One { "maxAmountRequired" } else { "amount" };
        given.insert(name.to_owned(), amount.into());
        Ok(Self { given, network, pay_to })
    }

    /// The entry with its missing members; given members stay, unless they contradict the token.
    fn complete(
        self,
        version: X402Version,
        payee: PayeeAnswer,
        offered: impl Fn(&Network) -> OfferedSettlement,
    ) -> Result<JsonMap, EntryRefusal> {
        let Self { mut given, network, .. } = self;
        let pay_to = match payee {
            PayeeAnswer::Own(address) => address,
            PayeeAnswer::Refused(reason, message) => return Err((reason, message)),
        };
        let OfferedSettlement::Settled { fee_payer } = offered(network) else {
            return Err((Reason::NetworkNotEnabled, format!("no payment is settled on '{}' at present", network.key)));
        };
        given.entry("maxTimeoutSeconds").or_insert_with(|| TIMEOUT_S.into());
        given.insert("scheme".to_owned(), SCHEME.name().into());
        given.insert("asset".to_owned(), network.asset.text.into());
        given.insert("payTo".to_owned(), pay_to.to_string().into());
        if version == X402Version::Two {
            given.insert("network".to_owned(), network.caip2.into());
        } else {
            given.entry("description").or_insert_with(|| "".into());
            given.entry("mimeType").or_insert_with(|| "".into());
        }
        let mut extra = match given.remove("extra") {
            Some(Value::Object(extra)) => extra,
            Some(_) | None => JsonMap::new(),
        };
        match (network.family, network.asset.eip712) {
            (Family::Evm, Some((name, version))) => {
                extra.insert("name".to_owned(), name.into());
                extra.insert("version".to_owned(), version.into());
            }
            (Family::Evm, None) => {}
            (Family::Svm, _) => {
                extra.insert("feePayer".to_owned(), fee_payer.into());
                extra.insert("decimals".to_owned(), network.asset.decimals.into());
            }
        }
        given.insert("extra".to_owned(), extra.into());
        Ok(given)
    }
}

#[cfg(test)]
mod tests;

//! What is read of Stripe's other answers.

use super::form::is_stripe_id;
use super::subscription::{SubscriptionStatus, unreadable};
use crate::error::Fault;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use x402_chain::time::{UnixMillis, UnixSeconds};

/// Reads an answer as `T`; `what` it is, for the log.
///
/// # Errors
/// `UPSTREAM_UNAVAILABLE` where it is of another form.
pub fn read<T: DeserializeOwned>(body: &[u8], what: &str) -> Result<T, Fault> {
    serde_json::from_slice(body).map_err(|error| unreadable(what).because_json(&error))
}

/// An object of which only the id counts.
#[derive(Debug, Deserialize)]
pub struct OfId {
    /// Its id.
    pub id: String,
}

/// A subscription of which only the status counts.
#[derive(Debug, Deserialize)]
pub struct OfStatus {
    /// Its status.
    pub status: SubscriptionStatus,
}

/// A session of a checkout or of the portal.
#[derive(Debug, Deserialize)]
pub struct OfUrl {
    /// Its id.
    pub id: String,
    /// Where the browser is sent to; absent once the session has ended.
    pub url: Option<String>,
}

/// A page of a list.
#[derive(Debug, Deserialize)]
pub struct StripePage<T> {
    /// Its entries.
    pub data: Vec<T>,
    /// Whether there are more.
    #[serde(default)]
    pub has_more: bool,
}

#[derive(Deserialize)]
struct RawPortal {
    id: String,
    #[serde(default)]
    metadata: Option<Value>,
}

/// A use of the billing portal, each with a configuration that `npm run stripe:setup` makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortalUse {
    /// Invoices and payment methods.
    Portal,
    /// The confirmation of a change: Stripe wants changes allowed for it, which are not in the other.
    Confirm,
}

/// The configuration for a use of a list; `None` where `npm run stripe:setup` has not made it.
///
/// # Errors
/// `UPSTREAM_UNAVAILABLE` where the list is of another form.
pub fn read_portal(body: &[u8], of: PortalUse) -> Result<Option<String>, Fault> {
    let page: StripePage<RawPortal> = read(body, "portal configurations")?;
    let mark = match of {
        PortalUse::Portal => "portal",
        PortalUse::Confirm => "confirm",
    };
    let is_it = |portal: &RawPortal| {
        let metadata = portal.metadata.as_ref();
        metadata.and_then(|all| all.get("x402_edge")).and_then(Value::as_str) == Some(mark)
    };
    Ok(page.data.into_iter().find(is_it).map(|portal| portal.id).filter(|id| is_stripe_id(id, "bpc_")))
}

/// Why Stripe refused a request.
#[derive(Debug, Default, Deserialize)]
pub struct StripeError {
    /// The kind, such as `card_error` or `invalid_request_error`.
    #[serde(default, rename = "type")]
    pub kind: String,
    /// The code, such as `card_declined` or `resource_missing`.
    #[serde(default)]
    pub code: Option<String>,
    /// The parameter that is wrong.
    #[serde(default)]
    pub param: Option<String>,
    /// The path that was asked.
    #[serde(skip)]
    pub path: String,
}

impl StripeError {
    /// Reads an error of a path; an empty one where the answer is of another form.
    #[must_use]
    pub fn read(body: &[u8], path: &str) -> Self {
        #[derive(Deserialize)]
        struct Envelope {
            error: StripeError,
        }
        let error = serde_json::from_slice::<Envelope>(body).map(|envelope| envelope.error).unwrap_or_default();
        Self { path: path.to_owned(), ..error }
    }

    /// Whether there is no such object, or it was deleted.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.code.as_deref() == Some("resource_missing")
    }

    /// What of the API was asked for, without ids: `billing_portal/sessions`.
    #[must_use]
    pub fn resource(&self) -> String {
        let is_name = |part: &&str| part.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        let parts = self.path.trim_start_matches("/v1/").split('/');
        parts.take_while(is_name).collect::<Vec<_>>().join("/")
    }

    /// Path, kind, code and parameter, for the log. Stripe's sentence is not in it: it may repeat a value.
    #[must_use]
    pub fn words(&self) -> String {
        let is_word = |text: &&str| {
            !text.is_empty() && text.len() <= 100 && !text.chars().any(|c| c.is_whitespace() || c.is_control())
        };
        let all = [Some(self.path.as_str()), Some(self.kind.as_str()), self.code.as_deref(), self.param.as_deref()];
        all.into_iter().flatten().filter(is_word).collect::<Vec<_>>().join(" ")
    }
}

/// The payment method that invoices are charged to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentCard {
    /// The kind, such as `card`.
    pub kind: String,
    /// The card's brand.
    pub brand: Option<String>,
    /// Its last four digits.
    pub last_four: Option<String>,
    /// The month and year of its end.
    pub expires: Option<(u8, u16)>,
}

/// The payment method at a place of an object; `None` where there is none.
fn card_at(object: &Value, place: &str) -> Option<PaymentCard> {
    let method = object.pointer(place)?;
    let kind = method.get("type")?.as_str()?.to_owned();
    let of = method.get(&kind);
    let text = |name: &str| of?.get(name)?.as_str().map(str::to_owned);
    let number = |name: &str| of?.get(name)?.as_u64();
    let month = number("exp_month").and_then(|month| u8::try_from(month).ok());
    let year = number("exp_year").and_then(|year| u16::try_from(year).ok());
    Some(PaymentCard { brand: text("brand"), last_four: text("last4"), expires: month.zip(year), kind })
}

/// A customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StripeCustomer {
    /// Whether it was deleted at Stripe.
    pub is_deleted: bool,
    /// What its invoices are charged to.
    pub card: Option<PaymentCard>,
    /// Where its receipts and invoices go.
    pub email: Option<String>,
    /// The name that is on them.
    pub name: Option<String>,
}

/// Reads a customer.
///
/// # Errors
/// `UPSTREAM_UNAVAILABLE` where it is of another form.
pub fn read_customer(body: &[u8]) -> Result<StripeCustomer, Fault> {
    let customer: Value = read(body, "a customer")?;
    let is_deleted = customer.get("deleted").and_then(Value::as_bool).unwrap_or_default();
    let text =
        |name: &str| customer.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    let card = card_at(&customer, "/invoice_settings/default_payment_method");
    Ok(StripeCustomer { is_deleted, card, email: text("email"), name: text("name") })
}

/// The payment method of a subscription of its own; `None`: the customer's counts.
///
/// # Errors
/// `UPSTREAM_UNAVAILABLE` where it is of another form.
pub fn read_subscription_card(body: &[u8]) -> Result<Option<PaymentCard>, Fault> {
    Ok(card_at(&read::<Value>(body, "a subscription")?, "/default_payment_method"))
}

/// An invoice.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct StripeInvoice {
    /// `in_…`; a preview has another.
    #[serde(default)]
    pub id: Option<String>,
    /// The number that the customer sees.
    #[serde(default)]
    pub number: Option<String>,
    /// `draft`, `open`, `paid`, `uncollectible` or `void`.
    #[serde(default)]
    pub status: Option<String>,
    /// The currency in lower case.
    pub currency: String,
    /// The whole amount, in the smallest unit of the currency; below zero it is a credit.
    pub total: i64,
    /// What is to be paid of it.
    pub amount_due: i64,
    /// When it was made.
    pub created: UnixSeconds,
    /// When it is tried next to charge it.
    #[serde(default)]
    pub next_payment_attempt: Option<UnixSeconds>,
    /// The page on which it can be seen and paid.
    #[serde(default)]
    pub hosted_invoice_url: Option<String>,
    /// The file.
    #[serde(default)]
    pub invoice_pdf: Option<String>,
}

/// The page on which the first open invoice of a list is paid.
///
/// # Errors
/// `UPSTREAM_UNAVAILABLE` where the list is of another form.
pub fn read_open_invoice(body: &[u8]) -> Result<Option<String>, Fault> {
    let page: StripePage<StripeInvoice> = read(body, "invoices")?;
    let open = page.data.into_iter().find(|invoice| invoice.status.as_deref() == Some("open"));
    Ok(open.and_then(|invoice| invoice.hosted_invoice_url).filter(|url| url.starts_with("https://")))
}

impl StripeInvoice {
    /// Whether it is paid, and so is the plan that it is of.
    #[must_use]
    pub fn is_paid(&self) -> bool {
        self.status.as_deref() == Some("paid")
    }

    /// The page on which it can be paid; `None` where nobody can pay it, or not yet.
    #[must_use]
    pub fn payable_at(&self) -> Option<&str> {
        let url = self.hosted_invoice_url.as_deref().filter(|url| url.starts_with("https://"));
        url.filter(|_| self.status.as_deref() == Some("open"))
    }
}

/// A subscription of which only the newest invoice counts.
#[derive(Debug, Deserialize)]
pub struct OfLatestInvoice {
    /// The invoice.
    pub latest_invoice: Option<StripeInvoice>,
}

#[derive(Deserialize)]
struct RawPayment {
    #[serde(default)]
    payment_intent: Option<Value>,
}

#[derive(Deserialize)]
struct RawInvoicePayment {
    payment: RawPayment,
}

/// The payment intents of an invoice's payments.
///
/// # Errors
/// `UPSTREAM_UNAVAILABLE` where the list is of another form.
pub fn read_payment_intents(body: &[u8]) -> Result<Vec<String>, Fault> {
    let page: StripePage<RawInvoicePayment> = read(body, "payments of an invoice")?;
    let id = |intent: Value| match intent {
        Value::String(id) => Some(id),
        Value::Object(one) => one.get("id").and_then(Value::as_str).map(str::to_owned),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => None,
    };
    Ok(page.data.into_iter().filter_map(|one| one.payment.payment_intent.and_then(id)).collect())
}

/// An event of a webhook or of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StripeEvent {
    /// `evt_…`.
    pub id: String,
    /// What has happened, such as `invoice.paid`.
    pub kind: String,
    /// When.
    pub created: UnixMillis,
    /// The customer that it is about; `None` for events about none.
    pub customer: Option<String>,
}

#[derive(Deserialize)]
struct RawEventData {
    object: Value,
}

#[derive(Deserialize)]
struct RawEvent {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    created: UnixSeconds,
    data: RawEventData,
}

impl<'de> Deserialize<'de> for StripeEvent {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let RawEvent { id, kind, created, data } = RawEvent::deserialize(from)?;
        let object = data.object;
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let customer = match object.get("object").and_then(Value::as_str) {
            Some("customer") => text(object.get("id")),
            _ => text(object.get("customer")).or_else(|| text(object.pointer("/customer/id"))),
        };
        Ok(Self { id, kind, created: created.millis(), customer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn bytes(value: &Value) -> Vec<u8> {
        value.to_string().into_bytes()
    }

    #[test]
    fn the_card_of_a_customer_is_read() {
        let card =
            json!({"type": "card", "card": {"brand": "visa", "last4": "4242", "exp_month": 2, "exp_year": 2030}});
        let read = read_customer(&bytes(&json!({"id": "cus_1", "email": "a@x.test", "name": null,
            "invoice_settings": {"default_payment_method": card}})));
        let want = PaymentCard {
            kind: "card".to_owned(),
            brand: Some("visa".to_owned()),
            last_four: Some("4242".to_owned()),
            expires: Some((2, 2030)),
        };
        let email = Some("a@x.test".to_owned());
        assert_eq!(read, Ok(StripeCustomer { is_deleted: false, card: Some(want), email, name: None }));
        let gone = read_customer(&bytes(&json!({"id": "cus_1", "deleted": true})));
        assert_eq!(gone, Ok(StripeCustomer { is_deleted: true, card: None, email: None, name: None }));
        let other = read_subscription_card(&bytes(&json!({"default_payment_method": {"type": "us_bank_account",
            "us_bank_account": {"last4": "6789"}}})))
        .expect("read")
        .expect("a method");
        assert_eq!((other.last_four.as_deref(), other.expires), (Some("6789"), None));
        assert_eq!(read_subscription_card(&bytes(&json!({"default_payment_method": null}))), Ok(None));
    }

    #[test]
    fn the_page_of_an_invoice_that_is_open_is_found() {
        let invoice = |status: &str, url: Value| json!({"currency": "usd", "total": 1, "amount_due": 1, "created": 5, "status": status, "hosted_invoice_url": url});
        let of = |all: Vec<Value>| read_open_invoice(&bytes(&json!({"data": all})));
        let page = "https://invoice.stripe.com/i/1";
        let all = vec![invoice("paid", json!("https://x.test")), invoice("open", json!(page))];
        assert_eq!(of(all), Ok(Some(page.to_owned())));
        for none in [vec![], vec![invoice("draft", json!(page))], vec![invoice("open", json!("javascript:1"))]] {
            assert_eq!(of(none), Ok(None));
        }
        assert!(read_open_invoice(b"{}").is_err());
    }

    #[test]
    fn what_was_asked_for_is_named_without_ids() {
        let of = |path: &str| StripeError { path: path.to_owned(), ..StripeError::default() }.resource();
        assert_eq!(of("/v1/billing_portal/sessions"), "billing_portal/sessions");
        assert_eq!(of("/v1/customers/cus_NffrFeUfNV2Hib"), "customers");
        assert_eq!(of("/v1/subscription_schedules/sub_sched_1Mr/release"), "subscription_schedules");
    }

    #[test]
    fn only_an_open_invoice_can_be_paid() {
        let of = |status: &str| {
            let invoice = json!({"id": "in_1", "status": status, "currency": "usd", "total": 1, "amount_due": 1,
                "created": 5, "hosted_invoice_url": "https://invoice.stripe.com/i/1"});
            let body = bytes(&json!({"id": "sub_1", "latest_invoice": invoice}));
            read::<OfLatestInvoice>(&body, "a subscription").expect("read").latest_invoice.expect("an invoice")
        };
        assert!(of("paid").is_paid() && of("paid").payable_at().is_none());
        assert!(!of("open").is_paid() && of("open").payable_at().is_some());
        assert!(!of("draft").is_paid() && of("draft").payable_at().is_none());
    }

    #[test]
    fn an_event_names_its_customer() {
        let of = |object: Value| {
            let event = json!({"id": "evt_1", "type": "x", "created": 5, "data": {"object": object}});
            serde_json::from_value::<StripeEvent>(event).expect("an event").customer
        };
        assert_eq!(of(json!({"object": "customer", "id": "cus_1"})).as_deref(), Some("cus_1"));
        assert_eq!(of(json!({"object": "invoice", "id": "in_1", "customer": "cus_2"})).as_deref(), Some("cus_2"));
        assert_eq!(of(json!({"object": "invoice", "customer": {"id": "cus_3"}})).as_deref(), Some("cus_3"));
        assert_eq!(of(json!({"object": "price", "id": "price_1"})), None);
    }

    #[test]
    fn an_error_is_logged_by_its_words() {
        let body =
            json!({"error": {"type": "card_error", "code": "card_declined", "message": "Ann's card", "param": null}});
        assert_eq!(StripeError::read(&bytes(&body), "/v1/x").words(), "/v1/x card_error card_declined");
        assert_eq!(StripeError::read(b"<html>", "/v1/x").words(), "/v1/x");
        let missing =
            json!({"error": {"type": "invalid_request_error", "code": "resource_missing", "param": "customer"}});
        assert!(StripeError::read(&bytes(&missing), "").is_missing());
    }

    #[test]
    fn a_portal_is_found_by_its_mark() {
        let page = json!({"data": [{"id": "bpc_1", "metadata": {}}, {"id": "bpc_2", "metadata": {"x402_edge": "confirm"}},
            {"id": "bpc_3", "metadata": {"x402_edge": "portal"}}]});
        assert_eq!(read_portal(&bytes(&page), PortalUse::Portal), Ok(Some("bpc_3".to_owned())));
        assert_eq!(read_portal(&bytes(&page), PortalUse::Confirm), Ok(Some("bpc_2".to_owned())));
        assert_eq!(read_portal(&bytes(&json!({"data": []})), PortalUse::Portal), Ok(None));
    }

    #[test]
    fn payments_of_an_invoice_are_found() {
        let page = json!({"data": [{"payment": {"type": "payment_intent", "payment_intent": "pi_1"}},
            {"payment": {"type": "payment_intent", "payment_intent": {"id": "pi_2"}}}, {"payment": {"type": "charge"}}]});
        assert_eq!(read_payment_intents(&bytes(&page)).expect("read"), ["pi_1", "pi_2"]);
    }
}

//! `/v1/webhook-endpoints`: where a tenant has its events sent to.

use crate::body::{check_text, invalid, null_or_value, optional_variant, parse_body, variant};
use serde::{Deserialize, Serialize};
use x402_chain::network::Environment;
use x402_core::error::Fault;
use x402_core::public_url::PublicUrl;
use x402_core::webhook::endpoint::EndpointStatus;
use x402_core::webhook::subscription::{ENDPOINTS_MAX, EVENTS_MAX, is_wanted};

/// The most characters of a description.
const DESCRIPTION_MAX: usize = 200;

/// The body of `POST /v1/webhook-endpoints`.
#[derive(Debug, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EndpointBody {
    /// Where messages are sent to: an `https` URL of a public host by its name, on port 443, without user and fragment. All
    /// addresses that the DNS gives for the host must be public.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 2_048)))]
    pub url: String,
    /// The environment whose events it gets; it stays.
    #[serde(deserialize_with = "variant")]
    pub environment: Environment,
    /// Types of events, as `payment.finalized`, or families, as `payment.*`; default and `[]`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(max = 50)))]
    pub events: Option<Vec<String>>,
    /// What its owner calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 200)))]
    pub description: Option<String>,
}

/// The body of `PATCH /v1/webhook-endpoints/{id}`: an absent member stays unchanged.
#[derive(Debug, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct EndpointPatchBody {
    /// Where messages are sent to, as in `POST`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 2_048)))]
    pub url: Option<String>,
    /// Types or families of events, replaced as a whole; `[]`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(max = 50)))]
    pub events: Option<Vec<String>>,
    /// What its owner calls it; `null` removes it.
    #[serde(default, deserialize_with = "null_or_value", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 200)))]
    pub description: Option<Option<String>>,
    /// `paused`: messages wait; `active`: they are sent again, also where the service has disabled the endpoint.
    #[serde(default, deserialize_with = "optional_variant", skip_serializing_if = "Option::is_none")]
    pub status: Option<WantedStatus>,
}

/// A status that a tenant sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum WantedStatus {
    /// Messages are sent.
    Active,
    /// Messages wait.
    Paused,
}

impl From<WantedStatus> for EndpointStatus {
    fn from(wanted: WantedStatus) -> Self {
        match wanted {
            WantedStatus::Active => Self::Active,
            WantedStatus::Paused => Self::Paused,
        }
    }
}

/// An endpoint that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEndpoint {
    /// Where messages are sent to.
    pub url: PublicUrl,
    /// The environment whose events it gets.
    pub environment: Environment,
    /// Types or families of events, each once; none: all.
    pub events: Vec<String>,
    /// What its owner calls it.
    pub description: Option<String>,
}

/// A change of an endpoint: what is absent stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointChange {
    /// Where messages are sent to.
    pub url: Option<PublicUrl>,
    /// Types or families of events, each once; none: all.
    pub events: Option<Vec<String>>,
    /// What its owner calls it; `Some(None)` removes it.
    pub description: Option<Option<String>>,
    /// Whether it gets messages.
    pub status: Option<EndpointStatus>,
}

impl EndpointChange {
    /// What is set, for the audit log; `None` where that is nothing.
    #[must_use]
    pub fn names(&self) -> Option<String> {
        let named = [
            self.url.as_ref().map(|_| "url"),
            self.events.as_ref().map(|_| "events"),
            self.description.as_ref().map(|_| "description"),
            self.status.map(EndpointStatus::name),
        ];
        let names: Vec<&str> = named.into_iter().flatten().collect();
        (!names.is_empty()).then(|| names.join(", "))
    }
}

/// `INVALID_REQUEST`: the tenant has as many endpoints as it can.
#[must_use]
pub fn too_many_endpoints() -> Fault {
    let rule =
        format!("has too many endpoints: a tenant can have {ENDPOINTS_MAX} in one, with those that are disabled");
    invalid("environment", &rule)
}

/// Reads an address to which a tenant's messages are sent. `origin` is the service's own, to which nothing is sent.
///
/// # Errors
/// The rule that the address does not keep.
pub fn target_url(text: &str, origin: &str) -> Result<PublicUrl, &'static str> {
    let url = PublicUrl::parse(text).filter(|url| !url.is_at(origin));
    url.ok_or(
        "must be an https URL of a public host by its name, on port 443, without user and fragment; an international name \
         in Punycode",
    )
}

fn endpoint_url(text: &str, origin: &str) -> Result<PublicUrl, Fault> {
    target_url(text, origin).map_err(|rule| invalid("url", rule))
}

fn read_events(all: Vec<String>) -> Result<Vec<String>, Fault> {
    if all.len() > EVENTS_MAX {
        return Err(invalid("events", &format!("must name at most {EVENTS_MAX} types")));
    }
    let mut events: Vec<String> = Vec::with_capacity(all.len());
    for (at, name) in all.into_iter().enumerate() {
        if !is_wanted(&name) {
            let rule = "is no type of events, as payment.finalized, and no family, as payment.*";
            return Err(invalid(&format!("events[{at}]"), rule));
        }
        if !events.contains(&name) {
            events.push(name);
        }
    }
    Ok(events)
}

fn read_description(text: String) -> Result<String, Fault> {
    // A character has four bytes at most.
    check_text("description", &text, DESCRIPTION_MAX.saturating_mul(4))?;
    if text.chars().count() > DESCRIPTION_MAX {
        return Err(invalid("description", &format!("must be at most {DESCRIPTION_MAX} characters")));
    }
    Ok(text)
}

/// Reads `POST /v1/webhook-endpoints`.
///
/// # Errors
/// `INVALID_JSON`, `INVALID_REQUEST`.
pub fn new_endpoint(body: &[u8], origin: &str) -> Result<NewEndpoint, Fault> {
    let body: EndpointBody = parse_body(body)?;
    Ok(NewEndpoint {
        url: endpoint_url(&body.url, origin)?,
        environment: body.environment,
        events: read_events(body.events.unwrap_or_default())?,
        description: body.description.map(read_description).transpose()?,
    })
}

/// Reads `PATCH /v1/webhook-endpoints/{id}`.
///
/// # Errors
/// `INVALID_JSON`, `INVALID_REQUEST`.
pub fn endpoint_change(body: &[u8], origin: &str) -> Result<EndpointChange, Fault> {
    let body: EndpointPatchBody = parse_body(body)?;
    Ok(EndpointChange {
        url: body.url.map(|text| endpoint_url(&text, origin)).transpose()?,
        events: body.events.map(read_events).transpose()?,
        description: body.description.map(|text| text.map(read_description).transpose()).transpose()?,
        status: body.status.map(EndpointStatus::from),
    })
}

/// An endpoint without its secret.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct EndpointView {
    /// The endpoint's id, `whe_…`.
    pub id: String,
    /// The environment whose events it gets.
    pub environment: Environment,
    /// Where messages are sent to.
    pub url: String,
    /// Types or families of events that it gets; `[]`: all.
    pub events: Vec<String>,
    /// What its owner calls it; `null` where it has no name.
    pub description: Option<String>,
    /// Whether it gets messages. `disabled`: nothing reached it, and its owner can make it `active` again.
    pub status: EndpointStatus,
    /// Why it was disabled: `failing` (all attempts of five days failed) or `gone` (it answered 410); `null` where it was not.
    pub disabled_reason: Option<String>,
    /// Until when messages are signed by the secret before too, RFC 3339; `null` where they are not.
    pub previous_secret_until: Option<String>,
    /// Since when its messages wait because the service cannot open its secret any more, RFC 3339: a new one
    /// (`rotate-secret`) sends them. `null` where it can, or nothing has been sent since.
    pub secret_lost_since: Option<String>,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// When it was last changed, RFC 3339.
    pub updated_at: String,
}

/// The answer that holds one endpoint.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct EndpointAlone {
    /// The endpoint.
    pub webhook_endpoint: EndpointView,
}

/// The answer to `POST /v1/webhook-endpoints`: the secret is shown this once.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct EndpointCreated {
    /// The endpoint.
    pub webhook_endpoint: EndpointView,
    /// The secret by which its messages are signed: `whsec_` and base64. It is shown this once, and stored encrypted.
    pub secret: String,
    /// Whether it gets events from this moment on. `false`: a ledger of the tenant was not reached, and it gets them within
    /// minutes.
    pub in_force: bool,
}

/// The answer to `POST /v1/webhook-endpoints/{id}/rotate-secret`: the secret is shown this once.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct EndpointRotated {
    /// The endpoint.
    pub webhook_endpoint: EndpointView,
    /// The new secret: `whsec_` and base64. It is shown this once, and stored encrypted.
    pub secret: String,
}

/// The answer to `DELETE /v1/webhook-endpoints/{id}`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct EndpointRemoved {
    /// The endpoint that was removed.
    pub id: String,
    /// When, RFC 3339.
    pub removed_at: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const ORIGIN: &str = "https://pay.example";

    fn made(change: &Value) -> Result<NewEndpoint, Option<String>> {
        let mut body = json!({"url": "https://shop.example/hooks?a=b", "environment": "live"});
        for (name, value) in change.as_object().expect("an object") {
            body[name] = value.clone();
        }
        new_endpoint(body.to_string().as_bytes(), ORIGIN).map_err(|fault| fault.param.map(Into::into))
    }

    fn changed(body: &Value) -> Result<EndpointChange, Option<String>> {
        endpoint_change(body.to_string().as_bytes(), ORIGIN).map_err(|fault| fault.param.map(Into::into))
    }

    #[test]
    fn an_endpoint_is_read() {
        let read = made(&json!({})).expect("an endpoint");
        assert_eq!((read.url.as_str(), read.events.len()), ("https://shop.example/hooks?a=b", 0));
        assert_eq!((read.environment, read.description), (Environment::Live, None));
        let read = made(&json!({"events": ["payment.*", "key.created", "payment.*"], "description": "Lager 📦"}));
        let read = read.expect("an endpoint");
        assert_eq!(read.events, ["payment.*", "key.created"]);
        assert_eq!(read.description.as_deref(), Some("Lager 📦"));
        assert!(made(&json!({"description": "📦".repeat(200)})).is_ok());
        for (change, param) in [
            (json!({"url": "http://shop.example/"}), "url"),
            (json!({"url": "https://pay.example/x"}), "url"),
            (json!({"url": "https://127.0.0.1/"}), "url"),
            (json!({"url": null}), "url"),
            (json!({"environment": "both"}), "environment"),
            (json!({"environment": null}), "environment"),
            (json!({"events": ["payment.*", "*"]}), "events[1]"),
            (json!({"events": vec!["key.created"; 51]}), "events"),
            (json!({"events": "key.created"}), "events"),
            (json!({"description": ""}), "description"),
            (json!({"description": "a\nb"}), "description"),
            (json!({"description": "a".repeat(201)}), "description"),
            (json!({"secret": "whsec_x"}), "secret"),
        ] {
            assert_eq!(made(&change), Err(Some(param.to_owned())), "{change}");
        }
    }

    #[test]
    fn a_change_names_what_it_sets() {
        let read = changed(&json!({})).expect("a change");
        assert_eq!((read.names(), read), (None, EndpointChange::default()));
        let all = json!({"url": "https://a.example", "events": [], "description": null, "status": "paused"});
        let read = changed(&all).expect("a change");
        assert_eq!(read.names().as_deref(), Some("url, events, description, paused"));
        assert_eq!((read.events, read.description), (Some(Vec::new()), Some(None)));
        for (body, param) in [
            (json!({"status": "disabled"}), "status"),
            (json!({"environment": "test"}), "environment"),
            (json!({"url": "https://localhost/"}), "url"),
            (json!({"events": ["all"]}), "events[0]"),
        ] {
            assert_eq!(changed(&body), Err(Some(param.to_owned())), "{body}");
        }
    }
}

//! A tenant's own identity provider (OpenID Connect Core 1.0): what an owner sets, and the addresses and bodies of the code
//! flow. The provider's documents are read in [`discovery`] and [`id_token`].

pub mod discovery;
pub mod id_token;

use crate::admin::read_email;
use crate::body::{check_text, invalid, optional_variant, parse_body};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use discovery::{ClientAuthentication, Discovery};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use x402_core::error::Fault;
use x402_core::people::oidc::MailDomain;
use x402_core::people::secret::Secret;
use x402_core::public_url::PublicUrl;
use x402_core::settings::sign_in::OauthClient;
use x402_core::tenancy::role::Role;

/// The path that sends a browser to the provider of an address.
pub const GO_PATH: &str = "/v1/session/oidc";
/// The path to which a tenant's provider sends a browser back. It names the tenant, so that an answer of one provider is never
/// taken for that of another (RFC 9700, section 4.4.2.2).
pub const CALLBACK_PATH: &str = "/v1/session/oidc/{tenant}/callback";
/// The most bytes of an issuer: it is part of the key of an identity.
const ISSUER_MAX: usize = 512;
/// The most bytes of a client id or a client secret.
const CLIENT_MAX: usize = 1_024;
/// The most bytes of a provider's code: those of Entra have more than a thousand.
const CODE_MAX: usize = 8_192;

/// The body of `PUT /v1/tenant/oidc`.
#[derive(Debug, Deserialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct OidcBody {
    /// The domain of the company's mail addresses; an international one in Punycode.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 242)))]
    pub domain: String,
    /// The issuer as the provider writes it: an `https` URL without query.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 512)))]
    pub issuer: String,
    /// The client id that the provider gave to this service.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 1_024)))]
    pub client_id: String,
    /// The client secret; it is stored encrypted, and never shown.
    #[cfg_attr(not(target_arch = "wasm32"), schemars(length(min = 1, max = 1_024)))]
    pub client_secret: String,
    /// The role of people who join by signing in: `viewer` (also where it is absent) or `developer`.
    #[serde(default, deserialize_with = "optional_variant")]
    pub default_role: Option<Role>,
}

/// A tenant's provider, as an owner sets it.
#[derive(Clone, PartialEq, Eq)]
pub struct OidcSettings {
    /// The domain of the company's mail addresses.
    pub domain: MailDomain,
    /// The issuer, byte for byte as the provider writes it.
    pub issuer: String,
    /// What the provider knows this service by.
    pub client: OauthClient,
    /// The role of people who join.
    pub default_role: Role,
}

/// Reads `PUT /v1/tenant/oidc`. `origin` is the service's own, which is no provider.
///
/// # Errors
/// `INVALID_JSON`, `INVALID_REQUEST`.
pub fn oidc_settings(body: &[u8], origin: &str) -> Result<OidcSettings, Fault> {
    let body: OidcBody = parse_body(body)?;
    let rule = "must be a domain of the public DNS, as corp.example; an international one in Punycode";
    let domain = MailDomain::parse(&body.domain).ok_or_else(|| invalid("domain", rule))?;
    if !is_issuer(&body.issuer, origin) {
        let rule = "must be an https URL of a public host by its name, on port 443, without user, query and fragment";
        return Err(invalid("issuer", rule));
    }
    check_text("client_id", &body.client_id, CLIENT_MAX)?;
    check_text("client_secret", &body.client_secret, CLIENT_MAX)?;
    let default_role = body.default_role.unwrap_or(Role::Viewer);
    if default_role == Role::Owner {
        return Err(invalid("default_role", "must be viewer or developer: an owner makes other owners by hand"));
    }
    let client = OauthClient { id: body.client_id, secret: body.client_secret };
    Ok(OidcSettings { domain, issuer: body.issuer, client, default_role })
}

fn is_issuer(text: &str, origin: &str) -> bool {
    let url = PublicUrl::parse(text).filter(|url| !url.has_query() && !url.is_at(origin));
    text.len() <= ISSUER_MAX && url.is_some()
}

/// A record of the DNS.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct DnsRecordView {
    /// Its type, `TXT`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Its text.
    pub value: String,
}

/// A tenant's provider, without its client secret.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct OidcView {
    /// The domain of the company's mail addresses.
    pub domain: String,
    /// The issuer.
    pub issuer: String,
    /// The client id.
    pub client_id: String,
    /// The role of people who join by signing in.
    pub default_role: Role,
    /// The address to which the provider must be allowed to send a browser back.
    pub redirect_uri: String,
    /// The record that proves the domain. It must stay: it is looked up again once a day.
    pub dns_record: DnsRecordView,
    /// When the domain was proven, RFC 3339; `null` where it is not, and nobody signs in.
    pub proven_at: Option<String>,
    /// When the record was last found, RFC 3339; `null` where it never was.
    pub checked_at: Option<String>,
    /// When the settings were last changed, RFC 3339.
    pub updated_at: String,
}

/// The answer that holds a tenant's provider.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct OidcAlone {
    /// The provider.
    pub oidc: OidcView,
}

/// The answer to `DELETE /v1/tenant/oidc`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct OidcRemoved {
    /// The domain whose addresses no longer sign in by the provider.
    pub domain: String,
    /// When it was removed, RFC 3339.
    pub removed_at: String,
}

fn member(query: &str, wanted: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned())
}

/// Reads the address of `GET /v1/session/oidc`, in lower case.
///
/// # Errors
/// `INVALID_REQUEST`.
pub fn email_of_query(query: &str) -> Result<String, Fault> {
    read_email(&member(query, "email").unwrap_or_default())
}

/// Where a browser goes to sign in (OpenID Connect Core, section 3.1.2.1).
#[derive(Debug)]
pub struct AuthorizeRequest<'a> {
    /// The client id.
    pub client_id: &'a str,
    /// Where the browser comes back to.
    pub redirect_uri: &'a str,
    /// Our state.
    pub state: &'a Secret,
    /// The challenge of PKCE, by the method `S256`.
    pub challenge: &'a str,
    /// What the ID token must repeat.
    pub nonce: &'a str,
    /// The address that the person gave.
    pub login_hint: &'a str,
}

impl AuthorizeRequest<'_> {
    /// The address. The scopes let us read the person's address, and nothing else.
    #[must_use]
    pub fn url(&self, endpoint: &PublicUrl) -> String {
        let mut begin = endpoint.as_str().to_owned();
        begin.push(if endpoint.has_query() { '&' } else { '?' });
        let from = begin.len();
        let mut query = form_urlencoded::Serializer::for_suffix(begin, from);
        query.append_pair("response_type", "code");
        query.append_pair("scope", "openid email");
        query.append_pair("client_id", self.client_id);
        query.append_pair("redirect_uri", self.redirect_uri);
        query.append_pair("state", &self.state.text());
        query.append_pair("nonce", self.nonce);
        query.append_pair("code_challenge", self.challenge);
        query.append_pair("code_challenge_method", "S256");
        query.append_pair("login_hint", self.login_hint);
        query.finish()
    }
}

/// The query with which a provider sends a browser back.
#[derive(Debug)]
pub struct OidcCallback {
    /// The code that is traded for tokens.
    pub code: String,
    /// Our state.
    pub state: Secret,
    /// The issuer, where the provider names it (RFC 9207).
    pub issuer: Option<String>,
}

impl OidcCallback {
    /// Reads it; `None` where the person or the provider refused, or a member is missing or malformed.
    #[must_use]
    pub fn read(query: &str) -> Option<Self> {
        let code = member(query, "code").filter(|code| !code.is_empty() && code.len() <= CODE_MAX)?;
        Some(Self { code, state: Secret::parse(&member(query, "state")?)?, issuer: member(query, "iss") })
    }
}

/// A request for tokens: its body, and the header `Authorization` where the client is named there.
#[derive(Debug, PartialEq, Eq)]
pub struct TokenRequest {
    /// The body, `application/x-www-form-urlencoded`.
    pub body: String,
    /// The header.
    pub authorization: Option<String>,
}

impl TokenRequest {
    /// Trades a code (OpenID Connect Core, sections 3.1.3.1 and 9; RFC 7636, section 4.5).
    #[must_use]
    pub fn new(discovery: &Discovery, client: &OauthClient, code: &str, redirect_uri: &str, verifier: &str) -> Self {
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.append_pair("grant_type", "authorization_code");
        body.append_pair("code", code);
        body.append_pair("redirect_uri", redirect_uri);
        body.append_pair("code_verifier", verifier);
        let authorization = match discovery.authentication {
            ClientAuthentication::Basic => {
                // RFC 6749, section 2.3.1: both parts are form-encoded first. A space as `%20` is read by those too who
                // decode as in URLs.
                let encoded = |text: &str| {
                    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
                };
                let pair = format!("{}:{}", encoded(&client.id), encoded(&client.secret));
                Some(format!("Basic {}", STANDARD.encode(pair)))
            }
            ClientAuthentication::Post => {
                body.append_pair("client_id", &client.id);
                body.append_pair("client_secret", &client.secret);
                None
            }
        };
        Self { body: body.finish(), authorization }
    }
}

/// What a provider answers to a code.
#[derive(Debug, PartialEq, Eq)]
pub enum TokenAnswer {
    /// An ID token, unchecked.
    IdToken(String),
    /// The code is wrong, was used or has expired.
    BadCode,
    /// The provider does not know the client, or its secret is wrong.
    BadClient,
    /// Another answer.
    Unreadable,
}

impl TokenAnswer {
    /// Reads it with its status.
    #[must_use]
    pub fn read(status: u16, body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        match (status, text("id_token"), text("error")) {
            (200, Some(token), None) => Self::IdToken(token.to_owned()),
            (400 | 401, _, Some("invalid_client" | "unauthorized_client")) => Self::BadClient,
            (400, _, Some("invalid_grant")) => Self::BadCode,
            (..) => Self::Unreadable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ORIGIN: &str = "https://pay.example";

    fn body(change: &Value) -> Vec<u8> {
        let mut body = json!({
            "domain": "Corp.example", "issuer": "https://idp.example/a/", "client_id": "c", "client_secret": "s"
        });
        for (name, value) in change.as_object().expect("an object") {
            body[name] = value.clone();
        }
        body.to_string().into_bytes()
    }

    #[test]
    fn a_provider_is_a_public_one_and_makes_no_owners() {
        let read = oidc_settings(&body(&json!({})), ORIGIN).unwrap_or_else(|fault| panic!("{fault:?}"));
        assert_eq!((read.domain.as_str(), read.issuer.as_str()), ("corp.example", "https://idp.example/a/"));
        assert_eq!(read.default_role, Role::Viewer);
        for (change, param) in [
            (json!({"domain": "example"}), "domain"),
            (json!({"domain": "a@corp.example"}), "domain"),
            (json!({"issuer": "http://idp.example"}), "issuer"),
            (json!({"issuer": "https://127.0.0.1"}), "issuer"),
            (json!({"issuer": "https://idp.example/?a=b"}), "issuer"),
            (json!({"issuer": "https://idp.example/#a"}), "issuer"),
            (json!({"issuer": "https://pay.example/x"}), "issuer"),
            (json!({"issuer": format!("https://idp.example/{}", "a".repeat(512))}), "issuer"),
            (json!({"client_id": ""}), "client_id"),
            (json!({"client_secret": ""}), "client_secret"),
            (json!({"client_secret": "s".repeat(1_025)}), "client_secret"),
            (json!({"default_role": "owner"}), "default_role"),
            (json!({"default_role": "boss"}), "default_role"),
            (json!({"scope": "x"}), "scope"),
        ] {
            let param_of = oidc_settings(&body(&change), ORIGIN).map_err(|fault| fault.param).err().flatten();
            assert_eq!(param_of.as_deref(), Some(param), "{change}");
        }
    }

    #[test]
    fn a_browser_is_sent_with_a_state_a_nonce_and_a_challenge() {
        let state = Secret::new([1; 32]);
        let request = AuthorizeRequest {
            client_id: "c&d",
            redirect_uri: "https://pay.example/back",
            state: &state,
            challenge: "abc",
            nonce: "n",
            login_hint: "ann+x@corp.example",
        };
        let rest = format!(
            "response_type=code&scope=openid+email&client_id=c%26d&redirect_uri=https%3A%2F%2Fpay.example%2Fback&state={}\
             &nonce=n&code_challenge=abc&code_challenge_method=S256&login_hint=ann%2Bx%40corp.example",
            "01".repeat(32)
        );
        for (endpoint, begin) in [("https://idp.example/go", "?"), ("https://idp.example/go?p=1", "&")] {
            let url = request.url(&PublicUrl::parse(endpoint).expect("a URL"));
            assert_eq!(url, format!("{endpoint}{begin}{rest}"));
        }
    }

    #[test]
    fn a_callback_has_a_code_and_a_state() {
        let state = "01".repeat(32);
        let read =
            OidcCallback::read(&format!("code=a%2Fb&state={state}&iss=https%3A%2F%2Fidp.example")).expect("read");
        assert_eq!((read.code.as_str(), read.issuer.as_deref()), ("a/b", Some("https://idp.example")));
        let long = "x".repeat(CODE_MAX + 1);
        for wrong in
            ["", "code=a", &format!("code=&state={state}"), "code=a&state=x", &format!("code={long}&state={state}")]
        {
            assert!(OidcCallback::read(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_client_is_named_in_the_way_the_provider_takes() {
        let client = OauthClient { id: "a:b".to_owned(), secret: "c d".to_owned() };
        let document = |methods: &Value| {
            let mut document = json!({
                "issuer": "https://idp.example", "authorization_endpoint": "https://idp.example/a",
                "token_endpoint": "https://idp.example/t", "jwks_uri": "https://idp.example/k"
            });
            document["token_endpoint_auth_methods_supported"] = methods.clone();
            Discovery::read(document.to_string().as_bytes(), "https://idp.example").expect("a document")
        };
        let begin = "grant_type=authorization_code&code=k&redirect_uri=https%3A%2F%2Fx.test&code_verifier=v";
        let basic = TokenRequest::new(&document(&json!(null)), &client, "k", "https://x.test", "v");
        assert_eq!(basic.body, begin);
        assert_eq!(basic.authorization, Some(format!("Basic {}", STANDARD.encode("a%3Ab:c%20d"))));
        let post = TokenRequest::new(&document(&json!(["client_secret_post"])), &client, "k", "https://x.test", "v");
        assert_eq!(post.body, format!("{begin}&client_id=a%3Ab&client_secret=c+d"));
        assert_eq!(post.authorization, None);
    }

    #[test]
    fn an_answer_is_a_token_or_says_who_is_wrong() {
        let read = |status, body: &str| TokenAnswer::read(status, body.as_bytes());
        assert_eq!(read(200, r#"{"id_token":"a.b.c","access_token":"x"}"#), TokenAnswer::IdToken("a.b.c".to_owned()));
        assert_eq!(read(400, r#"{"error":"invalid_grant"}"#), TokenAnswer::BadCode);
        assert_eq!(read(401, r#"{"error":"invalid_client"}"#), TokenAnswer::BadClient);
        for (status, body) in [(200, "{}"), (200, r#"{"access_token":"x"}"#), (500, r#"{"id_token":"a"}"#), (400, "")] {
            assert_eq!(read(status, body), TokenAnswer::Unreadable, "{body}");
        }
    }

    #[test]
    fn the_query_names_an_address() {
        assert_eq!(email_of_query("email=Ann%40Corp.example").as_deref().ok(), Some("ann@corp.example"));
        for wrong in ["", "email=", "email=ann", "mail=ann@corp.example", "email=a@b@corp.example"] {
            assert!(email_of_query(wrong).is_err(), "{wrong}");
        }
    }
}

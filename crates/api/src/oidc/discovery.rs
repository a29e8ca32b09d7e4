//! A provider's description of itself (OpenID Connect Discovery 1.0, section 4).

use serde_json::Value;
use x402_core::public_url::PublicUrl;

/// How a client names itself to the token endpoint (OpenID Connect Core, section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuthentication {
    /// In the header `Authorization`.
    Basic,
    /// In the body.
    Post,
}

/// What is needed of a provider.
#[derive(Clone, Debug)]
pub struct Discovery {
    /// Where a browser goes to sign in.
    pub authorization_endpoint: PublicUrl,
    /// Where a code is traded for tokens.
    pub token_endpoint: PublicUrl,
    /// Where the keys are that sign ID tokens.
    pub jwks_uri: PublicUrl,
    /// How this service names itself there.
    pub authentication: ClientAuthentication,
    /// Whether the provider says that each of its redirects back names the issuer (RFC 9207).
    pub names_issuer: bool,
}

/// The address of an issuer's document. The issuer was checked when it was set.
#[must_use]
pub fn document_url(issuer: &str) -> String {
    format!("{}/.well-known/openid-configuration", issuer.strip_suffix('/').unwrap_or(issuer))
}

impl Discovery {
    /// Reads the document of an issuer.
    ///
    /// # Errors
    /// What is wrong with it, in words of our own.
    pub fn read(body: &[u8], issuer: &str) -> Result<Self, &'static str> {
        let body: Value = serde_json::from_slice(body).map_err(|_| "its description is not JSON")?;
        if body.get("issuer").and_then(Value::as_str) != Some(issuer) {
            return Err("its description names another issuer");
        }
        let endpoint = |name: &str| body.get(name).and_then(Value::as_str).and_then(PublicUrl::parse);
        let [Some(authorization_endpoint), Some(token_endpoint), Some(jwks_uri)] =
            ["authorization_endpoint", "token_endpoint", "jwks_uri"].map(endpoint)
        else {
            return Err("its description lacks an endpoint, or names one that is not an https URL of a public host");
        };
        let methods = body.get("token_endpoint_auth_methods_supported").and_then(Value::as_array);
        let has = |name: &str| methods.is_some_and(|all| all.iter().any(|one| one.as_str() == Some(name)));
        let authentication = match (methods.is_none() || has("client_secret_basic"), has("client_secret_post")) {
            (true, _) => ClientAuthentication::Basic,
            (false, true) => ClientAuthentication::Post,
            (false, false) => return Err("it takes no client secret"),
        };
        let names_issuer = body.get("authorization_response_iss_parameter_supported").and_then(Value::as_bool);
        let names_issuer = names_issuer == Some(true);
        Ok(Self { authorization_endpoint, token_endpoint, jwks_uri, authentication, names_issuer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_document_stands_below_the_issuer() {
        let wanted = "https://idp.example/a/.well-known/openid-configuration";
        assert_eq!(document_url("https://idp.example/a"), wanted);
        assert_eq!(document_url("https://idp.example/a/"), wanted);
    }

    #[test]
    fn a_document_is_of_its_issuer_and_leads_to_public_hosts() {
        let good = json!({
            "issuer": "https://idp.example", "authorization_endpoint": "https://idp.example/a",
            "token_endpoint": "https://other.example/t", "jwks_uri": "https://idp.example/k"
        });
        let read = |document: &Value| Discovery::read(document.to_string().as_bytes(), "https://idp.example");
        let found = read(&good).expect("a document");
        assert_eq!((found.authentication, found.names_issuer), (ClientAuthentication::Basic, false));
        for (name, value) in [
            ("issuer", json!("https://idp.example/")),
            ("issuer", json!(null)),
            ("authorization_endpoint", json!("http://idp.example/a")),
            ("authorization_endpoint", json!("javascript:alert(1)")),
            ("token_endpoint", json!("https://169.254.169.254/")),
            ("token_endpoint", json!(null)),
            ("jwks_uri", json!("https://localhost/k")),
            ("jwks_uri", json!(["https://idp.example/k"])),
            ("token_endpoint_auth_methods_supported", json!(["private_key_jwt"])),
            ("token_endpoint_auth_methods_supported", json!([])),
        ] {
            let mut wrong = good.clone();
            wrong[name] = value;
            assert!(read(&wrong).is_err(), "{wrong}");
        }
        assert!(Discovery::read(b"<html>", "https://idp.example").is_err());
    }
}

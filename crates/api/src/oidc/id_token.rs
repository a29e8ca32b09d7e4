//! ID tokens (OpenID Connect Core, sections 2 and 3.1.3.7) in the compact form of RFC 7515, and the keys that sign them
//! (RFC 7517). This half reads and compares; the platform's WebCrypto checks the signature.

use crate::admin::read_email;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use x402_core::people::oidc::MailDomain;
use x402_core::people::secret::is_same_text;

/// The most bytes of an ID token; tokens with lists of groups have some thousands.
const TOKEN_MAX: usize = 32 * 1_024;
/// The most bytes of a subject (section 2).
const SUBJECT_MAX: usize = 255;
/// How far the provider's clock may be from ours, seconds.
const SKEW_S: u64 = 60;
/// The least bytes of an RSA modulus: 2,048 bits (RFC 7518, section 3.3).
const MODULUS_MIN: usize = 256;
/// The issuer that signs for everybody with a Google account: only `hd` says that the account is the company's
/// (<https://developers.google.com/identity/openid-connect/openid-connect#an-id-tokens-payload>).
const GOOGLE: &str = "https://accounts.google.com";
/// How the issuers of Microsoft Entra begin. The address of a guest is set by the guest's own company; `xms_edov` says that the
/// directory owns its domain (<https://learn.microsoft.com/entra/identity-platform/optional-claims-reference>).
const ENTRA: &str = "https://login.microsoftonline.com/";

/// Whether a claim says yes: providers write it as a boolean, a number or text.
fn is_true(claim: &Value) -> bool {
    claim.as_bool() == Some(true) || claim.as_u64() == Some(1) || matches!(claim.as_str(), Some("true" | "1"))
}

/// How a token is signed. `none` and the symmetric algorithms are none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA over P-256 with SHA-256.
    Es256,
}

impl SignatureAlgorithm {
    fn parse(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
        }
    }
}

/// An ID token whose signature was not checked yet.
#[derive(Debug)]
pub struct UncheckedToken {
    /// How it says that it is signed.
    pub algorithm: SignatureAlgorithm,
    /// The id of the key that has signed it.
    key_id: Option<String>,
    /// What is signed.
    pub signed: String,
    /// The signature.
    pub signature: Vec<u8>,
    claims: Value,
}

/// A person as the provider names him.
#[derive(Debug, PartialEq, Eq)]
pub struct OidcPerson {
    /// The provider's id of the person.
    pub subject: String,
    /// The address, in lower case.
    pub email: String,
}

/// What a token must say.
#[derive(Clone, Copy, Debug)]
pub struct ExpectedToken<'a> {
    /// Its issuer.
    pub issuer: &'a str,
    /// Our client id there.
    pub client_id: &'a str,
    /// The nonce of the browser's sign-in.
    pub nonce: &'a str,
    /// The domain of the address.
    pub domain: &'a MailDomain,
    /// Now, seconds since 1970.
    pub now_s: u64,
}

impl UncheckedToken {
    /// Reads a token.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > TOKEN_MAX {
            return Err("it is too large");
        }
        let part = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
        let object = |text: &str| serde_json::from_slice::<Value>(&part(text)?).ok().filter(Value::is_object);
        let read = || {
            let (signed, signature) = text.rsplit_once('.')?;
            let (header, claims) = signed.split_once('.')?;
            Some((object(header)?, object(claims)?, signed.to_owned(), part(signature)?))
        };
        let (header, claims, signed, signature) = read().ok_or("it has not the form of a signed token")?;
        let name = |name: &str| header.get(name).and_then(Value::as_str);
        let algorithm = name("alg").and_then(SignatureAlgorithm::parse);
        let algorithm = algorithm.ok_or("it is signed by another algorithm than RS256 and ES256")?;
        // An extension that must be understood (RFC 7515, section 4.1.11).
        if header.get("crit").is_some() {
            return Err("it has an extension that must be understood");
        }
        Ok(Self { algorithm, key_id: name("kid").map(str::to_owned), signed, signature, claims })
    }

    /// The key of a provider's list that has signed the token, as a JWK with the members that WebCrypto needs. Where the token
    /// names no key, the list must have one that fits.
    ///
    /// # Errors
    /// Why there is none.
    pub fn key(&self, keys: &[u8]) -> Result<Value, &'static str> {
        let keys: Value = serde_json::from_slice(keys).map_err(|_| "the provider's list of keys is not JSON")?;
        let keys = keys.get("keys").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let is_named = |key: &Value| match (&self.key_id, key.get("kid")) {
            (Some(wanted), Some(id)) => id.as_str() == Some(wanted),
            (Some(_), None) => false,
            (None, _) => true,
        };
        let mut found = keys.iter().filter(|key| is_named(key)).filter_map(|key| jwk(key, self.algorithm));
        match (found.next(), found.next()) {
            (Some(key), None) => Ok(key),
            (Some(_), Some(_)) => Err("several keys of the provider fit it"),
            (None, _) => Err("the provider has no key that fits it"),
        }
    }

    /// The person, once the signature was checked.
    ///
    /// # Errors
    /// What the token does not say as it must.
    pub fn person(&self, expected: ExpectedToken<'_>) -> Result<OidcPerson, &'static str> {
        let text = |name: &str| self.claims.get(name).and_then(Value::as_str);
        let seconds = |name: &str| self.claims.get(name).and_then(seconds);
        if text("iss") != Some(expected.issuer) {
            return Err("it is of another issuer");
        }
        let client = Some(expected.client_id);
        let is_audience = match self.claims.get("aud") {
            Some(Value::Array(all)) => match all.as_slice() {
                [one] => one.as_str() == client,
                // Other audiences are trusted only where the token says that it was issued to us.
                all => all.iter().any(|one| one.as_str() == client) && text("azp") == client,
            },
            one => one.and_then(Value::as_str) == client,
        };
        if !is_audience || text("azp").is_some_and(|azp| Some(azp) != client) {
            return Err("it is for another client");
        }
        let (Some(issued), Some(expires)) = (seconds("iat"), seconds("exp")) else {
            return Err("it does not say when it was issued and when it expires");
        };
        if expires.saturating_add(SKEW_S) <= expected.now_s {
            return Err("it has expired");
        }
        if issued > expected.now_s.saturating_add(SKEW_S) {
            return Err("it is of the future");
        }
        if !text("nonce").is_some_and(|nonce| is_same_text(nonce, expected.nonce)) {
            return Err("it is of another sign-in");
        }
        let is_subject = |subject: &&str| (1..=SUBJECT_MAX).contains(&subject.len());
        let subject = text("sub").filter(is_subject).ok_or("it names no person")?;
        let email = text("email").and_then(|email| read_email(email).ok()).ok_or("it has no mail address")?;
        if !expected.domain.has(&email) {
            return Err("its mail address is of another domain than the one that is proven");
        }
        let is_doubted = match self.claims.get("email_verified") {
            // The company answers for the addresses of its own domain.
            None => false,
            // Some providers write it as text.
            Some(verified) => verified.as_bool() != Some(true) && verified.as_str() != Some("true"),
        };
        if is_doubted {
            return Err("the provider has not verified its mail address");
        }
        if expected.issuer.starts_with(ENTRA) && !self.claims.get("xms_edov").is_some_and(is_true) {
            return Err(
                "Microsoft Entra does not say that the company owns the domain of its mail address (claim xms_edov)",
            );
        }
        if expected.issuer == GOOGLE && text("hd") != Some(expected.domain.as_str()) {
            return Err("the Google account is not of the company's Workspace");
        }
        Ok(OidcPerson { subject: subject.to_owned(), email })
    }
}

/// A `NumericDate` (RFC 7519, section 2) in whole seconds.
fn seconds(value: &Value) -> Option<u64> {
    match value.as_u64() {
        Some(whole) => Some(whole),
        // A fraction is cut off.
        None => value.as_number()?.to_string().split('.').next()?.parse().ok(),
    }
}

/// A key that may check signatures of an algorithm, with the members that WebCrypto needs; `None` for any other.
fn jwk(key: &Value, algorithm: SignatureAlgorithm) -> Option<Value> {
    let text = |name: &str| key.get(name).and_then(Value::as_str);
    let fits = text("use").is_none_or(|of| of == "sig") && text("alg").is_none_or(|name| name == algorithm.name());
    match (fits, algorithm, text("kty")?) {
        (true, SignatureAlgorithm::Rs256, "RSA") => {
            let (n, e) = (text("n")?, text("e")?);
            let modulus = URL_SAFE_NO_PAD.decode(n).ok()?;
            let bytes = modulus.iter().skip_while(|byte| **byte == 0).count();
            (bytes >= MODULUS_MIN).then(|| json!({"kty": "RSA", "n": n, "e": e}))
        }
        (true, SignatureAlgorithm::Es256, "EC") if text("crv") == Some("P-256") => {
            Some(json!({"kty": "EC", "crv": "P-256", "x": text("x")?, "y": text("y")?}))
        }
        (..) => None,
    }
}

#[cfg(test)]
mod tests;

//! Signing in by GitHub: the addresses and bodies of its OAuth web flow
//! (<https://docs.github.com/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps>).

use crate::admin::read_email;
use serde_json::{Value, json};
use x402_core::people::secret::Secret;
use x402_core::settings::sign_in::OauthClient;

/// The path to which GitHub sends a browser back.
pub const CALLBACK_PATH: &str = "/v1/session/github/callback";
/// The most characters of GitHub's code; its own have 20.
const CODE_MAX: usize = 256;
/// The most characters of an account's name; GitHub's have 39, and a company's suffix.
const NAME_MAX: usize = 64;

/// Where a browser goes to sign in. The scope lets us read the person's addresses, and nothing else.
#[must_use]
pub fn authorize_url(client: &OauthClient, redirect_uri: &str, state: &Secret, challenge: &str) -> String {
    let begin = "https://github.com/login/oauth/authorize?";
    let mut query = form_urlencoded::Serializer::for_suffix(begin.to_owned(), begin.len());
    query.append_pair("client_id", &client.id);
    query.append_pair("redirect_uri", redirect_uri);
    query.append_pair("scope", "user:email");
    query.append_pair("state", &state.text());
    query.append_pair("code_challenge", challenge);
    query.append_pair("code_challenge_method", "S256");
    query.finish()
}

/// The query with which GitHub sends a browser back.
#[derive(Debug)]
pub struct GithubCallback {
    /// The code that is traded for a token.
    pub code: String,
    /// Our state.
    pub state: Secret,
}

impl GithubCallback {
    /// Reads it; `None` where the person refused, or a member is missing or malformed.
    #[must_use]
    pub fn read(query: &str) -> Option<Self> {
        let member = |wanted: &str| {
            form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == wanted).map(|(_, value)| value)
        };
        let code = member("code").filter(|code| !code.is_empty() && code.len() <= CODE_MAX)?;
        Some(Self { code: code.into_owned(), state: Secret::parse(&member("state")?)? })
    }
}

/// The body that asks for a token.
#[must_use]
pub fn token_request(client: &OauthClient, code: &str, redirect_uri: &str, verifier: &str) -> String {
    json!({
        "client_id": client.id, "client_secret": client.secret, "code": code, "redirect_uri": redirect_uri,
        "code_verifier": verifier
    })
    .to_string()
}

/// What GitHub answers to a code, with status 200 in any case.
#[derive(Debug, PartialEq, Eq)]
pub enum TokenAnswer {
    /// A token.
    Token(String),
    /// The code is wrong, was used or has expired.
    BadCode,
    /// Our settings are wrong: GitHub's name of the error.
    BadClient(&'static str),
    /// Another answer.
    Unreadable,
}

impl TokenAnswer {
    /// Reads it.
    #[must_use]
    pub fn read(body: &[u8]) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let member = |name: &str| body.get(name).and_then(Value::as_str);
        match (member("access_token"), member("error")) {
            // A token is sent in a header.
            (Some(token), None) if !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Self::Token(token.to_owned())
            }
            (_, Some("incorrect_client_credentials")) => Self::BadClient("incorrect_client_credentials"),
            (_, Some("redirect_uri_mismatch")) => Self::BadClient("redirect_uri_mismatch"),
            (_, Some("bad_verification_code")) => Self::BadCode,
            (..) => Self::Unreadable,
        }
    }
}

/// GitHub's id of the person, of the answer to `GET /user`: a name can be given to somebody else, the id cannot.
#[must_use]
pub fn subject(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    body.get("id")?.as_u64().map(|id| id.to_string())
}

/// The account's name, of the same answer, as a mail may show it: `None` where it is not of letters, digits, `-` and `_`.
#[must_use]
pub fn account_name(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let name = body.get("login")?.as_str()?;
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    (is_plain && (1..=NAME_MAX).contains(&name.len())).then(|| name.to_owned())
}

/// The person's primary address in lower case, of the answer to `GET /user/emails`, if GitHub has verified it.
#[must_use]
pub fn verified_primary(body: &[u8]) -> Option<String> {
    let all: Vec<Value> = serde_json::from_slice(body).ok()?;
    let holds = |entry: &Value, name: &str| entry.get(name).and_then(Value::as_bool) == Some(true);
    let primary = all.iter().find(|entry| holds(entry, "primary") && holds(entry, "verified"))?;
    read_email(primary.get("email")?.as_str()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> OauthClient {
        OauthClient { id: "Iv1.a&b".to_owned(), secret: "s".to_owned() }
    }

    #[test]
    fn a_browser_is_sent_with_a_state_and_a_challenge() {
        let state = Secret::new([1; 32]);
        let url = authorize_url(&client(), "https://x.test/v1/session/github/callback", &state, "abc-_");
        let want = format!(
            "https://github.com/login/oauth/authorize?client_id=Iv1.a%26b\
             &redirect_uri=https%3A%2F%2Fx.test%2Fv1%2Fsession%2Fgithub%2Fcallback&scope=user%3Aemail&state={}\
             &code_challenge=abc-_&code_challenge_method=S256",
            "01".repeat(32)
        );
        assert_eq!(url, want);
    }

    #[test]
    fn a_callback_has_a_code_and_a_state() {
        let state = "01".repeat(32);
        let read = GithubCallback::read(&format!("code=a%2Fb&state={state}")).expect("read");
        assert_eq!((read.code.as_str(), read.state), ("a/b", Secret::new([1; 32])));
        let long = "x".repeat(CODE_MAX + 1);
        for wrong in [
            "",
            "code=a",
            &format!("state={state}"),
            &format!("code=&state={state}"),
            "code=a&state=x",
            &format!("code={long}&state={state}"),
            &format!("error=access_denied&state={state}"),
        ] {
            assert!(GithubCallback::read(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_token_is_a_token_or_says_who_is_wrong() {
        let read = |body: &str| TokenAnswer::read(body.as_bytes());
        assert_eq!(read(r#"{"access_token":"gho_1","token_type":"bearer"}"#), TokenAnswer::Token("gho_1".to_owned()));
        assert_eq!(read(r#"{"error":"bad_verification_code"}"#), TokenAnswer::BadCode);
        assert_eq!(read(r#"{"error":"redirect_uri_mismatch"}"#), TokenAnswer::BadClient("redirect_uri_mismatch"));
        for unreadable in ["", "[]", "{}", r#"{"access_token":"a b"}"#, r#"{"access_token":"","error":"x"}"#] {
            assert_eq!(read(unreadable), TokenAnswer::Unreadable, "{unreadable}");
        }
    }

    #[test]
    fn a_person_is_an_id_and_a_verified_primary_address() {
        assert_eq!(subject(br#"{"id":583231,"login":"octocat"}"#).as_deref(), Some("583231"));
        assert!(subject(br#"{"id":"583231"}"#).is_none() && subject(b"{}").is_none());
        let name = |login: &str| account_name(format!(r#"{{"login":"{login}"}}"#).as_bytes());
        assert_eq!(name("octo-cat_corp").as_deref(), Some("octo-cat_corp"));
        for wrong in ["", "a.b", "a b", "<b>", "ä", &"x".repeat(65)] {
            assert_eq!(name(wrong), None, "{wrong}");
        }
        assert_eq!(account_name(b"{}"), None);
        let entry = |primary: bool, verified: bool| {
            format!(
                r#"[{{"email":"A@x.test","primary":{primary},"verified":{verified}}},{{"email":"b@x.test","primary":false,"verified":true}}]"#
            )
        };
        assert_eq!(verified_primary(entry(true, true).as_bytes()).as_deref(), Some("a@x.test"));
        for (primary, verified) in [(true, false), (false, true)] {
            assert_eq!(verified_primary(entry(primary, verified).as_bytes()), None);
        }
        for wrong in
            ["[]", "{}", r#"[{"primary":true,"verified":true}]"#, r#"[{"email":"a","primary":true,"verified":true}]"#]
        {
            assert_eq!(verified_primary(wrong.as_bytes()), None, "{wrong}");
        }
    }
}

//! GitHub as an identity provider: trades the code of a callback for the person's id and address.

use crate::outbound::{HttpAnswer, OutboundRequest, deadline, exchange, request_headers};
use futures_util::future::try_join;
use x402_api::github::{TokenAnswer, account_name, subject, token_request, verified_primary};
use x402_core::error::{ErrorCode, Fault};
use x402_core::settings::sign_in::OauthClient;

const TOKEN_URL: &str = "https://github.com/login/oauth/access_token";
const USER_URL: &str = "https://api.github.com/user";
const EMAILS_URL: &str = "https://api.github.com/user/emails";
/// The deadline of one request; there are two in a row.
const LIMIT_MS: u32 = 5_000;
const ANSWER_MAX: usize = 64 * 1_024;
/// GitHub refuses requests to its API without one.
const USER_AGENT: (&str, &str) = ("user-agent", "x402-edge");

/// A person as GitHub names him.
pub(crate) struct GithubPerson {
    pub(crate) subject: String,
    /// The account's name, if it is of plain letters.
    pub(crate) name: Option<String>,
    /// The primary address, if GitHub has verified it.
    pub(crate) address: Option<String>,
}

fn unavailable(cause: String) -> Fault {
    let detail = "GitHub does not answer: sign in by a mail, or try again later";
    Fault::new(ErrorCode::UpstreamUnavailable, detail).after(5).because(cause)
}

async fn ask(url: &str, headers: &[(&str, &str)], body: Option<&str>) -> Result<HttpAnswer, Fault> {
    let headers = request_headers(headers);
    let request =
        OutboundRequest { url, headers: &headers, body, deadline: deadline(LIMIT_MS), answer_max: ANSWER_MAX };
    let answer = exchange(request).await.map_err(|failure| unavailable(format!("GitHub: {failure}")))?;
    match answer.status {
        200 => Ok(answer),
        status => Err(unavailable(format!("GitHub answered {status} to {url}"))),
    }
}

/// The person of a code; `None` where the code is wrong.
///
/// # Errors
/// `UPSTREAM_UNAVAILABLE`; `MISCONFIGURED` where GitHub does not know our app.
pub(crate) async fn identify(
    client: &OauthClient,
    code: &str,
    redirect_uri: &str,
    verifier: &str,
) -> Result<Option<GithubPerson>, Fault> {
    let body = token_request(client, code, redirect_uri, verifier);
    let json = [("accept", "application/json"), ("content-type", "application/json"), USER_AGENT];
    let token = match TokenAnswer::read(&ask(TOKEN_URL, &json, Some(&body)).await?.body) {
        TokenAnswer::Token(token) => token,
        TokenAnswer::BadCode => return Ok(None),
        TokenAnswer::BadClient(error) => {
            let detail = "GitHub does not know this service: sign in by a mail";
            return Err(Fault::new(ErrorCode::Misconfigured, detail).after(60).because(error));
        }
        TokenAnswer::Unreadable => return Err(unavailable("GitHub gave no token".to_owned())),
    };
    let authorization = format!("Bearer {token}");
    let own = [
        ("accept", "application/vnd.github+json"),
        ("authorization", authorization.as_str()),
        ("x-github-api-version", "2022-11-28"),
        USER_AGENT,
    ];
    let (user, emails) = try_join(ask(USER_URL, &own, None), ask(EMAILS_URL, &own, None)).await?;
    let subject = subject(&user.body).ok_or_else(|| unavailable("GitHub gave no id of the person".to_owned()))?;
    let (name, address) = (account_name(&user.body), verified_primary(&emails.body));
    Ok(Some(GithubPerson { subject, name, address }))
}

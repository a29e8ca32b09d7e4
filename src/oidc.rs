//! A tenant's own identity provider: reads its description, trades the code of a callback for an ID token, and checks that.
//! Each request has a deadline and a largest answer, follows no redirect, and goes to a public host: by its name, and by each
//! address that the DNS gives for it at that moment.

use crate::dns::AddressesUnknown;
use crate::outbound::{HttpAnswer, OutboundRequest, deadline, exchange, request_headers};
use crate::webcrypto::is_signed_by;
use crate::webhook_target::{TargetRefused, check_host};
use x402_api::oidc::discovery::{Discovery, document_url};
use x402_api::oidc::id_token::{ExpectedToken, OidcPerson, UncheckedToken};
use x402_api::oidc::{TokenAnswer, TokenRequest};
use x402_core::error::{ErrorCode, Fault};
use x402_core::public_url::PublicUrl;
use x402_core::settings::sign_in::OauthClient;

/// The deadline of one request; there are three in a row.
const LIMIT_MS: u32 = 5_000;
const ANSWER_MAX: usize = 128 * 1_024;
const USER_AGENT: (&str, &str) = ("user-agent", "x402-edge");

/// The provider cannot be asked, or not as documented. The cause is for the log; the detail is in words of our own.
fn unavailable(why: &'static str) -> Fault {
    let detail =
        format!("your company's identity provider cannot be used: {why}; sign in by a mail, or try again later");
    Fault::new(ErrorCode::UpstreamUnavailable, detail).after(5)
}

/// What the fault of a host says: nothing of its addresses.
fn unreachable(refused: TargetRefused) -> Fault {
    match refused {
        TargetRefused::Forbidden(why) => {
            unavailable("the DNS gives no public address for it").because(format!("OIDC: it {why}"))
        }
        TargetRefused::Unresolved(AddressesUnknown::ResolverAway(fault) | AddressesUnknown::NameFailing(fault)) => {
            let cause = fault.cause().unwrap_or("no answer").to_owned();
            unavailable("the DNS does not say where it is").because(cause)
        }
    }
}

async fn ask(
    resolver: &str,
    url: &PublicUrl,
    headers: &[(&str, &str)],
    body: Option<&str>,
) -> Result<HttpAnswer, Fault> {
    check_host(resolver, url.host()).await.map_err(unreachable)?;
    let headers = request_headers(headers);
    let request = OutboundRequest {
        url: url.as_str(),
        headers: &headers,
        body,
        deadline: deadline(LIMIT_MS),
        answer_max: ANSWER_MAX,
    };
    exchange(request).await.map_err(|failure| unavailable("it does not answer").because(format!("OIDC: {failure}")))
}

async fn read(resolver: &str, url: &PublicUrl) -> Result<Vec<u8>, Fault> {
    let answer = ask(resolver, url, &[("accept", "application/json"), USER_AGENT], None).await?;
    match answer.status {
        200 => Ok(answer.body),
        status => Err(unavailable("it does not answer").because(format!("OIDC: the provider answered {status}"))),
    }
}

/// The description of an issuer, read anew each time: a sign-in is rare, and its keys and addresses may change.
///
/// # Errors
/// `UPSTREAM_UNAVAILABLE`.
pub(crate) async fn discover(resolver: &str, issuer: &str) -> Result<Discovery, Fault> {
    let url = PublicUrl::parse(&document_url(issuer)).ok_or_else(|| unavailable("its address is not public"))?;
    Discovery::read(&read(resolver, &url).await?, issuer).map_err(|why| unavailable(why).because(why))
}

/// What a code is traded with.
pub(crate) struct Redeemed<'a> {
    /// The resolver of the DNS.
    pub(crate) resolver: &'a str,
    pub(crate) code: &'a str,
    pub(crate) redirect_uri: &'a str,
    pub(crate) verifier: &'a str,
}

fn refused(why: &str) -> Fault {
    let detail = format!("the ID token of your company's identity provider is refused: {why}");
    Fault::new(ErrorCode::InvalidSignIn, detail)
}

/// The person of a code; `None` where the provider does not accept the code.
///
/// # Errors
/// `UPSTREAM_UNAVAILABLE`; `INVALID_SIGN_IN` where the ID token is not as it must be, or the provider refuses our client.
pub(crate) async fn identify(
    discovery: &Discovery,
    client: &OauthClient,
    redeemed: Redeemed<'_>,
    expected: ExpectedToken<'_>,
) -> Result<Option<OidcPerson>, Fault> {
    let Redeemed { resolver, code, redirect_uri, verifier } = redeemed;
    let request = TokenRequest::new(discovery, client, code, redirect_uri, verifier);
    let mut headers =
        vec![("accept", "application/json"), ("content-type", "application/x-www-form-urlencoded"), USER_AGENT];
    headers.extend(request.authorization.as_deref().map(|text| ("authorization", text)));
    let answer = ask(resolver, &discovery.token_endpoint, &headers, Some(&request.body)).await?;
    let token = match TokenAnswer::read(answer.status, &answer.body) {
        TokenAnswer::IdToken(token) => UncheckedToken::parse(&token).map_err(refused)?,
        TokenAnswer::BadCode => return Ok(None),
        TokenAnswer::BadClient => {
            let detail =
                "your company's identity provider refuses the client id or its secret: ask an owner to set it anew";
            return Err(Fault::new(ErrorCode::InvalidSignIn, detail));
        }
        TokenAnswer::Unreadable => {
            let cause = format!("OIDC: the token endpoint answered {} and no ID token", answer.status);
            return Err(unavailable("it gives no ID token").because(cause));
        }
    };
    let key = token.key(&read(resolver, &discovery.jwks_uri).await?).map_err(refused)?;
    if !is_signed_by(&token, &key).await {
        return Err(refused("its signature is wrong"));
    }
    token.person(expected).map(Some).map_err(refused)
}

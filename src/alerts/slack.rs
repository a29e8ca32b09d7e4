//! Messages to Slack-compatible URLs: `{"text": …}` by `POST`, which Slack, Mattermost, Discord (`/slack`) and others take.

use crate::app;
use crate::app::App;
use crate::d1::alerts;
use crate::d1::alerts::rows::NoticeToPost;
use crate::outbound::{OutboundRequest, deadline, exchange, request_headers};
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use crate::webcrypto;
use crate::webhook_target::check_target;
use futures_util::stream::{self, StreamExt};
use serde_json::json;
use worker::D1Database;
use x402_chain::id::TenantId;
use x402_chain::time::UnixMillis;
use x402_core::alert::{next_post, slack_text};
use x402_core::error::Fault;
use x402_core::public_url::PublicUrl;
use x402_core::sealing::SealedRow;

/// The deadline of one message.
const LIMIT_MS: u32 = 10_000;
const ANSWER_MAX: usize = 64 * 1_024;
/// Messages that one run posts, and how many at the same time: with the deadline a run ends within a minute.
const POSTS_MAX: u64 = 25;
const AT_ONCE: usize = 5;

/// The row of a tenant's URL, which is a secret: whoever has it can post.
const fn url_row(tenant: &str) -> SealedRow<'_> {
    SealedRow { table: "tenants.alert_url", id: tenant }
}

/// Seals the URL of a tenant.
///
/// # Errors
/// `INVALID_REQUEST` where it may not be called; `INTERNAL` where the platform does not encrypt.
pub(crate) async fn seal(app: &App, tenant: TenantId, url: &PublicUrl) -> Result<String, Fault> {
    check_url(app, url).await?;
    webcrypto::seal(app.settings.peppers(), url_row(&tenant.to_string()), url.as_str()).await
}

/// Checks that a tenant's URL may be called: when it is set, and before each message.
///
/// # Errors
/// `INVALID_REQUEST` where it may not; `UPSTREAM_UNAVAILABLE` where the DNS does not answer.
async fn check_url(app: &App, url: &PublicUrl) -> Result<(), Fault> {
    check_target(app, url.as_str()).await.map_err(|refused| refused.at("alerts.slack_url"))
}

/// Posts the messages that are due; returns how many were taken.
///
/// # Errors
/// Where the directory fails.
pub(super) async fn post_due(app: &App, db: &D1Database, now: UnixMillis) -> Result<usize, Fault> {
    let due = alerts::notices_to_post(db, now, POSTS_MAX).await?;
    let post = |notice: NoticeToPost| async move {
        match post_notice(app, db, &notice, now).await {
            Ok(is_taken) => is_taken,
            Err(fault) => {
                let is_last = next_post(notice.tries, now).is_none();
                let kind = if is_last { TelemetryKind::AlertGivenUp } else { TelemetryKind::AlertFailed };
                event(kind, &[TelemetryField::Cause(&fault)]);
                false
            }
        }
    };
    let taken: Vec<bool> = stream::iter(due).map(post).buffer_unordered(AT_ONCE).collect().await;
    Ok(taken.into_iter().filter(|is_taken| *is_taken).count())
}

/// Tries to post a notice's message; `false` where another run does, or there is no URL any more.
async fn post_notice(app: &App, db: &D1Database, notice: &NoticeToPost, now: UnixMillis) -> Result<bool, Fault> {
    // The next try is set before this one: whatever becomes of it, the notice is tried again, and a bounded number of times.
    if !alerts::begin_post(db, notice, next_post(notice.tries, now)).await? {
        return Ok(false);
    }
    let url = match notice.tenant {
        Some(tenant) => read_url(app, db, tenant).await?.map(|url| url.as_str().to_owned()),
        None => app.settings.operator_alert_url().map(str::to_owned),
    };
    if let Some(url) = &url {
        post(url, &slack_text(notice.title, &notice.text)).await?;
    }
    alerts::note_posted(db, notice.id, app::now()).await?;
    Ok(url.is_some())
}

/// The URL of a tenant, if it has set one that may be called.
async fn read_url(app: &App, db: &D1Database, tenant: TenantId) -> Result<Option<PublicUrl>, Fault> {
    let Some(sealed) = alerts::read_settings(db, tenant).await?.sealed_url else { return Ok(None) };
    let url = webcrypto::open(app.settings.peppers(), url_row(&tenant.to_string()), &sealed).await;
    let url = url.as_deref().and_then(PublicUrl::parse);
    let url = url.ok_or_else(|| Fault::internal("the URL of a tenant's alerts cannot be opened"))?;
    check_url(app, &url).await?;
    Ok(Some(url))
}

async fn post(url: &str, text: &str) -> Result<(), Fault> {
    let body = json!({"text": text}).to_string();
    let request = OutboundRequest {
        url,
        headers: &request_headers(&[("content-type", "application/json"), ("user-agent", "x402-edge")]),
        body: Some(&body),
        deadline: deadline(LIMIT_MS),
        answer_max: ANSWER_MAX,
    };
    // The URL is a secret, and stands in no error.
    match exchange(request).await {
        Ok(answer) if (200..300).contains(&answer.status) => Ok(()),
        Ok(answer) => Err(Fault::internal(format!("the URL answered {}", answer.status))),
        Err(failure) => Err(Fault::internal(format!("the URL: {failure}"))),
    }
}

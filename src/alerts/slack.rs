//! Messages to Slack-compatible URLs: `{"text": …}` by `POST`, which Slack, Mattermost, Discord (`/slack`) and others take.

use crate::app;
use crate::app::App;
use crate::d1::alerts::rows::NoticeToPost;
use crate::d1::alerts::{self, PostLine};
use crate::outbound::{OutboundRequest, deadline, request_headers, send_for_status};
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use crate::webcrypto;
use crate::webhook_target::check_target;
use futures_util::stream::{FuturesUnordered, StreamExt};
use serde_json::json;
use std::collections::{BTreeSet, VecDeque};
use worker::D1Database;
use x402_chain::id::TenantId;
use x402_chain::time::UnixMillis;
use x402_core::alert::{SLOW_POST_MS, next_post, slack_text};
use x402_core::error::Fault;
use x402_core::public_url::PublicUrl;
use x402_core::sealing::SealedRow;

/// The deadline of one message.
const LIMIT_MS: u32 = 10_000;
/// Messages that are read at once, one of each tenant.
const BATCH_MAX: u64 = 50;
/// For how long a run begins with more messages: with the deadlines it ends before the next one, a minute after it.
const RUN_MS: u64 = 20_000;

/// Messages of a line that are posted at the same time: the platform opens six connections for all of them.
const fn at_once(line: PostLine) -> usize {
    match line {
        PostLine::Operators => 1,
        PostLine::Quick => 3,
        PostLine::Slow => 2,
    }
}

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

/// What has become of a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PostEnd {
    /// It was not tried: another run does, or the time is over.
    NotTried,
    /// It was not taken, or there is nowhere to post it.
    NotTaken,
    Taken,
}

/// Posts the messages of a line that are due, of each tenant one at a time; returns how many were taken.
///
/// # Errors
/// Where the directory fails.
pub(super) async fn post_due(app: &App, db: &D1Database, line: PostLine, now: UnixMillis) -> Result<usize, Fault> {
    let post = |notice: NoticeToPost| async move { (notice.tenant, begin_and_post(app, db, line, &notice).await) };
    let (began, mut taken) = (app::now(), 0_usize);
    let (mut posting, mut waiting, mut busy) = (FuturesUnordered::new(), VecDeque::new(), BTreeSet::new());
    // A message that is tried is not due any more: without one that was there is nothing else to read.
    let mut is_changed = true;
    loop {
        let has_time = app::now().since(began) < RUN_MS;
        if waiting.is_empty() && is_changed && has_time {
            let due = alerts::notices_to_post(db, line, now, BATCH_MAX).await?;
            waiting.extend(due.into_iter().filter(|notice| !busy.contains(&notice.tenant)));
            is_changed = false;
        }
        while has_time && posting.len() < at_once(line) {
            let Some(notice) = waiting.pop_front() else { break };
            busy.insert(notice.tenant);
            posting.push(post(notice));
        }
        let Some((tenant, end)) = posting.next().await else { return Ok(taken) };
        busy.remove(&tenant);
        is_changed |= end != PostEnd::NotTried;
        taken = taken.saturating_add((end == PostEnd::Taken).into());
    }
}

/// Tries to post a notice's message. What fails is logged.
async fn begin_and_post(app: &App, db: &D1Database, line: PostLine, notice: &NoticeToPost) -> PostEnd {
    let next = next_post(notice.tries, app::now());
    // The next try is set before this one: whatever becomes of it, the notice is tried again, and a bounded number of times.
    match alerts::begin_post(db, notice, next).await {
        Ok(true) => {}
        Ok(false) => return PostEnd::NotTried,
        Err(fault) => {
            event(TelemetryKind::AlertFailed, &[TelemetryField::Cause(&fault)]);
            return PostEnd::NotTried;
        }
    }
    post_notice(app, db, line, notice).await.unwrap_or_else(|fault| {
        let kind = if next.is_none() { TelemetryKind::AlertGivenUp } else { TelemetryKind::AlertFailed };
        event(kind, &[TelemetryField::Cause(&fault)]);
        PostEnd::NotTaken
    })
}

/// Posts a notice's message, if there is a URL.
async fn post_notice(app: &App, db: &D1Database, line: PostLine, notice: &NoticeToPost) -> Result<PostEnd, Fault> {
    let text = slack_text(notice.title, &notice.text);
    let posted = match notice.tenant {
        None => match app.settings.operator_alert_url() {
            Some(url) => post(url, &text).await,
            None => return end_post(db, notice).await,
        },
        Some(tenant) => match read_url(app, db, tenant).await? {
            Some(url) => post_to_tenant(app, db, (line, tenant), &url, &text).await,
            None => return end_post(db, notice).await,
        },
    };
    posted?;
    alerts::note_posted(db, notice.id, app::now()).await?;
    Ok(PostEnd::Taken)
}

async fn end_post(db: &D1Database, notice: &NoticeToPost) -> Result<PostEnd, Fault> {
    alerts::end_post(db, notice.id).await.map(|()| PostEnd::NotTaken)
}

/// Posts to a tenant's URL, and notes whether it took long, which decides in which line its next messages wait.
async fn post_to_tenant(
    app: &App,
    db: &D1Database,
    (line, tenant): (PostLine, TenantId),
    url: &PublicUrl,
    text: &str,
) -> Result<(), Fault> {
    let began = app::now();
    let posted = match check_url(app, url).await {
        Ok(()) => post(url.as_str(), text).await,
        Err(refused) => Err(refused),
    };
    let now = app::now();
    let slow = (now.since(began) >= SLOW_POST_MS).then_some(now);
    if (slow.is_some() || line == PostLine::Slow)
        && let Err(fault) = alerts::note_slow(db, tenant, slow).await
    {
        // The message may have been taken: it is not posted again for this.
        event(TelemetryKind::AlertFailed, &[TelemetryField::Cause(&fault)]);
    }
    posted
}

/// The URL of a tenant, if it has set one that can be opened. One that cannot, since its pepper was taken away, is logged, and
/// no further try would open it: the tenant's mails go all the same.
async fn read_url(app: &App, db: &D1Database, tenant: TenantId) -> Result<Option<PublicUrl>, Fault> {
    let Some(sealed) = alerts::read_settings(db, tenant).await?.sealed_url else { return Ok(None) };
    let url = webcrypto::open(app.settings.peppers(), url_row(&tenant.to_string()), &sealed).await;
    let url = url.as_deref().and_then(PublicUrl::parse);
    if url.is_none() {
        let fault = Fault::internal("the URL of a tenant's alerts cannot be opened: an owner must set it anew");
        event(TelemetryKind::AlertGivenUp, &[TelemetryField::Cause(&fault)]);
    }
    Ok(url)
}

/// Posts a message. The status decides: the answer's body, which may be long or never end, is not read.
async fn post(url: &str, text: &str) -> Result<(), Fault> {
    let body = json!({"text": text}).to_string();
    let request = OutboundRequest {
        url,
        headers: &request_headers(&[("content-type", "application/json"), ("user-agent", "x402-edge")]),
        body: Some(&body),
        deadline: deadline(LIMIT_MS),
        answer_max: 0,
    };
    // The URL is a secret, and stands in no error.
    match send_for_status(request).await {
        Ok(200..=299) => Ok(()),
        Ok(status) => Err(Fault::internal(format!("the URL answered {status}"))),
        Err(failure) => Err(Fault::internal(format!("the URL: {failure}"))),
    }
}

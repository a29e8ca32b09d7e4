//! What has happened to a tenant's payments and to the tenant: from the objects of the months, then from the archive. Before
//! anything is read, the ledger and the directory ship what they hold, so that what was answered is listed.

use super::account::{Admitted, RateHeaders, admit};
use crate::app::App;
use crate::archive;
use crate::archive::ArchiveFiles;
use crate::clients::records::RecordsClient;
use crate::directory_events;
use crate::request::IncomingRequest;
use crate::response::OutgoingResponse;
use std::collections::BTreeMap;
use x402_api::ApiReply;
use x402_api::events::{EventFilter, EventView, read_environment, read_event_filter};
use x402_api::records::{ListPage, read_page_query};
use x402_chain::id::EventId;
use x402_chain::time::{Period, UnixMillis};
use x402_core::error::{ErrorCode, Fault};
use x402_core::records::archive::ArchiveOwner;
use x402_core::records::archived_from;
use x402_core::records::events::{EventCopy, EventsPage, EventsQuery, merge};

/// The most bytes of a page's events: the largest, 100 of them, would not fit into the Worker's memory.
const PAGE_BYTES: usize = 8_388_608;
/// How far the clocks of two machines may be apart.
const CLOCKS_MS: u64 = 60_000;
/// The most months that one page is looked for in.
const MONTHS_MAX: usize = 13;

/// `GET /v1/events`.
pub(super) async fn list_events(app: &App, incoming: &IncomingRequest) -> Result<OutgoingResponse, Fault> {
    let page = read_page_query(&incoming.query, |text| EventId::parse(text).is_some())?;
    let filter = read_event_filter(&incoming.query)?;
    let (places, headers) = match EventPlaces::open(app, incoming).await? {
        Opened::Places(places, headers) => (places, headers),
        Opened::Refused(refusal) => return Ok(refusal),
    };
    let wanted = usize::try_from(page.limit).unwrap_or(usize::MAX).saturating_add(1);
    let before = page.before.as_deref().and_then(EventId::parse);
    let files = &mut ArchiveFiles::default();
    let found = places.list(&filter, (None, before), (wanted, PAGE_BYTES), files).await?;
    let ListPage { data, next_cursor } = ListPage::of(found.events, page.limit, |event| event.id.to_string());
    let next_cursor = next_cursor.or_else(|| found.floor.map(|floor| floor.to_string()));
    let environment = places.client.owner.environment;
    let data = data.into_iter().map(|event| EventView::of(event, environment)).collect();
    let mut reply = ApiReply::json(200, &ListPage { data, next_cursor });
    reply.headers = headers;
    Ok(reply.into())
}

/// `GET /v1/events/{id}`.
pub(super) async fn read_event(app: &App, incoming: &IncomingRequest) -> Result<OutgoingResponse, Fault> {
    let (places, headers) = match EventPlaces::open(app, incoming).await? {
        Opened::Places(places, headers) => (places, headers),
        Opened::Refused(refusal) => return Ok(refusal),
    };
    let none = || Fault::new(ErrorCode::NotFound, "no such event");
    let id = EventId::parse(incoming.param(0)).ok_or_else(none)?;
    let event = places.find(id).await?.ok_or_else(none)?;
    let mut reply = ApiReply::json(200, &EventView::of(event, places.client.owner.environment));
    reply.headers = headers;
    Ok(reply.into())
}

/// What a request for events may read.
enum Opened<'a> {
    /// All events of its tenant and environment, which have been shipped.
    Places(EventPlaces<'a>, RateHeaders),
    /// Nothing: the ledger has refused its key.
    Refused(OutgoingResponse),
}

/// Where a tenant's events are.
pub(super) struct EventPlaces<'a> {
    app: &'a App,
    client: RecordsClient,
    now: UnixMillis,
}

impl<'a> EventPlaces<'a> {
    /// The places of an owner's events.
    ///
    /// # Errors
    /// `MISCONFIGURED` where a binding is missing.
    pub(super) fn of(app: &'a App, owner: ArchiveOwner, now: UnixMillis) -> Result<Self, Fault> {
        Ok(Self { app, client: RecordsClient { namespace: app.records()?, owner }, now })
    }

    /// Checks who asks, and makes the ledger and the directory ship what they hold.
    async fn open(app: &'a App, incoming: &IncomingRequest) -> Result<Opened<'a>, Fault> {
        let own = incoming.caller.map(|caller| caller.environment);
        let environment = read_environment(&incoming.query, own)?;
        let (tenant, headers) = match admit(app, incoming, environment).await? {
            Admitted::Reader(tenant, headers) => (tenant, headers),
            Admitted::Refused(refusal) => return Ok(Opened::Refused(refusal)),
        };
        directory_events::ship_of(app, tenant, incoming.now).await?;
        Ok(Opened::Places(Self::of(app, ArchiveOwner { tenant, environment }, incoming.now)?, headers))
    }

    /// Whether a month may be archived. Its object is asked before the archive: it deletes only what the archive has.
    fn may_be_archived(&self, month: Period) -> bool {
        self.now.plus(CLOCKS_MS) >= archived_from(month)
    }

    async fn find(&self, id: EventId) -> Result<Option<EventCopy>, Fault> {
        let here = self.client.read_event(id).await?;
        let is_stored = here.as_ref().is_some_and(|event| !event.derived);
        if is_stored || !self.may_be_archived(Period::of(id.created_at())) {
            return Ok(here);
        }
        let there = archive::events::find(&self.app.archive()?, &self.client.owner, id).await?;
        Ok(merge_one(here, there))
    }

    /// So many events from an id on and before another, or all there are, the newest first; from the floor on none is
    /// missing. `wanted` and `bytes_max` bound the page.
    ///
    /// # Errors
    /// `LEDGER_UNAVAILABLE` where a place cannot be read.
    pub(super) async fn list(
        &self,
        filter: &EventFilter,
        (from, before): (Option<EventId>, Option<EventId>),
        (wanted, bytes_max): (usize, usize),
        files: &mut ArchiveFiles,
    ) -> Result<EventsPage, Fault> {
        let until = filter.to.map(|to| EventId::new(to, [0; 10]));
        let before = [before, until].into_iter().flatten().min();
        let from = filter.least_id().max(from);
        // The clock that gave the newest id may be ahead of this one.
        let now = self.now.plus(CLOCKS_MS);
        let newest = before.map_or(now, |id| id.created_at().min(now));
        let made = self.client.owner.tenant.created_at();
        let oldest = Period::of(from.map_or(made, |from| from.created_at().max(made)));
        let kinds: Vec<String> = filter.kinds.iter().map(|kind| kind.name().to_owned()).collect();
        let (mut month, mut bytes, mut events) = (Period::of(newest), 0_usize, Vec::new());
        for _ in 0..MONTHS_MAX {
            if month < oldest {
                return Ok(EventsPage { events, floor: None });
            }
            let (kinds, subject) = (kinds.clone(), filter.subject.clone());
            let rows = wanted.saturating_sub(events.len());
            let query = EventsQuery { before, from, kinds, subject, rows, bytes: bytes_max.saturating_sub(bytes) };
            let (found, floor) = self.list_month(month, query, files).await?;
            for event in found.into_values().rev().take(rows) {
                bytes = bytes.saturating_add(event.body.get().len());
                events.push(event);
            }
            if floor.is_some() || events.len() >= wanted {
                return Ok(EventsPage { events, floor });
            }
            month = month.previous();
        }
        Ok(EventsPage { events, floor: Some(EventId::new(month.end(), [0; 10])) })
    }

    /// The events of a month, from its object, and from the archive where it may be archived.
    async fn list_month(
        &self,
        month: Period,
        query: EventsQuery,
        files: &mut ArchiveFiles,
    ) -> Result<(BTreeMap<EventId, EventCopy>, Option<EventId>), Fault> {
        let mut pages = vec![self.client.page_events(month, query.clone()).await?];
        if self.may_be_archived(month) {
            pages.push(archive::events::page(&self.app.archive()?, &self.client.owner, month, &query, files).await?);
        }
        Ok(merge(pages))
    }
}

/// The event of a month's object, or of the archive where only that has stored it.
fn merge_one(here: Option<EventCopy>, there: Option<EventCopy>) -> Option<EventCopy> {
    let is_stored = there.as_ref().is_some_and(|event| !event.derived);
    if is_stored { there } else { here.or(there) }
}

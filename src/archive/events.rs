//! Events of months that the objects hold no more: those that were stored, and those that records say.

use super::{ArchiveFiles, each_line, ranges};
use core::ops::ControlFlow;
use std::collections::BTreeMap;
use worker::Bucket;
use x402_chain::id::{EventId, VerificationId};
use x402_chain::time::Period;
use x402_core::error::Fault;
use x402_core::records::archive::{ArchiveOwner, ArchivedKind};
use x402_core::records::events::{DerivingRecords, EventCopy, EventsPage, EventsQuery, Selected, merge, select};

/// The most R2 objects of a kind that one page reads: up to 10,000 lines each, which take some 100 ms of computing.
const FILES_MAX: usize = 2;

/// The id of an event that a line of a kind says.
fn id_of(kind: ArchivedKind, id: &str) -> Option<EventId> {
    match kind {
        ArchivedKind::Records => VerificationId::parse(id).map(VerificationId::event),
        ArchivedKind::Events => EventId::parse(id),
    }
}

/// How an id stands in the lines of a kind.
fn text_of(kind: ArchivedKind, id: EventId) -> String {
    match kind {
        ArchivedKind::Records => id.verification().to_string(),
        ArchivedKind::Events => id.to_string(),
    }
}

fn read_line(kind: ArchivedKind, line: &str) -> Result<EventCopy, Fault> {
    match kind {
        ArchivedKind::Records => EventCopy::of_record(serde_json::from_str(line).map_err(Fault::internal_json)?),
        ArchivedKind::Events => EventCopy::read(line),
    }
}

/// Reads an event; `None` where the archive does not hold it.
///
/// # Errors
/// `LEDGER_UNAVAILABLE` where R2 fails; `INTERNAL` where a file cannot be read.
pub(crate) async fn find(bucket: &Bucket, owner: &ArchiveOwner, id: EventId) -> Result<Option<EventCopy>, Fault> {
    for kind in [ArchivedKind::Events, ArchivedKind::Records] {
        let text = text_of(kind, id);
        let start = format!("{{\"id\":\"{text}\"");
        for (key, range) in ranges(bucket, &owner.day(id.created_at(), kind), kind).await? {
            if !range.holds(&text) {
                continue;
            }
            let mut found = None;
            let take = |line: &str| {
                if !line.starts_with(&start) {
                    return Ok(ControlFlow::Continue(()));
                }
                found = Some(read_line(kind, line)?);
                Ok(ControlFlow::Break(()))
            };
            each_line(bucket, &key, take).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
    }
    Ok(None)
}

/// A month's events, the newest first.
///
/// # Errors
/// `LEDGER_UNAVAILABLE` where R2 fails; `INTERNAL` where a file cannot be read.
pub(crate) async fn page(
    bucket: &Bucket,
    owner: &ArchiveOwner,
    month: Period,
    query: &EventsQuery,
    files: &mut ArchiveFiles,
) -> Result<EventsPage, Fault> {
    let mut pages = vec![newest(bucket, owner, month, (ArchivedKind::Events, query), files).await?];
    match query.deriving_records() {
        DerivingRecords::None => {}
        DerivingRecords::One(_) | DerivingRecords::All => {
            pages.push(newest(bucket, owner, month, (ArchivedKind::Records, query), files).await?);
        }
    }
    let (all, floor) = merge(pages);
    let sized: BTreeMap<EventId, (usize, EventCopy)> =
        all.into_iter().map(|(id, event)| (id, (event.body.get().len(), event))).collect();
    let Selected { events, floor } = select(sized, floor, query);
    Ok(EventsPage { events, floor })
}

/// The newest events that lines of a kind say.
async fn newest(
    bucket: &Bucket,
    owner: &ArchiveOwner,
    month: Period,
    (kind, query): (ArchivedKind, &EventsQuery),
    files: &mut ArchiveFiles,
) -> Result<EventsPage, Fault> {
    let (before, from) = match (kind, query.deriving_records()) {
        // Nothing but one record says a wanted event.
        (ArchivedKind::Records, DerivingRecords::One(id)) => (Some(id.next().event()), Some(id.event())),
        _ => (query.before, query.from),
    };
    let [before, from] = [before, from].map(|id| id.map(|id| text_of(kind, id)));
    let mut all = ranges(bucket, &owner.month(month), kind).await?;
    let is_before = |id: &str| before.as_ref().is_none_or(|before| id < before.as_str());
    all.retain(|(_, range)| is_before(&range.first) && from.as_ref().is_none_or(|from| range.last >= *from));
    all.sort_by(|(_, one), (_, other)| other.first.cmp(&one.first));
    let (mut page, mut read, mut bytes) = (EventsPage::default(), 0_usize, 0_usize);
    for (key, range) in all {
        // One more than is wanted shows that there are more.
        let left = query.rows.saturating_add(1).saturating_sub(page.events.len());
        if left == 0 || read >= FILES_MAX || bytes > query.bytes {
            return Ok(page);
        }
        read = read.saturating_add(1);
        // A file holds the oldest first; its newest are wanted.
        let mut found = Vec::new();
        let text = files.lines(bucket, &key).await?;
        for line in text.lines().rev() {
            if !is_before(super::id_of(line)) {
                continue;
            }
            let event = read_line(kind, line)?;
            if query.from.is_some_and(|from| event.id < from) {
                break;
            }
            if query.holds(event.id) && query.is_wanted(&event.kind, &event.subject) {
                found.push(event);
            }
            if found.len() >= left {
                break;
            }
        }
        // Where the file may hold more than that, the last of these is where the page ends.
        page.floor = match found.last() {
            Some(event) if found.len() >= left => Some(event.id),
            _ => id_of(kind, &range.first),
        };
        bytes = found.iter().fold(bytes, |sum, event| sum.saturating_add(event.body.get().len()));
        page.events.append(&mut found);
    }
    if page.events.len() <= query.rows {
        page.floor = None;
    }
    Ok(page)
}

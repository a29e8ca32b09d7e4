//! The archive (R2): records and events of months that the objects hold no more, as gzip files of JSON lines.

pub(crate) mod events;

use crate::app;
use crate::isolate::archives;
use core::ops::ControlFlow;
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use worker::{Bucket, Delay};
use x402_chain::id::VerificationId;
use x402_chain::time::Period;
use x402_core::error::{ErrorCode, Fault};
use x402_core::messages::records::{RecordsPage, RecordsQuery};
use x402_core::records::archive::{ArchiveOwner, ArchivedKind, ArchivedRange};
use x402_core::records::gzip::LineReader;
use x402_core::records::{RecordCopy, gzip};

/// How a line begins, before its id.
const LINE_START: &str = "{\"id\":\"";
/// The length of an id, `ver_` or `evt_` and 26 letters.
const ID_LENGTH: usize = 30;
/// The most requests for the keys of a month; each returns up to 1,000.
const LISTS_MAX: usize = 200;
/// How long a reader waits until others have read their files, and how often it looks whether they have.
const WAIT_MS: u64 = 20_000;
const PAUSE_MS: u64 = 20;

fn archive_unavailable(error: impl core::fmt::Display) -> Fault {
    Fault::new(ErrorCode::LedgerUnavailable, "the archive of records is not available").after(1).because(error)
}

/// Writes an R2 object, reads it back, and compares its hash and its number of lines.
///
/// # Errors
/// `LEDGER_UNAVAILABLE` where R2 fails; `INTERNAL` where it holds something else than was written.
pub(crate) async fn write(bucket: &Bucket, key: &str, file: Vec<u8>, lines: usize) -> Result<(), Fault> {
    let written = Sha256::digest(&file);
    bucket.put(key, file).execute().await.map_err(archive_unavailable)?;
    let (mut hash, mut found, mut reader) = (Sha256::new(), 0_usize, LineReader::default());
    let mut count = |_: &str| {
        found = found.saturating_add(1);
        Ok(ControlFlow::Continue(()))
    };
    let read = each_chunk(bucket, key, |chunk| {
        hash.update(chunk);
        reader.push(chunk, &mut count)
    });
    if !read.await? {
        return Err(archive_unavailable("what was written is not there"));
    }
    if hash.finalize() != written {
        return Err(Fault::internal(format!("the archive holds another file: {key}")));
    }
    reader.finish(&mut count)?;
    if found == lines { Ok(()) } else { Err(Fault::internal(format!("{found} lines for {lines} rows: {key}"))) }
}

/// Reads an R2 object chunk by chunk, until `take` breaks; whether there is one.
async fn each_chunk(
    bucket: &Bucket,
    key: &str,
    mut take: impl FnMut(&[u8]) -> Result<ControlFlow<()>, Fault>,
) -> Result<bool, Fault> {
    let Some(object) = bucket.get(key).execute().await.map_err(archive_unavailable)? else { return Ok(false) };
    let Some(body) = object.body() else { return Ok(false) };
    let mut stream = body.stream().map_err(archive_unavailable)?;
    while let Some(chunk) = stream.next().await {
        if take(&chunk.map_err(archive_unavailable)?)?.is_break() {
            break;
        }
    }
    Ok(true)
}

/// Reads the lines of an R2 object in little memory, until `take` breaks.
async fn each_line(
    bucket: &Bucket,
    key: &str,
    mut take: impl FnMut(&str) -> Result<ControlFlow<()>, Fault>,
) -> Result<(), Fault> {
    let (mut reader, mut is_over) = (LineReader::default(), false);
    let read = each_chunk(bucket, key, |chunk| {
        let flow = reader.push(chunk, &mut take)?;
        is_over = flow.is_break();
        Ok(flow)
    });
    if read.await? && !is_over { reader.finish(take) } else { Ok(()) }
}

/// The R2 objects of a kind whose keys begin so, each with its range.
async fn ranges(bucket: &Bucket, prefix: &str, kind: ArchivedKind) -> Result<Vec<(String, ArchivedRange)>, Fault> {
    let (mut found, mut cursor) = (Vec::new(), None);
    for _ in 0..LISTS_MAX {
        let list = bucket.list().prefix(prefix);
        let list = if let Some(cursor) = cursor { list.cursor(cursor) } else { list };
        let listed = list.execute().await.map_err(archive_unavailable)?;
        let keys = listed.objects().into_iter().map(|object| object.key());
        found.extend(keys.filter_map(|key| {
            let range = ArchivedRange::parse(&key, kind)?;
            Some((key, range))
        }));
        cursor = listed.cursor();
        if !listed.truncated() || cursor.is_none() {
            return Ok(found);
        }
    }
    Err(archive_unavailable("more keys than are listed"))
}

/// Deletes some of the R2 objects of an owner; returns whether none was left.
///
/// # Errors
/// `LEDGER_UNAVAILABLE` where R2 fails: some may be deleted, and the same may be asked again.
pub(crate) async fn erase(bucket: &Bucket, owner: &ArchiveOwner) -> Result<bool, Fault> {
    let listed = bucket.list().prefix(owner.prefix()).execute().await.map_err(archive_unavailable)?;
    let keys: Vec<String> = listed.objects().into_iter().map(|object| object.key()).collect();
    if keys.is_empty() {
        return Ok(true);
    }
    bucket.delete_multiple(keys).await.map_err(archive_unavailable)?;
    Ok(false)
}

/// Reads records by their ids, each R2 object once; those that the archive does not hold are missing.
///
/// # Errors
/// `LEDGER_UNAVAILABLE` where R2 fails; `INTERNAL` where a file cannot be read.
pub(crate) async fn find(
    bucket: &Bucket,
    owner: &ArchiveOwner,
    ids: impl IntoIterator<Item = VerificationId>,
) -> Result<Vec<RecordCopy>, Fault> {
    let mut days: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for id in ids {
        days.entry(owner.day(id.created_at(), ArchivedKind::Records)).or_default().insert(id.to_string());
    }
    let mut found = Vec::new();
    for (day, mut wanted) in days {
        for (key, range) in ranges(bucket, &day, ArchivedKind::Records).await? {
            if !wanted.iter().any(|id| range.holds(id)) {
                continue;
            }
            let take = |line: &str| {
                if wanted.remove(id_of(line)) {
                    found.push(serde_json::from_str(line).map_err(Fault::internal_json)?);
                }
                Ok(if wanted.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            };
            each_line(bucket, &key, take).await?;
        }
    }
    Ok(found)
}

/// Reads files of the archive page after page. The isolate holds what its readers have read last, few files for all of them
/// ([`archives`]): a reader that is alone reads each R2 object once.
pub(crate) struct ArchiveFiles(());

impl Default for ArchiveFiles {
    fn default() -> Self {
        archives::begin_reading();
        Self(())
    }
}

impl Drop for ArchiveFiles {
    fn drop(&mut self) {
        archives::end_reading();
    }
}

impl ArchiveFiles {
    /// The lines of an R2 object, the oldest first; none where it does not exist. They are for what is done at once: nobody
    /// keeps them while something is awaited.
    async fn lines(&mut self, bucket: &Bucket, key: &str) -> Result<Rc<String>, Fault> {
        let began = app::now();
        loop {
            if let Some(text) = archives::held(key) {
                return Ok(text);
            }
            let now = app::now();
            if let Some(_loading) = archives::Loading::begin(now) {
                return load(bucket, key).await;
            }
            if now.since(began) >= WAIT_MS {
                return Err(archive_unavailable("too many files of it are being read"));
            }
            Delay::from(Duration::from_millis(PAUSE_MS)).await;
        }
    }
}

/// Reads a file for all readers of the isolate.
async fn load(bucket: &Bucket, key: &str) -> Result<Rc<String>, Fault> {
    let mut file = Vec::new();
    let reading = each_chunk(bucket, key, |chunk| {
        file.extend_from_slice(chunk);
        Ok(ControlFlow::Continue(()))
    });
    let deadline = Delay::from(Duration::from_millis(archives::LOADING_MS));
    let is_there = match select(pin!(reading), pin!(deadline)).await {
        Either::Left((is_there, _)) => is_there?,
        Either::Right(_) => return Err(archive_unavailable("a file took too long")),
    };
    if !is_there {
        return Ok(Rc::default());
    }
    archives::make_room(gzip::size(&file));
    let text = Rc::new(gzip::text(&file)?);
    archives::hold(key.to_owned(), Rc::clone(&text));
    Ok(text)
}

/// The id that a line begins with; empty where it begins otherwise.
fn id_of(line: &str) -> &str {
    line.strip_prefix(LINE_START).and_then(|rest| rest.get(..ID_LENGTH)).unwrap_or_default()
}

/// A month's records, the newest first.
///
/// # Errors
/// `LEDGER_UNAVAILABLE` where R2 fails; `INTERNAL` where a file cannot be read.
pub(crate) async fn page(
    bucket: &Bucket,
    owner: &ArchiveOwner,
    month: Period,
    query: &RecordsQuery,
    files: &mut ArchiveFiles,
) -> Result<RecordsPage, Fault> {
    let before = query.before.map(|id| id.to_string());
    let is_before = |id: &str| before.as_ref().is_none_or(|before| id < before.as_str());
    let mut all = ranges(bucket, &owner.month(month), ArchivedKind::Records).await?;
    all.retain(|(_, range)| is_before(&range.first));
    all.sort_by(|(_, one), (_, other)| other.first.cmp(&one.first));
    let (mut page, mut bytes) = (RecordsPage::default(), 0_usize);
    for (key, _) in all {
        if page.records.len() >= query.rows {
            break;
        }
        // A file holds the oldest first; its newest are wanted.
        let text = files.lines(bucket, &key).await?;
        for line in text.lines().rev().filter(|line| is_before(id_of(line))) {
            if page.records.len() >= query.rows {
                break;
            }
            let record: RecordCopy = serde_json::from_str(line).map_err(Fault::internal_json)?;
            bytes = bytes.saturating_add(record.record.get().len());
            if bytes > query.bytes && !page.records.is_empty() {
                page.is_cut = true;
                return Ok(page);
            }
            page.records.push(record);
        }
    }
    Ok(page)
}

//! The archive (R2): records and events of months that the objects hold no more, as gzip files of JSON lines.

pub(crate) mod events;

use futures_util::StreamExt;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use worker::Bucket;
use x402_chain::id::VerificationId;
use x402_chain::time::Period;
use x402_core::error::{ErrorCode, Fault};
use x402_core::messages::records::{RecordsPage, RecordsQuery};
use x402_core::records::archive::{ArchiveOwner, ArchivedKind, ArchivedRange};
use x402_core::records::{RecordCopy, gzip};

/// How a line begins, before its id.
const LINE_START: &str = "{\"id\":\"";
/// The length of an id, `ver_` or `evt_` and 26 letters.
const ID_LENGTH: usize = 30;
/// The most requests for the keys of a month; each returns up to 1,000.
const LISTS_MAX: usize = 200;

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
    let file = read_file(bucket, key).await?.ok_or_else(|| archive_unavailable("what was written is not there"))?;
    if Sha256::digest(&file) != written {
        return Err(Fault::internal(format!("the archive holds another file: {key}")));
    }
    let mut found = 0_usize;
    for line in gzip::lines(&file) {
        line?;
        found = found.saturating_add(1);
    }
    if found == lines { Ok(()) } else { Err(Fault::internal(format!("{found} lines for {lines} rows: {key}"))) }
}

/// Reads an R2 object, chunk by chunk.
async fn read_file(bucket: &Bucket, key: &str) -> Result<Option<Vec<u8>>, Fault> {
    let Some(object) = bucket.get(key).execute().await.map_err(archive_unavailable)? else { return Ok(None) };
    let Some(body) = object.body() else { return Ok(None) };
    let (mut stream, mut file) = (body.stream().map_err(archive_unavailable)?, Vec::new());
    while let Some(chunk) = stream.next().await {
        file.extend(chunk.map_err(archive_unavailable)?);
    }
    Ok(Some(file))
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
            let Some(file) = read_file(bucket, &key).await? else { continue };
            for line in gzip::lines(&file) {
                let line = line?;
                if wanted.remove(id_of(&line)) {
                    found.push(serde_json::from_str(&line).map_err(Fault::internal_json)?);
                }
            }
        }
    }
    Ok(found)
}

/// The files of a reader that were read last, one of each kind, as lines: at most 8 MiB each. A reader of page after page
/// reads each R2 object once.
#[derive(Default)]
pub(crate) struct ArchiveFiles(BTreeMap<&'static str, HeldFile>);

/// A file of the archive, the oldest line first.
#[derive(Default)]
struct HeldFile {
    key: String,
    lines: Vec<String>,
}

impl ArchiveFiles {
    /// The lines of an R2 object; none where it does not exist.
    async fn lines(&mut self, bucket: &Bucket, kind: ArchivedKind, key: String) -> Result<&[String], Fault> {
        let held = self.0.entry(kind.prefix()).or_default();
        if held.key != key {
            // The file of before goes first: both at a time are not needed.
            *held = HeldFile::default();
            if let Some(file) = read_file(bucket, &key).await? {
                let lines = gzip::lines(&file).collect::<Result<_, Fault>>()?;
                *held = HeldFile { key, lines };
            }
        }
        Ok(&held.lines)
    }
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
        let lines = files.lines(bucket, ArchivedKind::Records, key).await?.iter().rev();
        for line in lines.filter(|line| is_before(id_of(line))) {
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

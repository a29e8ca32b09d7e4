//! Archives a month in R2: one R2 object after the other, each read back before the next, then deletes all that is stored.
//! The month takes nothing meanwhile, so that a step that is repeated after a crash writes the same again.

use super::store::RecordsStore;
use super::{ArchivedKind, Records, RecordsOwner};
use crate::app::bucket;
use crate::archive;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use serde::{Deserialize, Serialize};
use x402_core::error::Fault;
use x402_core::records::archive::{ArchiveLoad, ROWS_MAX};
use x402_core::records::gzip::LineFile;
use x402_core::records::pack::unpack;

/// The most R2 objects written in one alarm; each takes up to half a second of computing.
const OBJECTS_MAX: usize = 10;
/// The most rows read at once.
const ROWS_READ_MAX: usize = 200;

/// How far the archive has come; from the first step on the month takes nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct ArchiveProgress {
    /// What is being written.
    kind: ArchivedKind,
    /// The last id of the kind that was written and read back; empty at first.
    after: String,
    /// How many events are archived.
    events: u64,
    /// How many records are archived.
    records: u64,
}

/// The name of the stored [`ArchiveProgress`].
const PROGRESS: &str = "archive";

/// The rows of one R2 object.
struct ArchivePart {
    first: String,
    last: String,
    rows: usize,
    /// The gzip file of their lines.
    file: Vec<u8>,
}

impl Records {
    /// Whether the month is being archived.
    pub(super) fn is_archiving(&self, store: &RecordsStore) -> Result<bool, Fault> {
        Ok(store.state::<ArchiveProgress>(PROGRESS)?.is_some())
    }

    /// Writes the next R2 objects; returns whether the month is archived and deleted.
    pub(super) async fn archive_month(&self, month: &RecordsOwner) -> Result<bool, Fault> {
        let (store, bucket) = (self.store(), bucket(&self.env)?);
        let first = ArchiveProgress { kind: ArchivedKind::Events, after: String::new(), events: 0, records: 0 };
        let mut progress = match store.state(PROGRESS)? {
            Some(progress) => progress,
            None => {
                store.put_state(PROGRESS, &first)?;
                first
            }
        };
        for _ in 0..OBJECTS_MAX {
            match next_part(&store, &progress)? {
                Some(part) => {
                    let kind = progress.kind;
                    let at = kind.time_of(&part.first).ok_or_else(|| Fault::internal("a row without an id"))?;
                    let key = month.owner.key(at, kind, &part.first, &part.last);
                    archive::write(&bucket, &key, part.file, part.rows).await?;
                    let done = match kind {
                        ArchivedKind::Events => &mut progress.events,
                        ArchivedKind::Records => &mut progress.records,
                    };
                    *done = done.saturating_add(u64::try_from(part.rows).map_err(Fault::internal)?);
                    progress.after = part.last;
                }
                None if progress.kind == ArchivedKind::Events => {
                    progress = ArchiveProgress { kind: ArchivedKind::Records, after: String::new(), ..progress };
                }
                None => return self.delete_month(&store, &progress).await.map(|()| true),
            }
            store.put_state(PROGRESS, &progress)?;
        }
        Ok(false)
    }

    /// Deletes all that is stored, when as many rows are archived as there are.
    async fn delete_month(&self, store: &RecordsStore, progress: &ArchiveProgress) -> Result<(), Fault> {
        let counts = store.counts()?;
        if (counts.records, counts.events) != (progress.records, progress.events) {
            return Err(Fault::internal(format!("{counts:?} are stored, and archived are {progress:?}")));
        }
        self.opened.set(false);
        self.state.storage().delete_all().await.map_err(Fault::internal)?;
        let done = usize::try_from(counts.records).map_err(Fault::internal)?;
        event(TelemetryKind::MonthArchived, &[TelemetryField::Done(done)]);
        Ok(())
    }
}

/// The next rows to archive; `None` where no row of the kind is left.
fn next_part(store: &RecordsStore, progress: &ArchiveProgress) -> Result<Option<ArchivePart>, Fault> {
    let ArchiveProgress { kind, after, .. } = progress;
    let (mut load, mut first, mut last) = (ArchiveLoad::default(), String::new(), String::new());
    for row in store.sizes_after(*kind, after, ROWS_MAX)? {
        let at = kind.time_of(&row.id).ok_or_else(|| Fault::internal("a row without an id"))?;
        if !load.accept(at, row.size) {
            break;
        }
        if first.is_empty() {
            first.clone_from(&row.id);
        }
        last = row.id;
    }
    if first.is_empty() {
        return Ok(None);
    }
    let (mut file, mut from) = (LineFile::default(), after.clone());
    while from < last {
        let rows = store.members_between(*kind, (&from, &last), ROWS_READ_MAX)?;
        let Some(end) = rows.last() else { return Err(Fault::internal("rows have gone while they were archived")) };
        from.clone_from(&end.id);
        for row in &rows {
            file.add(&unpack(&row.body)?)?;
        }
    }
    Ok(Some(ArchivePart { first, last, rows: load.rows(), file: file.finish()? }))
}

//! Reads verification records wherever they are: in the object of their month, in the directory (what an older build has
//! shipped), in the archive.

use crate::app::App;
use crate::archive::ArchiveFiles;
use crate::clients::records::RecordsClient;
use crate::{archive, d1};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use x402_api::records::ListPage;
use x402_chain::id::VerificationId;
use x402_chain::time::{Period, UnixMillis};
use x402_core::error::Fault;
use x402_core::messages::ledger::PageQuery;
use x402_core::messages::records::{RecordsPage, RecordsQuery};
use x402_core::records::archive::ArchiveOwner;
use x402_core::records::{RecordCopy, archived_from};

/// The most bytes of a page's records: the largest records, 100 of them, would not fit into the Worker's memory.
const PAGE_BYTES: usize = 8_388_608;
/// The same of an export's page, which is read while others are, and sent as one piece.
const EXPORT_BYTES: usize = 2_097_152;
/// The most records of the directory that an export reads at once.
const OLDER_MAX: u32 = 100;
/// How far the clocks of two machines may be apart.
const CLOCKS_MS: u64 = 60_000;
/// The most months that one page is looked for in.
const MONTHS_MAX: usize = 13;

/// Where a tenant's records are.
pub(super) struct RecordPlaces<'a> {
    app: &'a App,
    client: RecordsClient,
    now: UnixMillis,
}

/// Records by their ids, as far down as `floor`: an older id may be missing.
pub(super) struct FoundRecords {
    pub(super) records: BTreeMap<VerificationId, RecordCopy>,
    pub(super) floor: Option<VerificationId>,
}

impl FoundRecords {
    /// The same with records of the directory, where the months do not hold them.
    fn with(mut self, older: Vec<(VerificationId, Box<RawValue>)>) -> Self {
        for (id, record) in older {
            self.records.entry(id).or_insert(RecordCopy { id, revision: 0, record, units: None });
        }
        if let Some(floor) = self.floor {
            self.records.retain(|id, _| *id >= floor);
        }
        self
    }
}

/// How far an export has come in places that need not be read again.
#[derive(Default)]
pub(super) struct RecordsReading {
    files: ArchiveFiles,
    /// Whether the directory holds no older record.
    is_older_read: bool,
}

impl<'a> RecordPlaces<'a> {
    /// The places of an owner's records.
    ///
    /// # Errors
    /// `MISCONFIGURED` where a binding is missing.
    pub(super) fn of(app: &'a App, owner: ArchiveOwner, now: UnixMillis) -> Result<Self, Fault> {
        Ok(Self { app, client: RecordsClient { namespace: app.records()?, owner }, now })
    }

    /// Whether a month may be archived. Its object is asked before the archive: it deletes only what the archive has.
    fn may_be_archived(&self, month: Period) -> bool {
        self.now.plus(CLOCKS_MS) >= archived_from(month)
    }

    /// A record's text; `None` where no place holds it.
    ///
    /// # Errors
    /// `LEDGER_UNAVAILABLE` where a place cannot be read.
    pub(super) async fn find(&self, id: VerificationId) -> Result<Option<String>, Fault> {
        let owner = self.client.owner;
        if let Some(found) = self.client.read(id).await? {
            return Ok(Some(found.record.get().to_owned()));
        }
        if let Some(text) = d1::read_record(&self.app.db()?, owner.tenant, owner.environment, id).await? {
            return Ok(Some(text));
        }
        if !self.may_be_archived(Period::of(id.created_at())) {
            return Ok(None);
        }
        let found = archive::find(&self.app.archive()?, &owner, [id]).await?;
        Ok(found.first().map(|found| found.record.get().to_owned()))
    }

    /// A page of records, the newest first. It may hold fewer than it asks for and name a cursor all the same.
    ///
    /// # Errors
    /// `LEDGER_UNAVAILABLE` where a place cannot be read.
    pub(super) async fn list(&self, page: &PageQuery) -> Result<ListPage<Box<RawValue>>, Fault> {
        let owner = self.client.owner;
        let older = d1::list_records(&self.app.db()?, owner.tenant, owner.environment, page).await?;
        let before = page.before.as_deref().and_then(VerificationId::parse);
        let rows = usize::try_from(page.limit).unwrap_or(usize::MAX).saturating_add(1);
        let query = RecordsQuery { before, rows, bytes: PAGE_BYTES };
        let found = self.list_months(query, None, &mut ArchiveFiles::default()).await?;
        let FoundRecords { records, floor } = found.with(older);
        let newest: Vec<(VerificationId, Box<RawValue>)> =
            records.into_iter().rev().map(|(id, copy)| (id, copy.record)).collect();
        let ListPage { data, next_cursor } = ListPage::of(newest, page.limit, |(id, _)| id.to_string());
        let next_cursor = next_cursor.or_else(|| floor.map(|floor| floor.to_string()));
        Ok(ListPage { data: data.into_iter().map(|(_, record)| record).collect(), next_cursor })
    }

    /// Records of an export, in the order of their ids.
    ///
    /// # Errors
    /// `LEDGER_UNAVAILABLE` where a place cannot be read.
    pub(super) async fn export(
        &self,
        (before, from): (Option<VerificationId>, Option<VerificationId>),
        rows: usize,
        reading: &mut RecordsReading,
    ) -> Result<FoundRecords, Fault> {
        let owner = self.client.owner;
        let query = RecordsQuery { before, rows, bytes: EXPORT_BYTES };
        let mut found = self.list_months(query, from, &mut reading.files).await?;
        if found.records.len() >= rows {
            found.floor = found.floor.max(found.records.keys().next().copied());
        }
        if !reading.is_older_read {
            let page = PageQuery { limit: OLDER_MAX, before: before.map(|id| id.to_string()) };
            let older = d1::list_records(&self.app.db()?, owner.tenant, owner.environment, &page).await?;
            match older.last().filter(|_| older.len() > usize::try_from(OLDER_MAX).unwrap_or(usize::MAX)) {
                Some((last, _)) => found.floor = found.floor.max(Some(*last)),
                None => reading.is_older_read = older.is_empty(),
            }
            found = found.with(older);
        }
        if let Some(from) = from {
            found.floor = found.floor.filter(|floor| *floor > from);
            found.records.retain(|id, _| *id >= from);
        }
        Ok(found)
    }

    /// So many records as are wanted, if there are so many, from the newest month to the oldest, or to that of `from`.
    async fn list_months(
        &self,
        wanted: RecordsQuery,
        from: Option<VerificationId>,
        files: &mut ArchiveFiles,
    ) -> Result<FoundRecords, Fault> {
        // The clock that gave the newest id may be ahead of this one.
        let now = self.now.plus(CLOCKS_MS);
        let newest = wanted.before.map_or(now, |id| id.created_at().min(now));
        let made = self.client.owner.tenant.created_at();
        let oldest = Period::of(from.map_or(made, |from| from.created_at().max(made)));
        let mut found = FoundRecords { records: BTreeMap::new(), floor: None };
        let (mut month, mut bytes) = (Period::of(newest), 0_usize);
        for _ in 0..MONTHS_MAX {
            let rows = wanted.rows.saturating_sub(found.records.len());
            let query = RecordsQuery { rows, bytes: wanted.bytes.saturating_sub(bytes), ..wanted };
            let FoundRecords { records, floor } = self.list_month(month, query, files).await?;
            bytes = records.values().fold(bytes, |sum, copy| sum.saturating_add(copy.record.get().len()));
            found.records.extend(records);
            if floor.is_some() || found.records.len() >= wanted.rows || month <= oldest {
                return Ok(FoundRecords { floor, ..found });
            }
            month = month.previous();
        }
        Ok(FoundRecords { floor: Some(VerificationId::new(month.end(), [0; 10])), ..found })
    }

    /// The newest records of a month, from its object, and from the archive where it may be archived.
    async fn list_month(
        &self,
        month: Period,
        query: RecordsQuery,
        files: &mut ArchiveFiles,
    ) -> Result<FoundRecords, Fault> {
        let mut pages = vec![self.client.page(month, query).await?];
        if self.may_be_archived(month) {
            pages.push(archive::page(&self.app.archive()?, &self.client.owner, month, &query, files).await?);
        }
        let floor = pages.iter().filter(|page| page.is_cut).filter_map(oldest_of).max();
        let mut records: BTreeMap<VerificationId, RecordCopy> = BTreeMap::new();
        for copy in pages.into_iter().flat_map(|page| page.records) {
            // The object's revision is the newer one.
            records.entry(copy.id).or_insert(copy);
        }
        // Below the last of what was asked for, one of the pages may have ended and the other not.
        while records.len() > query.rows {
            records.pop_first();
        }
        Ok(FoundRecords { records, floor })
    }
}

/// The oldest record of a page.
fn oldest_of(page: &RecordsPage) -> Option<VerificationId> {
    page.records.last().map(|copy| copy.id)
}

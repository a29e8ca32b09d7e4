//! `GET /v1/export`: rows of a tenant as one file, the newest first, a page after the other. A page is read when the client
//! has taken the one before, so that an export of any length takes the memory of a few pages.

use super::account::{Admitted, RateHeaders, admit_as};
use super::events::EventPlaces;
use super::records::{RecordPlaces, RecordsReading};
use super::watched::{Reader, watched_body};
use crate::app;
use crate::app::App;
use crate::archive::ArchiveFiles;
use crate::clients::ledger::call_ledger;
use crate::d1;
use crate::d1::change;
use crate::directory_events;
use crate::isolate::exports::ExportPlace;
use crate::request::IncomingRequest;
use crate::response::OutgoingResponse;
use crate::telemetry::{TelemetryField, TelemetryKind, event};
use futures_util::stream;
use std::rc::Rc;
use worker::Context;
use x402_api::ApiReply;
use x402_api::audit::AuditQuery;
use x402_api::events::{EventFilter, EventView, read_environment};
use x402_api::export::{ExportKind, ExportQuery, ExportWriter, read_export_query};
use x402_chain::id::{EventId, RequestId, SettlementId, TenantId, VerificationId};
use x402_chain::network::Environment;
use x402_core::error::{ErrorCode, Fault};
use x402_core::messages::ledger::{AccountView, LedgerMessage, LedgerReply};
use x402_core::records::archive::ArchiveOwner;
use x402_core::tenancy::access::Access;
use x402_core::tenancy::role::Role;

/// Rows that are read at once.
const ROWS: usize = 1_000;
/// The most bytes of events that are read at once, or one event.
const BYTES: usize = 2_097_152;
/// The most pages of one answer: a request may make 10,000 requests to objects, the archive and the directory, and a page
/// makes up to five.
const PAGES_MAX: usize = 2_000;

/// What the audit log asks of its readers.
const AUDITORS: Access = Access::Managed(Role::Owner);

/// `GET /v1/export`. The ledger counts it: it may read as much as a thousand lists.
pub(super) async fn export(
    app: &Rc<App>,
    context: &Context,
    incoming: IncomingRequest,
) -> Result<OutgoingResponse, Fault> {
    let query = read_export_query(&incoming.query, incoming.caller.is_some())?;
    let environment = read_environment(&incoming.query, incoming.caller.map(|caller| caller.environment))?;
    let (access, admitted) = match query.form.kind {
        ExportKind::Audit => (AUDITORS, admit_auditor(app, &incoming).await?),
        ExportKind::Verifications | ExportKind::Settlements | ExportKind::Events => {
            (incoming.row.access, admit_as(app, &incoming, environment, !incoming.is_head).await?)
        }
    };
    let (tenant, headers) = match admitted {
        Admitted::Reader(tenant, headers) => (tenant, headers),
        Admitted::Refused(refusal) => return Ok(refusal),
    };
    let name = query.form.kind.name();
    let reply = ApiReply { status: 200, content_type: query.form.format.content_type(), body: String::new(), headers };
    let reply =
        reply.with("Content-Disposition", format!("attachment; filename=\"{name}.{}\"", query.form.format.name()));
    if incoming.is_head {
        return Ok(reply.into());
    }
    match query.form.kind {
        ExportKind::Settlements => ship_settlements(app, &incoming, (tenant, environment)).await?,
        ExportKind::Events => directory_events::ship_of(app, tenant, incoming.now).await?,
        ExportKind::Verifications | ExportKind::Audit => {}
    }
    let too_many = "too many exports run at this time: wait until one has ended";
    let audited = incoming.environment();
    let (request_id, now) = (incoming.request_id, incoming.now);
    let reader = Rc::new(Reader::new(Rc::clone(app), incoming, access));
    let place = ExportPlace::take(tenant, Rc::clone(&reader.asked_at), now)
        .ok_or_else(|| Fault::new(ErrorCode::RateLimited, too_many).after(10))?;
    let mut export = Export {
        app: Rc::clone(app),
        place,
        request_id,
        owner: ArchiveOwner { tenant, environment },
        audited,
        writer: ExportWriter::new(query.form),
        query,
        records: RecordsReading::default(),
        files: ArchiveFiles::default(),
        pages: 0,
        next: Next::Head,
    };
    // A place that is away is answered as such, before the file begins.
    let first = export.next_piece().await?;
    let rest = stream::try_unfold((first, export), Export::step);
    Ok(OutgoingResponse::Stream(reply, watched_body(context, &reader, rest)?))
}

/// Admits whom the audit log admits: an owner's session, or a key with the scope `manage`.
async fn admit_auditor(app: &App, incoming: &IncomingRequest) -> Result<Admitted, Fault> {
    let (owner, message) = match incoming.caller {
        Some(caller) => {
            let message = LedgerMessage::Account { key: caller.hash, view: AccountView::Whoami, off: Vec::new() };
            ((caller.tenant, caller.environment), message)
        }
        None => {
            let session = incoming.session()?;
            session.check_role(Role::Owner)?;
            // Nothing is to be shipped: the ledger counts the request.
            ((session.tenant, Environment::Live), LedgerMessage::Ping)
        }
    };
    let mut envelope = incoming.envelope(app, owner, message);
    (envelope.access, envelope.counted) = (Some(AUDITORS.sent(incoming.caller.is_some())), !incoming.is_head);
    let response = call_ledger(app, &envelope, None).await?;
    if matches!(response.reply(), LedgerReply::Answer | LedgerReply::Done) {
        let headers = if incoming.caller.is_some() { response.rates() } else { RateHeaders::new() };
        return Ok(Admitted::Reader(owner.0, headers));
    }
    Ok(Admitted::Refused(response.into_answer()?.into()))
}

/// Makes the ledger ship its settlements to the directory.
async fn ship_settlements(app: &App, incoming: &IncomingRequest, owner: (TenantId, Environment)) -> Result<(), Fault> {
    let mut envelope = incoming.envelope(app, owner, LedgerMessage::Flush);
    // Without a route's access the ledger ships to the directory.
    (envelope.access, envelope.from) = (None, None);
    let response = call_ledger(app, &envelope, None).await?;
    if matches!(response.reply(), LedgerReply::Done | LedgerReply::NoTenant) {
        return Ok(());
    }
    Err(Fault::new(ErrorCode::LedgerUnavailable, "the ledger could not ship its settlements").after(1))
}

/// What an export writes next.
enum Next {
    /// The first line, then the newest rows.
    Head,
    /// The rows before the cursor of the query.
    Rows,
    /// Nothing: all is written.
    Nothing,
}

/// Rows of a page, the newest first.
struct ExportedRows {
    /// Each as JSON text.
    rows: Vec<Box<str>>,
    /// Before which id the next page begins; `None`: there is no older row.
    before: Option<String>,
}

/// An export on its way.
struct Export {
    app: Rc<App>,
    place: ExportPlace,
    request_id: RequestId,
    owner: ArchiveOwner,
    /// The environment whose entries of the audit log are seen; `None`: all.
    audited: Option<Environment>,
    writer: ExportWriter,
    query: ExportQuery,
    records: RecordsReading,
    files: ArchiveFiles,
    pages: usize,
    next: Next,
}

impl Export {
    /// Sends the piece that was read and, once the client has room again, reads the next.
    async fn step(
        (piece, mut export): (Option<String>, Self),
    ) -> worker::Result<Option<(Vec<u8>, (Option<String>, Self))>> {
        let piece = match piece {
            Some(piece) => Some(piece),
            None => export.next_piece().await.map_err(|fault| {
                let fields = [TelemetryField::RequestId(export.request_id), TelemetryField::Cause(&fault)];
                event(TelemetryKind::Faulted, &fields);
                worker::Error::RustError("the export was cut".to_owned())
            })?,
        };
        Ok(piece.map(|piece| (piece.into_bytes(), (None, export))))
    }

    /// The next piece of the file; `None` at its end.
    async fn next_piece(&mut self) -> Result<Option<String>, Fault> {
        let mut text = match self.next {
            Next::Head => self.writer.head(),
            Next::Rows => String::new(),
            Next::Nothing => return Ok(None),
        };
        self.next = Next::Rows;
        let mut is_read = false;
        while !is_read {
            if !self.place.is_held() {
                return Err(Fault::internal("the export was idle, and others took its place"));
            }
            self.pages = self.pages.saturating_add(1);
            if self.pages > PAGES_MAX {
                return Err(Fault::internal("the export is longer than one answer"));
            }
            let ExportedRows { rows, before } = self.read_rows().await?;
            is_read = !rows.is_empty();
            for row in rows {
                self.writer.add(&mut text, &row)?;
            }
            if before.is_none() {
                text.push_str(&self.writer.end());
                self.next = Next::Nothing;
                break;
            }
            self.query.before = before;
        }
        Ok(Some(text))
    }

    async fn read_rows(&mut self) -> Result<ExportedRows, Fault> {
        match self.query.form.kind {
            ExportKind::Verifications => self.read_verifications().await,
            ExportKind::Settlements => self.read_settlements().await,
            ExportKind::Events => self.read_events().await,
            ExportKind::Audit => self.read_audit().await,
        }
    }

    async fn read_verifications(&mut self) -> Result<ExportedRows, Fault> {
        let before = self.query.before.as_deref().and_then(VerificationId::parse);
        let from = self.query.from.map(|from| VerificationId::new(from, [0; 10]));
        let places = RecordPlaces::of(&self.app, self.owner, app::now())?;
        let found = places.export((before, from), ROWS, &mut self.records).await?;
        let rows = found.records.into_values().rev().map(|copy| Box::<str>::from(copy.record)).collect();
        Ok(ExportedRows { rows, before: found.floor.map(|floor| floor.to_string()) })
    }

    async fn read_settlements(&mut self) -> Result<ExportedRows, Fault> {
        let from = self.query.from.map_or_else(String::new, |from| SettlementId::new(from, [0; 10]).to_string());
        let ArchiveOwner { tenant, environment } = self.owner;
        let bounds = (self.query.before.as_deref(), from.as_str());
        let limit = u64::try_from(ROWS).map_err(Fault::internal)?;
        let found = d1::list_settlements(&self.app.db()?, (tenant, environment), bounds, limit).await?;
        let before = found.last().filter(|_| found.len() >= ROWS).map(|(id, _)| id.clone());
        Ok(ExportedRows { rows: found.into_iter().map(|(_, body)| body.into()).collect(), before })
    }

    async fn read_events(&mut self) -> Result<ExportedRows, Fault> {
        let before = self.query.before.as_deref().and_then(EventId::parse);
        let filter = EventFilter { from: self.query.from, ..EventFilter::default() };
        let places = EventPlaces::of(&self.app, self.owner, app::now())?;
        let found = places.list(&filter, (None, before), (ROWS, BYTES), &mut self.files).await?;
        let last = found.events.last().filter(|_| found.events.len() >= ROWS).map(|event| event.id);
        let before = found.floor.max(last).map(|id| id.to_string());
        let views = found.events.into_iter().map(|event| EventView::of(event, self.owner.environment));
        let rows = views.map(|view| json_of(&view)).collect::<Result<_, Fault>>()?;
        Ok(ExportedRows { rows, before })
    }

    async fn read_audit(&mut self) -> Result<ExportedRows, Fault> {
        let wanted = AuditQuery { since: self.query.from, ..AuditQuery::default() };
        let limit = u64::try_from(ROWS).map_err(Fault::internal)?;
        let (seen, page) = ((self.owner.tenant, self.audited), (self.query.before.as_deref(), limit));
        let found = change::list_audit(&self.app.db()?, seen, &wanted, page).await?;
        let before = found.last().filter(|_| found.len() >= ROWS).map(|row| row.entry.id.clone());
        let rows = found.iter().map(|row| json_of(&row.entry)).collect::<Result<_, Fault>>()?;
        Ok(ExportedRows { rows, before })
    }
}

fn json_of(view: &impl serde::Serialize) -> Result<Box<str>, Fault> {
    serde_json::to_string(view).map(String::into_boxed_str).map_err(Fault::internal)
}

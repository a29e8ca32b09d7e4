//! What is stored by this build and by others: rows, archives, exports.

use crate::properties::{bounded, hushed, judged, quiet, stable_json, text};
use core::ops::ControlFlow;
use x402_api::audit;
use x402_api::audit::AuditView;
use x402_api::export::{ExportForm, ExportFormat, ExportKind, ExportWriter};
use x402_chain::id::VerificationId;
use x402_chain::time::UnixMillis;
use x402_core::audit::ActorKind;
use x402_core::metrics::series;
use x402_core::outbox::{OutboxEntry, OutboxEvent};
use x402_core::records::archive::{ArchivedKind, ArchivedRange};
use x402_core::records::detail::RecordDetail;
use x402_core::records::events::EventCopy;
use x402_core::records::gzip;
use x402_core::records::gzip::{LineFile, LineReader};
use x402_core::records::pack;
use x402_core::records::rollup::RecordShare;
use x402_core::records::{RecordCopy, events};
use x402_core::sanctions::SanctionsList;
use x402_core::settlement::Flight;
use x402_core::settlement::nonces::Nonces;
use x402_core::settlement::status::Settlement;
use x402_core::tenancy::branding::Branding;
use x402_core::tenancy::tenant::Tenant;
use x402_core::verification::answer::VerificationAnswer;
use x402_core::verification::restored::restored_record;
use x402_core::webhook::backlog::Backlog;
use x402_core::webhook::breaker::EndpointBreaker;
use x402_core::webhook::missed::Missed;
use x402_core::webhook::subscription::WebhookSubscription;

/// LZ4 makes at most so many bytes of one.
const LZ4_TIMES: usize = 255;
/// The most bytes of a file's text, and of a line: what is written has less.
const TEXT_MAX: usize = 33_554_432;

pub(crate) fn packed(input: &[u8]) -> bool {
    // Text is packed as it is; what was packed is unpacked to the same.
    if let Some(line) = text(input) {
        assert_eq!(pack::unpack(&pack::pack(line)).as_deref(), Ok(line));
    }
    let line = pack::unpack(input);
    if let Ok(line) = &line {
        bounded(line.len(), input, LZ4_TIMES, 0);
        assert_eq!(pack::unpack(&pack::pack(line)).as_ref(), Ok(line));
    }
    judged(line, input)
}

pub(crate) fn gzip(input: &[u8]) -> bool {
    assert!(gzip::size(input) <= TEXT_MAX);
    let text = gzip::text(input);
    if let Ok(text) = &text {
        assert!(text.len() <= TEXT_MAX);
    }
    judged(text, input)
}

/// The same file chunk by chunk: the lines are those of the whole.
pub(crate) fn gzip_lines(input: &[u8]) -> bool {
    let whole = gzip::text(input);
    for size in [1, 7, 4_096] {
        if size == 1 && input.len() > 2_048 {
            continue;
        }
        let (mut reader, mut lines) = (LineReader::default(), Vec::new());
        let mut take = |line: &str| {
            lines.push(line.to_owned());
            Ok(ControlFlow::Continue(()))
        };
        let pushed =
            input.chunks(size).try_for_each(|chunk| LineReader::push(&mut reader, chunk, &mut take).map(|_| ()));
        let read = pushed.and_then(|()| reader.finish(&mut take));
        match (&whole, read) {
            (Ok(whole), Ok(())) => assert_eq!(lines, whole.lines().collect::<Vec<_>>()),
            (Err(_), Err(fault)) => quiet(&fault, input),
            // A stream has no end to look at, and nothing at all is a file without lines.
            (Err(_), Ok(())) => {}
            (Ok(_), Err(fault)) => panic!("a whole file is refused: {fault:?}"),
        }
    }
    let Ok(whole) = whole else { return false };
    let mut file = LineFile::default();
    whole.lines().for_each(|line| LineFile::add(&mut file, line).expect("memory"));
    let again = gzip::text(&file.finish().expect("memory")).expect("what was written");
    assert!(again.lines().eq(whole.lines()));
    true
}

pub(crate) fn archive_key(input: &[u8]) -> bool {
    let Some(key) = text(input) else { return false };
    let found = [ArchivedKind::Records, ArchivedKind::Events].map(|kind| {
        let _ = ArchivedKind::time_of(kind, key);
        ArchivedRange::parse(key, kind)
    });
    assert!(found.iter().flatten().count() <= 1, "a key of two kinds");
    found.into_iter().flatten().any(|range| key.contains(&format!("{}-{}.ndjson.gz", range.first, range.last)))
}

/// Cells as a spreadsheet reads them: by RFC 4180.
fn cells(csv: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut letters = csv.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => cell.push(letters.next().expect("peeked")),
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(core::mem::take(&mut cell)),
            '\r' if !quoted && letters.peek() == Some(&'\n') => {
                letters.next();
                row.push(core::mem::take(&mut cell));
                rows.push(core::mem::take(&mut row));
            }
            other => cell.push(other),
        }
    }
    assert!(!quoted && cell.is_empty() && row.is_empty(), "a file that ends in a cell");
    rows
}

/// Whatever stands in a cell, it stays one cell and begins no formula, also where a spreadsheet divides at another sign.
pub(crate) fn csv(input: &[u8]) -> bool {
    let Some(given) = text(input) else { return false };
    let one = || given.to_owned();
    let entry = AuditView {
        id: one(),
        created_at: one(),
        actor_kind: ActorKind::Operator,
        actor: one(),
        action: one(),
        subject: one(),
        detail: Some(one()),
        ip_prefix: one(),
        user_agent: Some(one()),
    };
    let file = audit::csv_of(&[entry]);
    bounded(file.len(), input, 8 * 3, 400);
    let rows = cells(&file);
    assert_eq!(rows.iter().map(Vec::len).collect::<Vec<_>>(), [9, 9]);
    for cell in [&rows[1][0], &rows[1][8]] {
        for part in cell.split([';', ',', '\t', '\r', '\n']) {
            let begin = part.trim_start_matches(|letter: char| letter == '"' || letter.is_whitespace());
            assert!(!begin.starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']), "{cell:?} begins a formula");
        }
        assert_eq!(cell.replace('\'', ""), given.replace('\'', ""), "another text");
    }
    let mut writer = ExportWriter::new(ExportForm { kind: ExportKind::Audit, format: ExportFormat::Csv });
    let mut line = String::new();
    let written = ExportWriter::add(&mut writer, &mut line, given);
    if written.is_ok() {
        assert_eq!(cells(&line).len(), 1);
    }
    let is_row = judged(written, input);
    // Labels of metrics are escaped too.
    let labels =
        format!("other=\"\",{}", series::label_text(x402_core::metrics::MetricFamily::HttpRequests, &[given, "200"]));
    assert_eq!(series::label_value(&labels, "route").as_deref(), Some(given));
    let _ = series::label_value(given, "route");
    is_row || !given.is_empty()
}

pub(crate) fn state(input: &[u8]) -> bool {
    let found = [
        stable_json::<Tenant>(input),
        stable_json::<Flight>(input),
        stable_json::<Settlement>(input),
        stable_json::<VerificationAnswer>(input),
        stable_json::<Nonces>(input),
        stable_json::<Backlog>(input),
        stable_json::<Missed>(input),
        stable_json::<EndpointBreaker>(input),
        stable_json::<WebhookSubscription>(input),
        stable_json::<Branding>(input),
    ];
    found.contains(&true)
}

pub(crate) fn record(input: &[u8]) -> bool {
    let Some(line) = text(input) else { return false };
    let id = VerificationId::new(UnixMillis(crate::properties::NOW_MS), [7; 10]);
    let found = [
        judged(RecordShare::read(id, line), input),
        judged(RecordDetail::read(id, line), input),
        judged(EventCopy::read(line), input),
    ];
    if let Ok(copy) = serde_json::from_slice::<RecordCopy>(input) {
        judged(OutboxEvent::answered(id, copy.record.clone()), input);
        judged(EventCopy::of_record(copy), input);
    }
    for units in [None, Some(line)] {
        judged(restored_record(line, units, UnixMillis(crate::properties::NOW_MS)), input);
    }
    let _ = events::kind_of_outcome(line);
    found.contains(&true)
}

/// The kind, a line break, the body.
pub(crate) fn outbox(input: &[u8]) -> bool {
    let Some((kind, body)) = text(input).and_then(|text| text.split_once('\n')) else { return false };
    judged(OutboxEvent::parse(body), body.as_bytes());
    let entry = OutboxEntry::parse(kind, body);
    if let Ok(entry) = &entry {
        let written = entry.body().expect("JSON");
        let again = OutboxEntry::parse(kind, &written).expect("what was written");
        assert_eq!(again.body().expect("JSON"), written);
    }
    match entry {
        Ok(_) => true,
        Err(fault) => {
            hushed(fault.detail.as_ref(), body.as_bytes());
            false
        }
    }
}

pub(crate) fn sanctions(input: &[u8]) -> bool {
    let Some(list) = text(input) else { return false };
    SanctionsList::parse(list).is_some()
}

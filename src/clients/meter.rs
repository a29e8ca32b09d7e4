//! Calls to the Meters, with their deadline.

use futures_util::future::{Either, join_all, select};
use std::pin::pin;
use std::time::Duration;
use wasm_bindgen::JsValue;
use worker::{Delay, Method, ObjectNamespace, Request, RequestInit};
use x402_core::error::{ErrorCode, Fault, json_place};
use x402_core::messages::MessageHead;
use x402_core::messages::meter::{METER_SHARDS, MeterAddition, MeterMessage, MeterReply, QueueDepth, meter_name};
use x402_core::metrics::series::MetricCounts;

/// The deadline of a call.
const DEADLINE_MS: u64 = 3_000;

fn meter_unavailable(cause: impl core::fmt::Display) -> Fault {
    Fault::new(ErrorCode::LedgerUnavailable, "the metrics cannot be reached").after(1).because(cause)
}

async fn call_meter(namespace: &ObjectNamespace, shard: u8, message: &MeterMessage) -> Result<MeterReply, Fault> {
    let stub = namespace.get_by_name(&meter_name(shard)).map_err(meter_unavailable)?;
    let body = serde_json::to_string(message).map_err(Fault::internal)?;
    let mut init = RequestInit::new();
    init.with_method(Method::Post).with_body(Some(JsValue::from_str(&body)));
    let request = Request::new_with_init(&MessageHead::own(None).address("meter"), &init).map_err(meter_unavailable)?;
    let asked = async { stub.fetch_with_request(request).await?.text().await };
    let deadline = Delay::from(Duration::from_millis(DEADLINE_MS));
    match select(pin!(asked), pin!(deadline)).await {
        Either::Left((Ok(text), _)) => match MeterReply::read(&text) {
            Ok(MeterReply::Failed(code)) => Err(meter_unavailable(format!("a meter failed: {code}"))),
            Ok(reply) => Ok(reply),
            Err(error) => Err(meter_unavailable(json_place(&error))),
        },
        Either::Left((Err(error), _)) => Err(meter_unavailable(error)),
        Either::Right(_) => Err(meter_unavailable(format!("no answer in {DEADLINE_MS} ms"))),
    }
}

fn unexpected_reply() -> Fault {
    meter_unavailable("a meter replied to another message")
}

/// Sends an addition to the Meter of its source.
///
/// # Errors
/// `LEDGER_UNAVAILABLE`: it may be stored, or not; the same may be sent again, to the same shard.
pub(crate) async fn add(namespace: &ObjectNamespace, shard: u8, addition: MeterAddition) -> Result<(), Fault> {
    match call_meter(namespace, shard, &MeterMessage::Add(addition)).await? {
        MeterReply::Added => Ok(()),
        MeterReply::Totals { .. } | MeterReply::Spans { .. } | MeterReply::Failed(_) => Err(unexpected_reply()),
    }
}

/// The sum of what all Meters have counted, and what waits in objects.
///
/// # Errors
/// `LEDGER_UNAVAILABLE` where one of them does not answer: the others' sum alone would read as a fall.
pub(crate) async fn totals(namespace: &ObjectNamespace) -> Result<(MetricCounts, Vec<QueueDepth>), Fault> {
    let (mut sum, mut all) = (MetricCounts::default(), Vec::new());
    let calls = (0..METER_SHARDS).map(|shard| call_meter(namespace, shard, &MeterMessage::Totals));
    for reply in join_all(calls).await {
        match reply? {
            MeterReply::Totals { counts, depths } => {
                sum.add(&counts);
                all.extend(depths);
            }
            MeterReply::Added | MeterReply::Spans { .. } | MeterReply::Failed(_) => return Err(unexpected_reply()),
        }
    }
    Ok((sum, all))
}

/// What all Meters have counted in the last hour and in the last day.
///
/// # Errors
/// `LEDGER_UNAVAILABLE` where one of them does not answer.
pub(crate) async fn spans(namespace: &ObjectNamespace) -> Result<[MetricCounts; 2], Fault> {
    let mut sums = [MetricCounts::default(), MetricCounts::default()];
    let calls = (0..METER_SHARDS).map(|shard| call_meter(namespace, shard, &MeterMessage::Spans));
    for reply in join_all(calls).await {
        match reply? {
            MeterReply::Spans { hour, day } => {
                let [of_hour, of_day] = &mut sums;
                of_hour.add(&hour);
                of_day.add(&day);
            }
            MeterReply::Added | MeterReply::Totals { .. } | MeterReply::Failed(_) => return Err(unexpected_reply()),
        }
    }
    Ok(sums)
}

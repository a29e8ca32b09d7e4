//! Sends what isolates have counted to the Meters. Whoever does work calls [`send_due`] after it: nothing waits for that.

use crate::app;
use crate::clients::meter;
use crate::telemetry::counts;
use x402_chain::time::UnixMillis;
use x402_core::messages::meter::shard_of;

/// The work of sending what is due; `None` where nothing is, or without the binding. It never fails: what no Meter takes is
/// sent again.
pub(crate) fn send_due(env: &worker::Env, now: UnixMillis) -> Option<impl Future<Output = ()> + use<>> {
    let meters = app::meters(env).ok()?;
    let addition =
        counts::take_due(now, || format!("isolate:{}", hex::encode(app::random::<8>().unwrap_or_default())))?;
    let (shard, sequence) = (shard_of(&addition.source), addition.sequence);
    Some(async move {
        let is_taken = meter::add(&meters, shard, addition).await.is_ok();
        counts::note_sent(sequence, is_taken);
    })
}

/// Sends what is due after an object's work.
pub(crate) fn send_from_object(state: &worker::State, env: &worker::Env) {
    if let Some(work) = send_due(env, app::now()) {
        state.wait_until(work);
    }
}

//! What the alarms of objects share.

use crate::app;
use std::time::Duration;
use worker::Delay;
use x402_chain::time::UnixMillis;
use x402_core::alarm::pause_ms;

/// Pauses after a piece of work that began then, so that requests are served between two pieces. A timer is needed:
/// a call to another object of the same process alone lets no request in.
pub(crate) async fn make_room(began: UnixMillis) {
    Delay::from(Duration::from_millis(pause_ms(app::now().since(began)))).await;
}

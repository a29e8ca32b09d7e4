//! Minimal routes of the benchmark's build (`--cfg x402_bench`), a baseline for ours: one row in an object, and the
//! same fetches with one such row.

use crate::app;
use crate::app::App;
use crate::clients;
use crate::rpc;
use serde_json::json;
use std::rc::Rc;
use worker::{Env, Response, web_sys};
use x402_chain::facts::Call;
use x402_chain::id::TenantId;
use x402_chain::network::{Environment, by_key};
use x402_core::messages::ledger::{LedgerEnvelope, LedgerMessage};

/// Serves `/bench/row/{n}` and `/bench/fetch/{n}`: `n` picks the object, as a tenant would.
pub(crate) async fn serve(path: &str, env: Env) -> worker::Result<web_sys::Response> {
    let failed = |what: &str| Ok(Response::error(what, 500)?.into());
    let Ok(app) = App::new(env, "").map(Rc::new) else { return failed("settings") };
    let mut parts = path.split('/').skip(2);
    let (kind, object) =
        (parts.next().unwrap_or(""), parts.next().and_then(|text| text.parse::<u8>().ok()).unwrap_or(0));
    if kind == "fetch" {
        let Some(network) = by_key("base") else { return failed("base") };
        let providers = app.settings.providers(network);
        let calls = |methods: &[&'static str]| -> Vec<Call> {
            methods.iter().map(|method| Call::new(method, &json!(["0x1", false]))).collect()
        };
        rpc::call_all(network, &providers, &calls(&["eth_chainId", "eth_blockNumber", "eth_getBlockByNumber"])).await;
        rpc::call_all(network, &providers, &calls(&["eth_getBlockByNumber", "eth_getCode", "eth_call"])).await;
    }
    let now = app::now();
    let message = LedgerMessage::BenchRow { id: app::request_id(now).to_string() };
    let (tenant, request_id) = (TenantId([object; 12]), app::request_id(now));
    let envelope = LedgerEnvelope::without_request(tenant, Environment::Test, request_id, message);
    match clients::ledger::call_ledger(&app, &envelope, None).await {
        Ok(response) if response.is_done() => Ok(Response::ok("{}")?.into()),
        Ok(_) | Err(_) => failed("row"),
    }
}

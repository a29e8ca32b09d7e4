//! A stock shop and a stock buyer of version 2 of the protocol, on Base Sepolia.
//!
//! ```text
//! x402-edge-peers-rust shop FACILITATOR PAY_TO after|before   prints the port
//! x402-edge-peers-rust buy URL PRIVATE_KEY                    prints the status and the body
//! ```

use alloy_primitives::Address;
use alloy_signer_local::PrivateKeySigner;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use std::env;
use std::error::Error;
use std::sync::Arc;
use tokio::net::TcpListener;
use x402_axum::X402Middleware;
use x402_chain_eip155::{KnownNetworkEip155, V2Eip155Exact, V2Eip155ExactClient};
use x402_reqwest::{ReqwestWithPayments, ReqwestWithPaymentsBuild, X402Client};
use x402_types::networks::USDC;

type Outcome = Result<(), Box<dyn Error>>;

#[tokio::main]
async fn main() -> Outcome {
    let wishes: Vec<String> = env::args().skip(1).collect();
    match wishes.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["shop", facilitator, pay_to, timing] => shop(facilitator, pay_to.parse()?, *timing == "before").await,
        ["buy", url, key] => buy(url, key).await,
        _ => Err("shop FACILITATOR PAY_TO after|before, or buy URL PRIVATE_KEY".into()),
    }
}

async fn shop(facilitator: &str, pay_to: Address, settles_first: bool) -> Outcome {
    let x402 = X402Middleware::try_from(facilitator)?;
    let x402 = if settles_first { x402.settle_before_execution() } else { x402.settle_after_execution() };
    let price = V2Eip155Exact::price_tag(pay_to, USDC::base_sepolia().parse("0.01")?);
    let report = get(|| async { Json(json!({"report": "sunny"})) });
    let app = Router::new().route("/report", report.layer(x402.with_price_tag(price)));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    Ok(axum::serve(listener, app).await?)
}

async fn buy(url: &str, key: &str) -> Outcome {
    let signer: Arc<PrivateKeySigner> = Arc::new(key.parse()?);
    let payer = X402Client::new().register(V2Eip155ExactClient::new(signer));
    let response = reqwest::Client::new().with_payments(payer).build().get(url).send().await?;
    println!("{}", json!({"status": response.status().as_u16(), "body": response.json::<serde_json::Value>().await.ok()}));
    Ok(())
}

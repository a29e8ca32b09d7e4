//! Answers a plan's questions: by calls to the chain, or from what this isolate remembers.

use crate::app;
use crate::app::App;
use crate::clients;
use crate::clients::penalized;
use crate::rpc;
use crate::rpc::{gas_price, registry, signer_balance, third_party};
use worker::Context;
use x402_chain::time::UnixMillis;
use x402_core::settlement::payment::PaymentAction;
use x402_core::settlement::plan::{
    AskChain, PlanQuestion, PlanStep, ReadHolds, RefreshKind, RefreshLater, ThirdPartyQuestion,
};

/// Answers a question; returns the next step.
pub(super) async fn find_out<'a>(
    app: &App,
    context: &Context,
    (verb, now): (PaymentAction, UnixMillis),
    question: PlanQuestion<'a>,
) -> PlanStep<'a> {
    match question {
        PlanQuestion::CheckRegistry(step) => {
            let is_allowed = registry::is_chain_allowed(app, context, step.network(), now).await;
            step.then(is_allowed)
        }
        PlanQuestion::RefreshLater(step) => {
            refresh_later(app, context, now, &step);
            step.then()
        }
        PlanQuestion::CheckSigners(step) => {
            let unfunded = signer_balance::unfunded_signers(app, step.network(), now).await;
            step.then(&unfunded)
        }
        PlanQuestion::ReadPrice(step) => {
            let price = gas_price::cached_price(app, context, step.network(), now);
            step.then(price)
        }
        PlanQuestion::AwaitPrice(step) => {
            let price = gas_price::await_price(app, step.network()).await;
            step.then(price)
        }
        PlanQuestion::AskChain(step) => {
            // A verification hands nothing over: its calls may go with those of others.
            ask_chain(app, (verb == PaymentAction::Verify).then_some(context), *step).await
        }
        PlanQuestion::Requote(step) => {
            let price = gas_price::requote_price(app, step.network(), step.refused()).await;
            step.then(price)
        }
        PlanQuestion::ReadHolds(step) => read_holds(app, context, now, *step),
        PlanQuestion::FindThirdParty(step) => {
            let network = step.network();
            let lookup = match step.question() {
                ThirdPartyQuestion::Authorization(transfer) => {
                    third_party::find_settlement(app, network, transfer, None).await
                }
                ThirdPartyQuestion::Transaction { id, pay_to, amount } => {
                    third_party::find_landed(app, network, *id, (pay_to, *amount)).await
                }
            };
            step.then(lookup)
        }
    }
}

fn refresh_later(app: &App, context: &Context, now: UnixMillis, step: &RefreshLater<'_>) {
    match step.kind() {
        RefreshKind::Balances => signer_balance::refresh_balances_later(app, context, step.network(), now),
        RefreshKind::Holds => clients::settler::refresh_holds_later(app, context, step.network(), now),
    }
}

async fn ask_chain<'a>(app: &App, shares: Option<&Context>, step: AskChain<'a>) -> PlanStep<'a> {
    let network = step.network();
    let providers = app.settings.providers(network);
    let decision = rpc::decide_by_providers(network, &providers, shares, |facts| step.judge(facts)).await;
    if let Some(signer) = step.unfunded(&decision) {
        signer_balance::note_unfunded(network, signer, app::now());
    }
    step.then(decision)
}

fn read_holds<'a>(app: &App, context: &Context, now: UnixMillis, step: ReadHolds<'a>) -> PlanStep<'a> {
    let network = step.network();
    if step.refreshes() {
        clients::settler::refresh_holds_later(app, context, network, now);
    }
    let payer = step.payer();
    let held = step.signers().iter().filter_map(|signer| penalized::held_until(network, signer, &payer, now));
    let until = held.max();
    step.then(until)
}

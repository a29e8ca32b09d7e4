//! What is generated from the code is current. `npm run generate` rewrites it.

use std::fmt::Write as _;
use x402_chain::network::{CostCap, FinalityRule, LAMPORTS_PER_SIGNATURE, NETWORKS};
use x402_chain::reason::Reason;
use x402_core::error::ErrorCode;
use x402_core::event::{EventKind, EventSubject};
use x402_core::metrics::{MetricAccuracy, MetricFamily, MetricKind};
use x402_core::settings::SETTINGS;
use x402_core::tenancy::tier::{PLANS, TierChains};
use x402_core::verdict::RefusalCode;

#[track_caller]
fn check(path: &str, want: &str) {
    let file = crate::ROOT.join(path);
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(&file, want).expect("writable");
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == want, "{path} is stale: run `npm run generate`");
}

#[test]
fn the_contract_is_current() {
    let document = x402_api::openapi::document();
    check("docs/reference/openapi.json", &format!("{document:#}\n"));
}

#[test]
fn the_prices_are_written_for_scripts() {
    let pricing = serde_json::to_value(x402_api::pricing::pricing()).expect("JSON");
    check("docs/reference/pricing.json", &format!("{pricing:#}\n"));
}

#[test]
fn the_events_are_documented() {
    let mut text = "# Types of events\n\nWhat each says, what it is about (`subject`), and an example of each as \
        `GET /v1/events/{id}` answers it. [Events](../events.md) says how they are read.\n\n\
        | type | subject | meaning |\n|---|---|---|\n"
        .to_owned();
    for kind in EventKind::ALL {
        let subject = match kind.subject() {
            EventSubject::Verification => "the verification, `ver_…`",
            EventSubject::Settlement => "the settlement, `stl_…`",
            EventSubject::Quota => "the month",
            EventSubject::Change => "what was changed",
        };
        let name = kind.name();
        writeln!(text, "| [`{name}`](#{}) | {subject} | {} |", name.replace('.', ""), kind.doc()).expect("text");
    }
    for kind in EventKind::ALL {
        let example = x402_api::openapi::webhooks::example(*kind);
        writeln!(text, "\n## {}\n\n{}\n\n```json\n{example:#}\n```", kind.name(), kind.doc()).expect("text");
    }
    check("docs/reference/events.md", &text);
}

#[test]
fn the_settings_are_documented() {
    let mut text =
        "# Settings\n\n| setting | secret | required | default | meaning |\n|---|---|---|---|---|\n".to_owned();
    let mut example = "# Local settings; `npm start` makes them with random secrets.\n".to_owned();
    let yes = |is: bool| if is { "yes" } else { "no" };
    for setting in SETTINGS {
        let row = (setting.name, yes(setting.secret), yes(setting.required), setting.default, setting.meaning);
        writeln!(text, "| `{}` | {} | {} | {} | {} |", row.0, row.1, row.2, row.3, row.4).expect("text");
        let mark = if setting.required { "" } else { "# " };
        let name = setting.name.replace("<CHAIN>", "BASE");
        writeln!(example, "\n# {}\n{mark}{name}=\"\"", setting.meaning).expect("text");
    }
    check("docs/reference/settings.md", &text);
    check(".dev.vars.example", &example);
}

#[test]
fn the_metrics_are_documented() {
    let mut text =
        "# Metrics\n\n`GET /metrics`, with `Authorization: Bearer` and the setting `METRICS_TOKEN`. No label names a \
        tenant or a person. How exact a metric is:\n\n"
            .to_owned();
    for accuracy in [MetricAccuracy::Exact, MetricAccuracy::Operational, MetricAccuracy::AtScrape] {
        writeln!(text, "- {}", accuracy.promise()).expect("text");
    }
    text.push_str("\n| metric | kind | labels | exact | |\n|---|---|---|---|---|\n");
    for family in MetricFamily::ALL {
        let kind = match family.kind() {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram(_) => "histogram",
        };
        let accuracy = match family.accuracy() {
            MetricAccuracy::Exact => "exact",
            MetricAccuracy::Operational => "operational",
            MetricAccuracy::AtScrape => "read",
        };
        let labels: Vec<String> = family.labels().iter().map(|label| format!("`{label}`")).collect();
        let (name, labels, help) = (family.name(), labels.join(" "), family.help());
        writeln!(text, "| `{name}` | {kind} | {labels} | {accuracy} | {help} |").expect("text");
    }
    check("docs/reference/metrics.md", &text);
}

#[test]
fn the_codes_are_documented() {
    let mut text = "# Errors: the request was not answered\n\n`repeat`: the answer to the same request under the \
        same `Idempotency-Key`. `Recorded`: the same answer, since only another request can get another one. \
        `Judged`: a new answer, since time, the seller or the operator can remove the cause.\n\n\
        | code | status | retry | repeat | meaning |\n|---|---|---|---|---|\n"
        .to_owned();
    for code in ErrorCode::ALL {
        let (status, retry, repeat) = (code.status(), code.retry(), code.repeat());
        writeln!(text, "| <a id=\"{code}\"></a>`{code}` | {status} | {retry} | {repeat:?} | {} |", code.doc())
            .expect("text");
    }
    text.push_str(
        "\n# Verdicts: the payment is refused\n\nOf several, the first in this order is answered; HTTP 200. A recorded \
         refusal holds for the recipient that was judged: if the request names none and the tenant's default has \
         changed since, the payment is judged again.\n\n",
    );
    text.push_str("| code | retry | repeat | meaning |\n|---|---|---|---|\n");
    for refusal in RefusalCode::ALL {
        let (wire, retry, repeat) = (refusal.as_str(), refusal.retry(), refusal.repeat());
        writeln!(text, "| <a id=\"{wire}\"></a>`{wire}` | {retry} | {repeat:?} | {} |", refusal.doc()).expect("text");
    }
    check("docs/reference/errors.md", &text);
}

#[test]
fn the_reasons_are_documented() {
    let mut text = "# Reasons: an x402 payment is refused, or was not settled\n\n\
        `invalidReason` and `errorReason` of `/facilitator/verify` and `/settle`, HTTP 200, in the protocol's own \
        strings; those without a family's prefix are the specification's or ours. Where we mean to differ from the \
        reference facilitator is listed in `tests/peers/differences.mjs`, and a test holds the list. `retry`: \
        the value of `extra.retry`, whether a repeat of the request can help (`never` for `duplicate_settlement` of a \
        payment that was handed over). `repeat`: the answer to a settle that is repeated under the same \
        `Idempotency-Key`: the `Recorded` one, or one that is `Judged` again, because time, the seller or the \
        operator can remove the cause.\n\n\
        | reason | retry | repeat | meaning |\n|---|---|---|---|\n"
        .to_owned();
    for reason in Reason::ALL {
        let (wire, retry, repeat) = (reason.as_str(), reason.retry(false), reason.repeat());
        writeln!(text, "| <a id=\"{wire}\"></a>`{wire}` | {retry} | {repeat:?} | {} |", reason.doc()).expect("text");
    }
    check("docs/reference/reasons.md", &text);
}

#[test]
fn the_chains_and_tiers_are_documented() {
    let mut text =
        "# Chains\n\n| key | network | name | environment | USDC | gas in USDC | confirmed after | finalized by | proven |\n|---|---|---|---|---|---|---|---|---|\n"
            .to_owned();
    for n in NETWORKS {
        let finality = match n.finality {
            FinalityRule::Tag => "tag",
            FinalityRule::Instant => "inclusion",
            FinalityRule::Unknown => "not established",
        };
        let (environment, asset) = (n.environment.name(), n.asset.address);
        let gas = if n.asset.pays_gas { "yes" } else { "no" };
        writeln!(
            text,
            "| `{}` | `{}` | {} | {environment} | `{asset}` | {gas} | {} | {finality} | {} |",
            n.key, n.caip2, n.name, n.confirmations, n.proven
        )
        .expect("text");
    }
    text.push_str(
        "\nWhere gas may be paid in USDC, the token's `Transfer` logs between a transaction's sender and the zero \
         address are its fee, and so are the two logs after the reserve's return at the end: neither paid to the \
         sender nor passed on by it.\n",
    );
    text.push_str(&settling());
    text.push_str(&computing());
    check("docs/reference/networks.md", &text);
    let head = "| tier | a month | verifications a month | a minute / an hour | live chains | branding | OIDC | webhooks | derived addresses |";
    let mut text = format!("# Tiers\n\n{head}\n|---|---|---|---|---|---|---|---|---|\n");
    for plan in PLANS {
        let month = plan.limits.per_month.map_or("unlimited".to_owned(), |limit| limit.to_string());
        let chains = match plan.chains {
            TierChains::All => "all".to_owned(),
            TierChains::Only(keys) => keys.join(", "),
        };
        let (minute, hour) = (plan.limits.per_minute, plan.limits.per_hour);
        let (name, price) = (plan.name, plan.price_usd);
        let columns = [plan.branding, plan.oidc, plan.webhooks, plan.derived_addresses];
        let includes = columns.map(|has| if has { "yes" } else { "no" }).join(" | ");
        writeln!(text, "| {name} | ${price} | {month} | {minute} / {hour} | {chains} | {includes} |").expect("text");
    }
    check("docs/reference/tiers.md", &text);
}

/// What settling costs us at most, by chain.
fn settling() -> String {
    let mut text = format!(
        "\n# What a settlement may cost\n\nThe service pays for the transactions. Each row is the most that one \
         transaction may cost, in the chain's own coin, and in dollars at a price that is an assumption, not a quote: \
         a round one, meant to be above the market's (`settle.coin.usd` in `crates/chain/data/chains.json`; local chains: 1). \
         On EVM it is all the gas at our cap of its price; an OP-stack chain's charge for its layer 1 comes on top, and a replaced \
         transaction costs once. On Solana the payer's transaction says what it costs: {LAMPORTS_PER_SIGNATURE} \
         lamports for each of two signatures at most, and a priority fee (compute units times their price, rounded \
         up; or a version-1 transaction's own word) that is capped as a whole: wallets ask a high price for few \
         units.\n\n| key | least USDC | a transaction may use | at most | worst cost | in dollars | a coin at |\n\
         |---|---|---|---|---|---|---|\n"
    );
    for network in NETWORKS {
        let Some(settle) = network.settle else { continue };
        let coin = settle.coin;
        let (uses, price) = match settle.cost {
            CostCap::Evm(gas) => (format!("{} gas", gas.limit), format!("{} gwei a unit", decimal(gas.max_fee_wei, 9))),
            CostCap::Svm(compute) => (
                format!("{} compute units", compute.units),
                format!("{} lamports of priority fee", compute.priority_lamports),
            ),
        };
        let worst =
            (decimal(settle.worst_cost(), coin.decimals.into()), decimal(coin.micro_usd(settle.worst_cost()), 6));
        let least = decimal(settle.min_atomic.into(), 6);
        let (key, symbol, usd) = (network.key, coin.symbol, coin.usd);
        writeln!(text, "| `{key}` | {least} | {uses} | {price} | {} {symbol} | ${} | ${usd} |", worst.0, worst.1)
            .expect("text");
    }
    text
}

/// What a payer's Solana transaction may ask for at our cost.
fn computing() -> String {
    let (limit, price) = (Reason::SvmLimitHigh.as_str(), Reason::SvmPriceHigh.as_str());
    let mut text = format!(
        "\n# What a Solana transaction may ask for\n\nThe compute unit limit of the payer's transaction (the \
         instruction `SetComputeUnitLimit`, or a version-1 transaction's own field) may be the second column at most; \
         a higher one is refused as `{limit}`. The priority fee is the limit times the price of a unit, rounded up to \
         a lamport; above the third column it is refused as `{price}`. The last column is the highest price at the \
         highest limit: a lower limit allows a higher price.\n\n\
         | key | compute units | priority fee, lamports | price, micro-lamports a unit |\n|---|---|---|---|\n"
    );
    for network in NETWORKS {
        let Some(compute) = network.settle.and_then(|settle| settle.compute()) else { continue };
        let price = compute.priority_lamports * 1_000_000 / u64::from(compute.units);
        let (key, units, fee) = (network.key, compute.units, compute.priority_lamports);
        writeln!(text, "| `{key}` | {units} | {fee} | {price} |").expect("text");
    }
    text
}

/// `value` with a point before its last `digits` digits, without zeros at the end.
fn decimal(value: u128, digits: usize) -> String {
    let text = format!("{value:0>width$}", width = digits + 1);
    let (whole, rest) = text.split_at(text.len() - digits);
    let rest = rest.trim_end_matches('0');
    if rest.is_empty() { whole.to_owned() } else { format!("{whole}.{rest}") }
}

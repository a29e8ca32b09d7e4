//! The HTML pages to which answers link, `/docs/errors` and `/docs/tiers`, and the one to which Stripe's lead back, `/billing`.

use x402_core::error::ErrorCode;
use x402_core::tenancy::tier::{PLANS, TierChains};
use x402_core::verdict::RefusalCode;

/// The one style sheet of all pages. The policy of every answer names it by its hash (`headers.rs`), and lets no other in.
pub(crate) const STYLE: &str = "body{font:16px/1.5 system-ui;max-width:60em;margin:2em auto;padding:0 1em}\
td,th{text-align:left;padding:.3em 1em .3em 0;vertical-align:top}:target{background:#ffd}\
.text{color-scheme:light dark}.text body{max-width:34em}.text code{white-space:nowrap}";

/// A page of one of the two kinds: tables, or `text`.
fn page(kind: &str, title: &str, rest: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\" class=\"{kind}\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><style>{STYLE}</style><title>{title}</title><h1>{title}</h1>{rest}"
    )
}

/// The page `/docs/errors`: every error code and verdict, each with its code as the anchor.
#[must_use]
pub fn errors() -> String {
    let faults = ErrorCode::ALL.iter().map(|code| {
        format!("<tr id=\"{code}\"><td><code>{code}</code><td>{}<td>{}<td>{}", code.status(), code.retry(), code.doc())
    });
    let verdicts = RefusalCode::ALL.iter().map(|refusal| {
        let wire = refusal.as_str();
        format!("<tr id=\"{wire}\"><td><code>{wire}</code><td>200<td>{}<td>{}", refusal.retry(), refusal.doc())
    });
    let row = "<tr><th>code<th>status<th>retry<th>meaning";
    let rest = format!(
        "<h2>Errors: the request was not answered</h2><table>{row}{}</table>\
         <h2>Verdicts: the payment is refused</h2><p>Of several, the first one is answered.<table>{row}{}</table>",
        faults.collect::<String>(),
        verdicts.collect::<String>()
    );
    page("tables", "Codes", &rest)
}

/// The page `/docs/tiers`: the rows of the table of tiers, and how one gets another; `are_sold`: by paying here.
#[must_use]
pub fn tiers(are_sold: bool) -> String {
    let rows = PLANS.iter().map(|plan| {
        let chains = match plan.chains {
            TierChains::All => "all".to_owned(),
            TierChains::Only(keys) => keys.join(", "),
        };
        let columns = [plan.branding, plan.oidc, plan.webhooks, plan.derived_addresses];
        let includes = columns.map(|has| if has { "<td>yes" } else { "<td>no" }).concat();
        let month = plan.limits.per_month.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
        format!(
            "<tr><td>{}<td>${}<td>{month}<td>{} / {}<td>{chains}{includes}",
            plan.name, plan.price_usd, plan.limits.per_minute, plan.limits.per_hour
        )
    });
    let how = match are_sold {
        true => {
            "An owner gets another tier in a session, or by a live key of the scope <code>manage</code>: \
             <code>POST /v1/billing/checkout</code> with <code>{\"plan\":\"pro\"}</code> answers the <code>url</code> of the \
             page on which it is paid. <code>POST /v1/billing/change</code> changes a plan that is paid, and \
             <code>GET /v1/billing</code> shows it. <a href=\"/v1/openapi.json\">The API</a> describes all of them."
        }
        false => "Ask the operator for another tier.",
    };
    let rest = format!(
        "<table><tr><th>tier<th>a month<th>verifications a month\
         <th>requests a minute / an hour<th>live chains<th>branding<th>OIDC<th>webhooks<th>derived addresses{}</table>\
         <p>Test mode is free of the monthly quota.<p>{how}",
        rows.collect::<String>()
    );
    page("tables", "Tiers", &rest)
}

/// The page `/billing`, to which Stripe's pages lead back: what has happened, and what holds next. Anybody may open it, and it
/// says nothing of a tenant. The parameter `checkout` of the query is `done` or `left`.
#[must_use]
pub fn billing(query: &str) -> String {
    let checkout =
        form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "checkout").map(|(_, value)| value);
    let (title, text) = match checkout.as_deref() {
        Some("done") => (
            "The checkout is complete",
            "<p>Thank you. Your plan holds in a moment, as soon as Stripe has reported it, and owners get a mail then. If it \
             begins with a trial, nothing was charged yet: your card is charged when the trial ends, unless you cancel \
             before.<p>Stripe sends receipts.",
        ),
        Some("left") => (
            "Nothing was bought",
            "<p>You left the page to pay on. Nothing was charged, and your plan is what it was.<p>The page can still be paid \
             for three quarters of an hour after it was made. After that, begin another checkout.",
        ),
        _ => (
            "You are back from Stripe",
            "<p>What you have changed or paid there holds here within a moment. If you have changed nothing, nothing is \
             different.",
        ),
    };
    let rest = format!(
        "{text}<p>Which plan holds, and what is charged next and when, is answered by <code>GET /v1/billing</code>: \
         <a href=\"/v1/billing\">open it</a> if you are signed in as an owner. You can close this page.\
         <p><a href=\"/docs/tiers\">What the plans include</a>"
    );
    page("text", title, &rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_tiers_says_how_one_gets_another() {
        let (sold, given) = (tiers(true), tiers(false));
        assert!(sold.contains("POST /v1/billing/checkout") && !sold.contains("sk the operator"));
        assert!(!given.contains("billing") && given.contains("Ask the operator"));
    }

    #[test]
    fn the_page_of_billing_says_what_has_happened() {
        let title = |query: &str| {
            let page = billing(query);
            let (_, rest) = page.split_once("<h1>").expect("a title");
            rest.split_once("</h1>").expect("its end").0.to_owned()
        };
        let all = ["checkout=done", "a=b&checkout=left", "", "checkout=%3Cb%3E"].map(title);
        assert_eq!(all.first().map(String::as_str), Some("The checkout is complete"));
        assert_eq!(all.get(1).map(String::as_str), Some("Nothing was bought"));
        assert!(all.get(2) == all.get(3) && !billing("checkout=%3Cb%3E").contains("<b>"));
    }
}

//! The HTML pages to which answers link: `/docs/errors` and `/docs/tiers`.

use x402_core::error::ErrorCode;
use x402_core::tenancy::tier::{PLANS, TierChains};
use x402_core::verdict::RefusalCode;

const HEAD: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
<meta name=\"viewport\" content=\"width=device-width\"><style>body{font:16px/1.5 system-ui;max-width:60em;\
margin:2em auto;padding:0 1em}td,th{text-align:left;padding:.3em 1em .3em 0;vertical-align:top}\
:target{background:#ffd}</style>";

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
    format!(
        "{HEAD}<title>Codes</title><h1>Codes</h1><h2>Errors: the request was not answered</h2><table>{row}{}</table>\
         <h2>Verdicts: the payment is refused</h2><p>Of several, the first one is answered.<table>{row}{}</table>",
        faults.collect::<String>(),
        verdicts.collect::<String>()
    )
}

/// The page `/docs/tiers`: the rows of the table of tiers, and how one gets another; `are_sold`: by paying here.
#[must_use]
pub fn tiers(are_sold: bool) -> String {
    let rows = PLANS.iter().map(|plan| {
        let chains = match plan.chains {
            TierChains::All => "all".to_owned(),
            TierChains::Only(keys) => keys.join(", "),
        };
        let [branding, oidc, webhooks] =
            [plan.branding, plan.oidc, plan.webhooks].map(|has| if has { "yes" } else { "no" });
        let month = plan.limits.per_month.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
        format!(
            "<tr><td>{}<td>${}<td>{month}<td>{} / {}<td>{chains}<td>{branding}<td>{oidc}<td>{webhooks}",
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
    format!(
        "{HEAD}<title>Tiers</title><h1>Tiers</h1><table><tr><th>tier<th>a month<th>verifications a month\
         <th>requests a minute / an hour<th>live chains<th>branding<th>OIDC<th>webhooks{}</table>\
         <p>Test mode is free of the monthly quota.<p>{how}",
        rows.collect::<String>()
    )
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
}

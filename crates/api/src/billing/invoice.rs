//! `/v1/billing/invoices`, and what the next invoice will be.

use serde::Serialize;
use x402_chain::time::UnixSeconds;
use x402_core::billing::answer::StripeInvoice;
use x402_core::billing::form::is_stripe_id;
use x402_core::error::Fault;
use x402_core::tenancy::tier::Tier;

/// A page of invoices: how many, after which.
///
/// # Errors
/// `INVALID_REQUEST`, naming the parameter.
pub fn invoice_page(query: &str) -> Result<(u32, Option<String>), Fault> {
    let page = crate::records::read_page_query(query, |text| is_stripe_id(text, "in_"))?;
    Ok((page.limit, page.before))
}

/// An amount of money: `{"amount":"99.00","currency":"usd"}`.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct MoneyView {
    /// A decimal number; below zero it is a credit.
    pub amount: String,
    /// The currency in lower case.
    pub currency: String,
}

/// Currencies without a smaller unit (<https://docs.stripe.com/currencies#zero-decimal>).
const WHOLE_CURRENCIES: [&str; 16] =
    ["bif", "clp", "djf", "gnf", "jpy", "kmf", "krw", "mga", "pyg", "rwf", "ugx", "vnd", "vuv", "xaf", "xof", "xpf"];

impl MoneyView {
    /// An amount in the smallest unit of its currency.
    #[must_use]
    pub fn of(units: i64, currency: &str) -> Self {
        let (sign, size) = (if units < 0 { "-" } else { "" }, units.unsigned_abs());
        let amount = match WHOLE_CURRENCIES.contains(&currency) {
            true => format!("{sign}{size}"),
            false => format!("{sign}{}.{:02}", size / 100, size % 100),
        };
        Self { amount, currency: currency.to_owned() }
    }
}

/// The next invoice, or that of a change of plan at this moment.
#[derive(Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct InvoicePreview {
    /// The plan that it is of.
    pub plan: Option<Tier>,
    /// What is charged; of a larger plan the difference, with what is given back for the rest of the period.
    pub due: MoneyView,
    /// When it is charged, RFC 3339; `null`: at once, as a larger plan is.
    pub charged_at: Option<String>,
}

/// An invoice.
#[derive(Debug, Serialize)]
#[cfg_attr(not(target_arch = "wasm32"), derive(schemars::JsonSchema))]
pub struct InvoiceView {
    /// Its id, `in_…`.
    pub id: String,
    /// The number that stands on it.
    pub number: Option<String>,
    /// `draft`, `open`, `paid`, `uncollectible` or `void`.
    pub status: Option<String>,
    /// The whole amount.
    pub total: MoneyView,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// The page on which it can be seen and paid.
    pub url: Option<String>,
    /// The file.
    pub pdf_url: Option<String>,
}

impl From<StripeInvoice> for InvoiceView {
    fn from(invoice: StripeInvoice) -> Self {
        Self {
            total: MoneyView::of(invoice.total, &invoice.currency),
            created_at: invoice.created.millis().rfc3339(),
            id: invoice.id.unwrap_or_default(),
            number: invoice.number,
            status: invoice.status,
            url: invoice.hosted_invoice_url,
            pdf_url: invoice.invoice_pdf,
        }
    }
}

impl InvoicePreview {
    /// A preview. `at_once`: of a change that is charged at this moment.
    #[must_use]
    pub fn of(invoice: &StripeInvoice, plan: Option<Tier>, at_once: bool) -> Self {
        let at = invoice.next_payment_attempt.unwrap_or(invoice.created);
        Self {
            plan,
            due: MoneyView::of(invoice.amount_due, &invoice.currency),
            charged_at: (!at_once).then(|| UnixSeconds::millis(at).rfc3339()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_has_the_decimals_of_its_currency() {
        for (units, currency, want) in
            [(9_900, "usd", "99.00"), (-5, "usd", "-0.05"), (0, "eur", "0.00"), (120, "jpy", "120")]
        {
            assert_eq!(MoneyView::of(units, currency).amount, want);
        }
    }
}

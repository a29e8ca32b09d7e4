//! What plans are paid by: cards. Some other methods are charged for days, and a subscription counts as paid meanwhile: its tier
//! would be given before the money has come.

/// Every payment method of [`super::STRIPE_VERSION`] but `card`. Stripe offers what an account has enabled; since 2026-09-30.endive
/// a checkout can only take methods away. (<https://docs.stripe.com/api/checkout/sessions/create>, `excluded_payment_method_types`.)
const NO_CARDS: [&str; 52] = [
    "acss_debit",
    "affirm",
    "afterpay_clearpay",
    "alipay",
    "alma",
    "amazon_pay",
    "au_becs_debit",
    "bacs_debit",
    "bancontact",
    "billie",
    "bizum",
    "blik",
    "boleto",
    "cashapp",
    "crypto",
    "customer_balance",
    "eps",
    "fpx",
    "giropay",
    "grabpay",
    "ideal",
    "kakao_pay",
    "klarna",
    "konbini",
    "kr_card",
    "mb_way",
    "mobilepay",
    "multibanco",
    "naver_pay",
    "nz_bank_account",
    "oxxo",
    "p24",
    "pay_by_bank",
    "payco",
    "paynow",
    "paypal",
    "payto",
    "pix",
    "promptpay",
    "revolut_pay",
    "samsung_pay",
    "satispay",
    "scalapay",
    "sepa_debit",
    "sofort",
    "sunbit",
    "swish",
    "twint",
    "upi",
    "us_bank_account",
    "wechat_pay",
    "zip",
];

/// Has a checkout take cards alone.
pub(super) fn cards_alone() -> impl Iterator<Item = (String, String)> {
    let name = |at: usize| format!("excluded_payment_method_types[{at}]");
    NO_CARDS.iter().enumerate().map(move |(at, method)| (name(at), (*method).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cards_are_left() {
        let form: Vec<_> = cards_alone().collect();
        assert!(form.iter().all(|(_, method)| method != "card"));
        for slow in ["us_bank_account", "sepa_debit", "bacs_debit", "boleto", "customer_balance"] {
            assert!(form.iter().any(|(_, method)| method == slow), "{slow}");
        }
        assert_eq!(form.last().map(|last| last.0.as_str()), Some("excluded_payment_method_types[51]"));
    }
}

//! The form with a price: what thirdweb's `facilitator.accepts` sends.

use super::{AcceptsEntry, AcceptsForm, AcceptsRequest, EntryRefusal, JsonMap};
use crate::body::invalid;
use serde_json::{Value, json};
use x402_chain::amount::Amount;
use x402_chain::reason::Reason;
use x402_chain::x402::X402Version;
use x402_core::error::Fault;

/// The `error` of the answer to a buyer who has not paid, where the seller's `routeConfig` names none.
const UNPAID: &str = "X-PAYMENT header is required";

/// Reads the members; the network and a price are required. A price of the right type and a wrong value is no error
/// here: the answer refuses it with the protocol's reason.
///
/// # Errors
/// `INVALID_REQUEST` without `price`, and for a member of another type.
pub(super) fn read_price_request(body: &JsonMap) -> Result<AcceptsRequest, Fault> {
    let Some(price) = body.get("price").filter(|price| !price.is_null()) else {
        return Err(invalid("accepts", "must be a list of requirements, unless 'network' and 'price' are named"));
    };
    if !(price.is_string() || price.is_number() || price.is_object()) {
        return Err(invalid("price", "must be a string, a number or {amount, asset}"));
    }
    if body.get("network").is_some_and(|network| !network.is_string()) {
        return Err(invalid("network", "must be a string"));
    }
    let config = body.get("routeConfig").and_then(Value::as_object).cloned().unwrap_or_default();
    let own_message = config.get("errorMessages").and_then(|all| all.get("paymentRequired")).and_then(Value::as_str);
    let unpaid = own_message.unwrap_or(UNPAID).to_owned();
    let entry = requirements_entry(body, &config, price)
        .and_then(|entry| AcceptsEntry::read(Value::Object(entry), X402Version::One));
    Ok(AcceptsRequest { form: AcceptsForm::Price(unpaid), entries: vec![entry] })
}

/// The request as partial requirements of version 1.
fn requirements_entry(body: &JsonMap, config: &JsonMap, price: &Value) -> Result<JsonMap, EntryRefusal> {
    let rule = "the price must be dollars above zero with at most six decimals ('$0.01', 0.01), or {amount, asset}";
    let amount = price_amount(price).ok_or_else(|| (Reason::InvalidRequirements, rule.to_owned()))?;
    let mut entry = JsonMap::new();
    let mut put = |name: &str, value: Option<&Value>| {
        if let Some(value) = value.filter(|value| !value.is_null()) {
            entry.insert(name.to_owned(), value.clone());
        }
    };
    put("network", body.get("network"));
    put("scheme", body.get("scheme"));
    put("resource", body.get("resourceUrl"));
    put(
        "payTo",
        body.get("recipientAddress").filter(|text| !text.is_null()).or_else(|| body.get("serverWalletAddress")),
    );
    put("asset", price.get("asset").and_then(|asset| asset.get("address")));
    for name in ["description", "mimeType", "maxTimeoutSeconds"] {
        put(name, config.get(name));
    }
    put("maxAmountRequired", Some(&amount.to_string().into()));
    let mut input = json!({"type": "http", "method": body.get("method"),
        "discoverable": config.get("discoverable").is_none_or(|value| *value != json!(false))});
    if let (Some(all), Some(Value::Object(more))) = (input.as_object_mut(), config.get("inputSchema")) {
        all.extend(more.clone());
    }
    put("outputSchema", Some(&json!({"input": input, "output": config.get("outputSchema")})));
    // thirdweb's clients read here which typed data to sign.
    put("extra", Some(&json!({"primaryType": "TransferWithAuthorization"})));
    Ok(entry)
}

/// The price in atomic units; `None` for a malformed price and for zero.
fn price_amount(price: &Value) -> Option<Amount> {
    let amount = match price {
        Value::String(text) => dollar_digits(text).and_then(|digits| Amount::parse_usdc(&digits)),
        Value::Number(number) => Amount::parse_usdc(&number.to_string()),
        Value::Object(tokens) => Amount::parse_atomic(tokens.get("amount")?.as_str()?),
        Value::Null | Value::Bool(_) | Value::Array(_) => None,
    };
    amount.filter(|amount| !amount.is_zero())
}

/// The digits of a price in dollars. A comma stands before three digits of the whole part ("1,000.50"): where it
/// may be meant as the point ("0,01"), the price would read a hundred times as high, and is none.
fn dollar_digits(text: &str) -> Option<String> {
    let plain: String = text.chars().filter(|letter| !matches!(letter, '$' | ' ')).collect();
    let (whole, cents) = plain.split_once('.').unwrap_or((&plain, ""));
    let mut groups = whole.split(',');
    let is_grouped = whole.contains(',');
    let is_first = groups.next().is_some_and(|first| !is_grouped || ((1..=3).contains(&first.len()) && first != "0"));
    let is_whole = is_first && groups.all(|group| group.len() == 3) && !cents.contains(',');
    is_whole.then(|| plain.replace(',', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_read_to_the_atomic_unit() {
        for (price, want) in [
            (json!("$0.01"), Some(10_000)),
            (json!("0.000001"), Some(1)),
            (json!(" $1,000.5 "), Some(1_000_500_000)),
            (json!(0.01), Some(10_000)),
            (json!(3), Some(3_000_000)),
            (json!({"amount": "1500", "asset": {"address": "0x1"}}), Some(1_500)),
            (json!("0.0000001"), None),
            (json!(1e-7), None),
            (json!("$0"), None),
            (json!("-1"), None),
            (json!("$1,234,567"), Some(1_234_567_000_000)),
            (json!("0,01"), None),
            (json!("$1,5"), None),
            (json!("0,010"), None),
            (json!("1.000,50"), None),
            (json!(",100"), None),
            (json!("1,0000"), None),
            (json!("free"), None),
            (json!({"amount": 1500}), None),
            (json!(true), None),
        ] {
            assert_eq!(price_amount(&price), want.map(Amount::atomic), "{price}");
        }
    }
}

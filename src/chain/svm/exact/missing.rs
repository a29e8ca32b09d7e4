//! Whether the account that is to be paid is there at all. The runtime says the same of a token account that does
//! not exist as of one that is broken, and not which of the two accounts it means: it is looked up.

use super::{Terms, is_transfer};
use crate::address::Address;
use crate::chain::facts::{Call, Facts, Reply, Unknown};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

/// Failures of an instruction that an account without data may be the cause of (`InstructionError`).
const LIKELY: [&str; 4] = ["InvalidAccountData", "UninitializedAccount", "IncorrectProgramId", "InvalidAccountOwner"];

/// A sentence where the seller's token account does not exist, for a simulation's failure; asks once.
///
/// # Errors
/// [`Unknown::Missing`] with the one call.
pub(super) fn sellers_account(terms: &Terms, failure: &str, facts: &Facts) -> Result<Option<String>, Unknown> {
    #[derive(Deserialize)]
    struct Found<'a> {
        #[serde(borrow)]
        value: Option<&'a RawValue>,
    }
    if !LIKELY.iter().any(|name| failure.contains(name)) {
        return Ok(None);
    }
    let instructions = terms.wire.instructions().unwrap_or_default();
    let paid = instructions.iter().find(|each| is_transfer(each)).and_then(|transfer| transfer.accounts.get(2));
    let Some(account) = paid.copied().map(Address::Svm) else { return Ok(None) };
    let options = json!({"encoding": "base64", "commitment": "confirmed", "dataSlice": {"offset": 0, "length": 0}});
    let call = Call::new("getAccountInfo", &json!([account.to_string(), options]));
    let [reply] = facts.all(core::array::from_ref(&call))?;
    let Reply::Value(value) = reply else { return Ok(None) };
    let found: Option<Found<'_>> = serde_json::from_str(value.get()).ok();
    let is_missing = found.is_some_and(|found| found.value.is_none_or(|value| value.get() == "null"));
    Ok(is_missing.then(|| format!("payTo's token account {account} does not exist: the seller must create it")))
}

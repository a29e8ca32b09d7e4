//! Whether the recipient's token account exists. The runtime reports the same error for a missing token account as for
//! an invalid one, and not which of the two accounts it means, so it is read.

use crate::facts::{Call, Facts, RpcReply, Undecided};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

/// Whether an account (base58) exists; `None` where the node gives no usable answer.
///
/// # Errors
/// [`Undecided::Missing`] with the one call.
pub(super) fn account_exists(account: &str, facts: &Facts) -> Result<Option<bool>, Undecided> {
    #[derive(Deserialize)]
    struct AccountResult<'a> {
        #[serde(borrow)]
        value: Option<&'a RawValue>,
    }
    let options = json!({"encoding": "base64", "commitment": "confirmed", "dataSlice": {"offset": 0, "length": 0}});
    let call = Call::new("getAccountInfo", &json!([account, options]));
    let [reply] = facts.require_all(core::array::from_ref(&call))?;
    let RpcReply::Value(value) = reply else { return Ok(None) };
    let found: Option<AccountResult<'_>> = serde_json::from_str(value.get()).ok();
    Ok(found.map(|found| found.value.is_some_and(|value| value.get() != "null")))
}

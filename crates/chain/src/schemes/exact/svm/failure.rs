//! Why a transaction would fail, in a sentence that says who can fix it. The runtime's errors are `TransactionError`
//! and `InstructionError`, as JSON; those of a token program are numbers (`TokenError`).

use serde_json::Value;

/// Characters of the runtime's error that a message quotes.
const WORDS_MAX: usize = 160;

/// A simulated transaction's failure.
pub(super) struct SimulationFailure<'a> {
    /// The member `err` of the simulation, as the node sent it.
    pub(super) err: &'a str,
    /// The position of the transfer among the transaction's instructions.
    pub(super) transfer: Option<usize>,
    /// The recipient's token account, base58.
    pub(super) paid: &'a str,
}

impl SimulationFailure<'_> {
    /// Whether the fee payer cannot pay: a failure on our side, whatever the payment is.
    pub(super) fn is_fee_payer_fault(&self) -> bool {
        let ours = ["AccountNotFound", "InsufficientFundsForFee", "InvalidAccountForFee"];
        matches!(self.parsed(), Value::String(name) if ours.contains(&name.as_str()))
    }

    /// Whether a block holds this very transaction already.
    pub(super) fn is_processed(&self) -> bool {
        self.parsed() == "AlreadyProcessed"
    }

    /// Whether the transfer failed because one of its token accounts is missing or invalid.
    pub(super) fn is_of_an_account(&self) -> bool {
        let parsed = self.parsed();
        let error = parsed.get("InstructionError").filter(|inside| self.is_of_the_transfer(inside));
        let Some(error) = error.and_then(|inside| inside.get(1)) else { return false };
        let (name, number) = (error.as_str(), error.get("Custom").and_then(Value::as_u64));
        name.is_some_and(|name| NO_TOKEN_ACCOUNT.contains(&name)) || number == Some(UNINITIALIZED_STATE)
    }

    fn is_of_the_transfer(&self, inside: &Value) -> bool {
        let at = inside.get(0).and_then(Value::as_u64).and_then(|at| usize::try_from(at).ok());
        at.is_some() && at == self.transfer
    }

    /// A sentence for the client, with the runtime's own error at its end unless the cause is certain. `is_there`:
    /// whether the recipient's account exists; `None` where it was not read.
    pub(super) fn message(&self, is_there: Option<bool>) -> String {
        let words: String = self.err.chars().take(WORDS_MAX).collect();
        let sentence = match (self.is_of_an_account(), is_there) {
            (true, Some(false)) => {
                return format!("payTo's token account {} does not exist: the seller must create it", self.paid);
            }
            (true, Some(true)) => Some("payTo's token account exists, so the payer's may be missing".to_owned()),
            (true, None) => Some(format!(
                "payTo's USDC token account may be missing, and then the seller must create it ({}); or the payer's is",
                self.paid
            )),
            (false, _) => self.sentence(),
        };
        match sentence {
            Some(sentence) => format!("{sentence}: {words}"),
            None => format!("the transaction would fail: {words}"),
        }
    }

    fn parsed(&self) -> Value {
        serde_json::from_str(self.err).unwrap_or_default()
    }

    fn sentence(&self) -> Option<String> {
        let parsed = self.parsed();
        if let Value::String(name) = &parsed {
            return transaction_error_sentence(name).map(str::to_owned);
        }
        let inside = parsed.get("InstructionError")?;
        let error = inside.get(1)?;
        let (name, number) = (error.as_str(), error.get("Custom").and_then(Value::as_u64));
        if name == Some("ComputationalBudgetExceeded") {
            return Some("the transaction's compute unit limit is too low".to_owned());
        }
        if !self.is_of_the_transfer(inside) {
            return None;
        }
        match (name, number) {
            (Some("MissingRequiredSignature"), _) => Some("the owner of the payer's account did not sign".to_owned()),
            (_, Some(number)) => token_error_sentence(number).map(str::to_owned),
            (_, None) => None,
        }
    }
}

/// The errors of an instruction that finds an account without data in a token account's place (`InstructionError`).
const NO_TOKEN_ACCOUNT: [&str; 4] =
    ["InvalidAccountData", "UninitializedAccount", "IncorrectProgramId", "InvalidAccountOwner"];

/// `TokenError::UninitializedState`.
const UNINITIALIZED_STATE: u64 = 9;

/// Errors of the whole transaction (`TransactionError`).
fn transaction_error_sentence(name: &str) -> Option<&'static str> {
    Some(match name {
        "BlockhashNotFound" => "the transaction's block hash is too old, or not known yet",
        "AlreadyProcessed" => "the transaction was processed before",
        "AccountNotFound" | "InsufficientFundsForFee" | "InvalidAccountForFee" => {
            "the facilitator's fee payer cannot pay the fee now"
        }
        "SignatureFailure" => "a signature of the transaction is not valid",
        _ => return None,
    })
}

/// Errors of a token program about a transfer (`TokenError`, the same numbers in Token-2022).
fn token_error_sentence(number: u64) -> Option<&'static str> {
    Some(match number {
        0 => "an account would be left with too little for its rent",
        1 => "the payer's token account holds less than the amount",
        2 | 3 => "the payer's or payTo's token account is not of the transfer's mint",
        4 => "the payer neither owns the account that it pays from nor was allowed the amount",
        17 => "the token's issuer has frozen the payer's or payTo's token account",
        18 => "the transfer names other decimals than the mint's",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(err: &str) -> SimulationFailure<'_> {
        SimulationFailure { err, transfer: Some(2), paid: "Acc0unt" }
    }

    #[track_caller]
    fn check(err: &str, want: &str) {
        let message = failure(err).message(None);
        assert!(message.starts_with(want) && message.ends_with(err), "{message}");
        assert!(!failure(err).is_fee_payer_fault(), "{err}");
    }

    #[test]
    fn what_the_seller_or_the_payer_can_mend_is_named() {
        let missing = "payTo's USDC token account may be missing, and then the seller must create it (Acc0unt)";
        check(r#"{"InstructionError":[2,"InvalidAccountData"]}"#, missing);
        check(r#"{"InstructionError":[2,"UninitializedAccount"]}"#, missing);
        check(r#"{"InstructionError":[2,{"Custom":9}]}"#, missing);
        check(r#"{"InstructionError":[2,{"Custom":1}]}"#, "the payer's token account holds less");
        check(r#"{"InstructionError":[2,{"Custom":4}]}"#, "the payer neither owns");
        check(r#"{"InstructionError":[2,{"Custom":17}]}"#, "the token's issuer has frozen");
        check(r#"{"InstructionError":[2,{"Custom":18}]}"#, "the transfer names other decimals");
        check(r#"{"InstructionError":[2,"MissingRequiredSignature"]}"#, "the owner of the payer's account");
        check(r#"{"InstructionError":[1,"ComputationalBudgetExceeded"]}"#, "the transaction's compute unit limit");
        check(r#""BlockhashNotFound""#, "the transaction's block hash");
    }

    #[test]
    fn what_has_no_sentence_is_quoted_as_it_came() {
        let others = [
            r#"{"InstructionError":[3,"InvalidAccountData"]}"#,
            r#"{"InstructionError":[2,{"Custom":6000}]}"#,
            r#"{"InstructionError":[2]}"#,
            r#"{"InsufficientFundsForRent":{"account_index":2}}"#,
            r#""SomethingNew""#,
            "17",
        ];
        for err in others {
            check(err, "the transaction would fail");
        }
        let nowhere =
            SimulationFailure { transfer: None, ..failure(r#"{"InstructionError":[2,"InvalidAccountData"]}"#) };
        assert!(nowhere.message(None).starts_with("the transaction would fail"));
        assert!(failure(&format!("\"{}\"", "x".repeat(999))).message(None).chars().count() < 200);
    }

    #[test]
    fn a_fee_payer_that_cannot_pay_is_ours() {
        for err in [r#""InsufficientFundsForFee""#, r#""AccountNotFound""#, r#""InvalidAccountForFee""#] {
            assert!(
                failure(err).is_fee_payer_fault()
                    && failure(err).message(None).starts_with("the facilitator's fee payer"),
                "{err}"
            );
        }
    }
}

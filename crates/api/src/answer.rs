//! Composes the answers of `/facilitator/verify` and `/facilitator/settle` (docs/spec/protocol.md#p-1-4).

use super::ApiReply;
use super::explain;
use super::explain::{ComposedAnswer, ExplainRequest};
use super::facilitator::{ResponseExtra, SettleResponse, VerifyResponse};
use x402_chain::checks::Checks;
use x402_core::settlement::payment::{PaymentAnswer, PaymentRefusal};

/// What an answer repeats of its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerEcho<'a> {
    /// The payer's address, where the payload names it.
    pub payer: Option<String>,
    /// The network as the request wrote it.
    pub network: &'a str,
}

/// The answer to a request: the body with the protocol's members and ours, and the reply as it is sent.
#[must_use]
pub fn compose_answer(answer: &PaymentAnswer, echo: AnswerEcho<'_>, wish: ExplainRequest) -> ComposedAnswer {
    let AnswerEcho { payer, network } = echo;
    match answer {
        PaymentAnswer::Verify(verdict) => {
            let (checks, refusal) = match verdict {
                Ok(checks) => (checks, None),
                Err(refusal) => (&refusal.checks, Some(refusal)),
            };
            let body = VerifyResponse {
                is_valid: refusal.is_none(),
                invalid_reason: refusal.map(|refusal| refusal.reason),
                invalid_message: refusal.map(|refusal| refusal.message.clone()),
                payer,
                extra: ResponseExtra { externally_settled: None, ..response_extra(checks, refusal) },
            };
            let reply = ApiReply::json(200, &body);
            ComposedAnswer { whole: reply.body.clone(), reply }
        }
        PaymentAnswer::Settle(Ok(success)) => {
            let settlement = &success.settlement;
            let extra = ResponseExtra {
                settlement_id: Some(settlement.id.to_string()),
                externally_settled: success.external.then_some(true),
                ..response_extra(&success.checks, None)
            };
            let body = SettleResponse {
                success: true,
                error_reason: None,
                error_message: None,
                payer,
                transaction: settlement.transaction.clone().unwrap_or_default(),
                network: network.to_owned(),
                amount: Some(settlement.amount.clone()),
                extra: Some(extra),
            };
            explain::explain_body(body, wish)
        }
        PaymentAnswer::Settle(Err(refusal)) => {
            let settlement = refusal.settlement.as_deref();
            let body = SettleResponse {
                success: false,
                error_reason: Some(refusal.reason),
                error_message: Some(refusal.message.clone()),
                payer,
                transaction: settlement.and_then(|settlement| settlement.transaction.clone()).unwrap_or_default(),
                network: network.to_owned(),
                amount: None,
                extra: Some(response_extra(&refusal.checks, Some(refusal))),
            };
            explain::explain_body(body, wish)
        }
    }
}

fn response_extra(checks: &Checks, refusal: Option<&PaymentRefusal>) -> ResponseExtra {
    let settlement = refusal.and_then(|refusal| refusal.settlement.as_deref());
    let is_handed_over = settlement.is_some_and(|settlement| settlement.handed_over.is_some());
    ResponseExtra {
        retry: refusal.map(|refusal| refusal.reason.retry(is_handed_over)),
        checks: checks.clone(),
        settlement_id: settlement.map(|settlement| settlement.id.to_string()),
        externally_settled: refusal.filter(|refusal| refusal.external).map(|_| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use x402_chain::id::SettlementId;
    use x402_chain::reason::Reason;
    use x402_chain::time::UnixMillis;
    use x402_core::settlement::payment::PaymentSuccess;
    use x402_core::settlement::status::{HandedOver, Settlement, SettlementStatus};

    const NOW: UnixMillis = UnixMillis(1_795_000_000_000);
    const EXPLAINED: ExplainRequest = ExplainRequest { request: true, tenant: false };

    fn settlement(handed_over: bool) -> Settlement {
        let handed = HandedOver { at: NOW.rfc3339(), request_id: None };
        Settlement {
            id: SettlementId::new(NOW, [7; 10]),
            status: SettlementStatus::Completed,
            reason: None,
            network: "eip155:8453".to_owned(),
            transaction: Some("0x9".to_owned()),
            payer: "0x1".to_owned(),
            pay_to: "0x2".to_owned(),
            amount: "10000".to_owned(),
            asset: "0x3".to_owned(),
            created_at: NOW.rfc3339(),
            completed_at: None,
            attempts: Vec::new(),
            handed_over: handed_over.then_some(handed),
            traceparent: None,
        }
    }

    fn composed(answer: &PaymentAnswer) -> Value {
        let echo = AnswerEcho { payer: Some("0x1".to_owned()), network: "base" };
        serde_json::from_str(&compose_answer(answer, echo, EXPLAINED).reply.body).expect("JSON")
    }

    #[test]
    fn a_verification_is_answered_good_or_with_its_reason() {
        let good = composed(&PaymentAnswer::Verify(Ok(Checks::none())));
        assert_eq!(good, json!({"isValid": true, "payer": "0x1", "extra": {"checks": []}}));
        let refusal = PaymentRefusal::of(Checks::none(), Reason::EvmBalance, "too little");
        let refused = composed(&PaymentAnswer::Verify(Err(refusal)));
        assert_eq!(refused["invalidReason"], json!(Reason::EvmBalance));
        assert_eq!((&refused["isValid"], &refused["invalidMessage"]), (&json!(false), &json!("too little")));
        assert_eq!(refused["extra"]["settlementId"], Value::Null);
    }

    #[test]
    fn a_settlement_is_answered_with_its_success_or_with_the_settlement_in_its_way() {
        for external in [false, true] {
            let success = PaymentSuccess { settlement: Box::new(settlement(true)), checks: Checks::none(), external };
            let body = composed(&PaymentAnswer::Settle(Ok(success)));
            let own = ["success", "transaction", "network", "amount"].map(|member| body[member].clone());
            assert_eq!(own, [json!(true), json!("0x9"), json!("base"), json!("10000")]);
            assert_eq!(body["extra"]["externallySettled"], if external { json!(true) } else { Value::Null });
            assert_eq!((&body["extra"]["retry"], &body["errorReason"]), (&Value::Null, &Value::Null));
        }
        for handed_over in [false, true] {
            let reason = Reason::DuplicateSettlement;
            let refusal = PaymentRefusal::by(Checks::none(), reason, "another has it", &settlement(handed_over));
            let body = composed(&PaymentAnswer::Settle(Err(refusal)));
            let own = ["success", "transaction", "network", "amount"].map(|member| body[member].clone());
            assert_eq!(own, [json!(false), json!("0x9"), json!("base"), Value::Null]);
            assert_eq!(body["extra"]["settlementId"], json!(SettlementId::new(NOW, [7; 10]).to_string()));
            assert_eq!(body["extra"]["retry"], json!(reason.retry(handed_over)));
        }
        let plain =
            composed(&PaymentAnswer::Settle(Err(PaymentRefusal::of(Checks::none(), Reason::InvalidPayload, "no"))));
        assert_eq!((&plain["transaction"], &plain["extra"]["settlementId"]), (&json!(""), &Value::Null));
    }
}

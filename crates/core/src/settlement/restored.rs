//! What a ledger takes over of the directory's copy of a settlement when it is rebuilt.

use crate::error::Fault;
use crate::settlement::payment::{
    BoundPayment, PaymentWrite, SettlementProgress, SettlementRecord, transaction_authorization_id,
};
use crate::settlement::status::{Settlement, SettlementStatus};
use crate::verification::claims::{ClaimRow, ClaimUnit};
use serde::{Deserialize, Serialize};
use x402_chain::address::{Family, TxId};
use x402_chain::id::ClaimId;
use x402_chain::time::UnixMillis;

/// A settlement as a ledger and the directory give it to each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptSettlement {
    /// What its seller reads, as JSON.
    pub body: String,
    /// Its progress, as JSON; `None`: a build that shipped none has written the copy.
    pub course: Option<String>,
    /// Counts its changes.
    pub revision: i64,
}

/// What is taken over of a settlement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredSettlement {
    /// The settlement.
    pub record: SettlementRecord,
    /// Its authorization; `None` where it is not known. Then the chain and the claim keep it from being used again.
    pub payment: Option<PaymentWrite>,
    /// What it has claimed: the whole where that is not known.
    pub claim: Option<ClaimRow>,
    /// When it is due for a check.
    pub due: Option<UnixMillis>,
}

impl KeptSettlement {
    /// What a ledger takes over of it.
    ///
    /// # Errors
    /// `INTERNAL` where it cannot be read.
    pub fn restored(&self) -> Result<RestoredSettlement, Fault> {
        let settlement: Settlement = serde_json::from_str(&self.body).map_err(Fault::internal_json)?;
        let progress: SettlementProgress = match &self.course {
            Some(course) => serde_json::from_str(course).map_err(Fault::internal_json)?,
            None => SettlementProgress { attempt: settlement.attempts.len(), ..SettlementProgress::default() },
        };
        let bound = progress.payment.clone().or_else(|| transaction_payment(&settlement));
        let payment = bound.map(|bound| PaymentWrite {
            authorization: bound.authorization,
            fingerprint: bound.fingerprint,
            proof: bound.proof,
            settlement: Some(settlement.id),
            expires_at: bound.expires_at,
        });
        // A claim is for good, also of a settlement whose block has left the chain.
        let is_claimed = settlement.status == SettlementStatus::Completed || progress.claimed.is_some();
        let claim = settlement.transaction.clone().filter(|_| is_claimed).map(|tx| ClaimRow {
            network: settlement.network.clone(),
            tx,
            recipient: settlement.pay_to.clone(),
            unit: progress.claimed.unwrap_or(ClaimUnit::Whole),
            id: ClaimId::Settlement(settlement.id),
            reference: None,
            at: settlement.completed_at.as_deref().and_then(UnixMillis::parse).unwrap_or(settlement.id.created_at()),
        });
        let record = SettlementRecord { settlement, progress };
        // Without its signer nobody can be asked about it: its settler reports by itself.
        let is_checked = record.progress.signer.is_some() || record.settlement.status == SettlementStatus::Completed;
        let due = record.due_at().filter(|_| is_checked);
        Ok(RestoredSettlement { record, payment, claim, due })
    }
}

/// The authorization of a settlement on Solana: its transaction. The requirements to which it was bound are not known, so that
/// nothing repeats it.
fn transaction_payment(settlement: &Settlement) -> Option<BoundPayment> {
    let network = settlement.registered_network().ok().filter(|network| network.family == Family::Svm)?;
    let id = TxId::parse(network.family, settlement.transaction.as_deref()?)?;
    Some(BoundPayment {
        authorization: transaction_authorization_id(network, &id),
        fingerprint: String::new(),
        proof: String::new(),
        expires_at: settlement.id.created_at(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settlement::payment::SuccessLease;
    use x402_chain::id::{RequestId, SettlementId};

    const AT: UnixMillis = UnixMillis(1_795_000_000_000);

    fn settlement(status: &str, transaction: Option<&str>) -> String {
        serde_json::json!({
            "id": SettlementId::new(AT, [1; 10]).to_string(), "status": status, "reason": null, "network": "eip155:8453",
            "transaction": transaction, "payer": "0xP", "pay_to": "0xR", "amount": "1", "asset": "0xA",
            "created_at": AT.rfc3339(), "completed_at": AT.rfc3339(), "attempts": [], "handed_over": null,
        })
        .to_string()
    }

    fn read(body: String, progress: Option<&SettlementProgress>) -> RestoredSettlement {
        let course = progress.map(|progress| serde_json::to_string(progress).expect("JSON"));
        KeptSettlement { body, course, revision: 3 }.restored().expect("a settlement")
    }

    #[test]
    fn a_settlement_is_taken_over_with_what_was_shipped_of_it() {
        let payment = BoundPayment {
            authorization: "eip155:8453/0xA/0xP/0x1".to_owned(),
            fingerprint: "print".to_owned(),
            proof: "proof".to_owned(),
            expires_at: AT,
        };
        let progress = SettlementProgress {
            attempt: 2,
            payment: Some(payment.clone()),
            claimed: Some(ClaimUnit::Log(4)),
            lease: Some(SuccessLease { request: RequestId::new(AT, [1; 10]), until: AT, key: Some("k".to_owned()) }),
            handed_key: Some("a seller's key".to_owned()),
            ..SettlementProgress::default()
        };
        let shipped = progress.shipped();
        assert!(!serde_json::to_string(&shipped).expect("JSON").contains("seller"));
        let found = read(settlement("completed", Some("0x1")), Some(&shipped));
        assert_eq!(found.record.progress, SettlementProgress { lease: None, handed_key: None, ..progress });
        assert_eq!(
            found.payment.map(|row| (row.authorization, row.proof)),
            Some((payment.authorization, payment.proof))
        );
        assert_eq!(found.claim.map(|claim| (claim.unit, claim.at)), Some((ClaimUnit::Log(4), AT)));
    }

    #[test]
    fn of_an_older_build_the_claim_alone_keeps_it_from_being_sold_twice() {
        let found = read(settlement("completed", Some("0x1")), None);
        assert_eq!((found.payment, found.claim.map(|claim| claim.unit)), (None, Some(ClaimUnit::Whole)));
        assert!(found.due.is_some());
        // Nobody knows who sends it.
        let found = read(settlement("pending", None), None);
        assert_eq!((found.payment, found.claim, found.due), (None, None, None));
        let signature = "5".repeat(87);
        let body =
            settlement("completed", Some(&signature)).replace("eip155:8453", "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp");
        if let Some(payment) = read(body, None).payment {
            assert!(payment.authorization.ends_with(&signature) && payment.settlement.is_some());
        }
        assert!(KeptSettlement { body: "{}".to_owned(), course: None, revision: 1 }.restored().is_err());
    }
}

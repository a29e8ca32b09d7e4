//! What a ledger takes over of its own records when it is rebuilt: claims, payers, and what is polled on.

use crate::error::Fault;
use crate::verification::answer::{VerificationAnswer, VerificationStatus};
use crate::verification::claims::{ClaimRow, units_of};
use crate::verification::finality;
use x402_chain::id::ClaimId;
use x402_chain::time::UnixMillis;

/// What is taken over of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredRecord {
    /// What it has claimed.
    pub claims: Vec<ClaimRow>,
    /// The addresses that have paid.
    pub payers: Vec<String>,
    /// Whether its payment is polled until it is final.
    pub is_polled: bool,
}

/// Reads what is taken over of a record; `units` is kept beside it.
///
/// # Errors
/// `INTERNAL` where the text is no record.
pub fn restored_record(body: &str, units: Option<&str>, now: UnixMillis) -> Result<RestoredRecord, Fault> {
    let record: VerificationAnswer = serde_json::from_str(body).map_err(Fault::internal_json)?;
    let is_claimed = record.claimed && !record.replayed;
    let claim = |unit| {
        Some(ClaimRow {
            network: record.network.clone(),
            tx: record.tx_hash.clone(),
            recipient: record.to_address.clone()?,
            unit,
            id: ClaimId::Verification(record.id),
            reference: record.reference.clone(),
            at: record.id.created_at(),
        })
    };
    let claims = if is_claimed { units_of(units).into_iter().filter_map(claim).collect() } else { Vec::new() };
    // What has left its chain was paid when it was answered, and may come back.
    let is_paid = record.success || record.status == VerificationStatus::Reorged;
    let is_polled = match record.transaction() {
        Ok((network, _)) if is_paid && !record.replayed => {
            finality::next_poll(network, &record, record.id.created_at(), now).is_some()
        }
        Ok(_) | Err(_) => false,
    };
    let payers = if is_paid { record.payers } else { Vec::new() };
    Ok(RestoredRecord { claims, payers, is_polled })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verification::claims::{ClaimUnit, units_text};
    use x402_chain::id::VerificationId;

    const AT: UnixMillis = UnixMillis(1_795_000_000_000);

    fn record(more: &str) -> String {
        let hash = format!("0x{}", "1a".repeat(32));
        let text = serde_json::json!({
            "id": VerificationId::new(AT, [1; 10]).to_string(), "request_id": format!("req_{}", "0".repeat(26)),
            "success": true, "status": "confirmed", "tx_hash": hash, "chain": "base", "network": "eip155:8453",
            "amount_usdc": null, "amount": null, "asset": "0x", "from_address": null, "to_address": "0xR",
            "transfers": [], "payers": ["0xP"], "overpaid": null, "confirmations": null, "block_number": null,
            "block_hash": null, "block_time": null, "finality": null, "binding": "none", "claimed": true,
            "claimed_by": null, "reference": "order", "replayed": false, "risk_score": 0, "risk_level": "low",
            "risk_factors": [], "checks": [], "error": null, "error_code": null, "retry": null,
        });
        let (mut text, more) = (text, serde_json::from_str::<serde_json::Value>(more).expect("JSON"));
        let (all, more) = (text.as_object_mut().expect("an object"), more.as_object().expect("an object").clone());
        all.extend(more);
        text.to_string()
    }

    fn read(more: &str, units: Option<&str>, after: u64) -> (Vec<ClaimUnit>, usize, bool) {
        let found = restored_record(&record(more), units, AT.plus(after)).expect("a record");
        assert!(found.claims.iter().all(|claim| claim.reference.as_deref() == Some("order") && claim.at == AT));
        (found.claims.iter().map(|claim| claim.unit).collect(), found.payers.len(), found.is_polled)
    }

    #[test]
    fn a_claim_is_taken_over_as_it_was_or_larger() {
        assert_eq!(read("{}", None, 0), (vec![ClaimUnit::Whole], 1, true));
        assert_eq!(read("{}", Some("3 5"), 0), (vec![ClaimUnit::Log(3), ClaimUnit::Log(5)], 1, true));
        // What cannot be read claims the whole.
        assert_eq!(read("{}", Some("3 x"), 0).0, [ClaimUnit::Whole]);
        assert_eq!(read(r#"{"claimed":false}"#, None, 0), (vec![], 1, true));
        assert_eq!(read(r#"{"replayed":true}"#, None, 0), (vec![], 1, false));
        let refused = r#"{"success":false,"status":"rejected","claimed":false}"#;
        assert_eq!(read(refused, None, 0), (vec![], 0, false));
        // It stays claimed though its block has left the chain.
        assert_eq!(read(r#"{"success":false,"status":"reorged"}"#, None, 0), (vec![ClaimUnit::Whole], 1, true));
        assert!(!read(r#"{"status":"finalized"}"#, None, 0).2 && !read("{}", None, 700_000_000).2);
    }

    #[test]
    fn units_are_kept_where_they_are_not_the_whole() {
        let claims = |units: &[ClaimUnit]| {
            let found = restored_record(&record("{}"), None, AT).expect("a record");
            let one = found.claims.into_iter().next().expect("a claim");
            units.iter().map(|unit| ClaimRow { unit: *unit, ..one.clone() }).collect::<Vec<_>>()
        };
        for units in [vec![ClaimUnit::Log(3)], vec![ClaimUnit::Log(0), ClaimUnit::Log(12)], vec![ClaimUnit::Whole]] {
            assert_eq!(units_of(units_text(&claims(&units)).as_deref()), units);
        }
        assert_eq!((units_text(&claims(&[ClaimUnit::Whole])), units_text(&[])), (None, None));
    }
}

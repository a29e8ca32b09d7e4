//! Payments are polled by their blocks where one provider suffices: one request answers for all that were read in some
//! blocks, whose hashes stand for their transactions.

use super::TenantLedger;
use super::finality::{LATE_AFTER_MS, NextPolls, POLL_MS, TrackedPayment, UnreadPayment, tracked_payment, write_poll};
use crate::app;
use crate::objects::alarm::PacedWork;
use crate::rpc::trace;
use std::collections::{BTreeMap, BTreeSet};
use x402_chain::address::Family;
use x402_chain::amount::Amount;
use x402_chain::evm::standing::{BLOCKS_MAX, Standing};
use x402_chain::network::{FinalityRule, Network};
use x402_chain::quorum::required_agreement;
use x402_chain::time::UnixMillis;
use x402_core::error::Fault;
use x402_core::settings::Settings;
use x402_core::verification::finality;

/// Payments of a chain by the height of their block.
#[derive(Default)]
struct ChainBlocks {
    network: Option<&'static Network>,
    heights: BTreeMap<u64, Vec<String>>,
}

/// The height of the block by which a payment may be polled; `None` where its transaction must be read: two providers
/// must agree, it has left its block, or its chain has no tag of finality.
fn height_of(payment: &TrackedPayment, settings: &Settings) -> Option<u64> {
    let TrackedPayment { record, network, .. } = payment;
    let amount = Amount::parse_atomic(record.amount.as_deref()?)?;
    let is_enough = required_agreement(settings.providers(network).len(), amount, settings.quorum()) == 1;
    let is_tagged = network.family == Family::Evm && network.finality == FinalityRule::Tag;
    finality::confirmed_block(record).filter(|_| is_enough && is_tagged).map(|(height, _)| height)
}

impl TenantLedger {
    /// Polls payments by their blocks; returns those whose transactions must be read.
    pub(super) async fn poll_blocks(
        &self,
        ids: Vec<String>,
        (settings, began): (&Settings, UnixMillis),
        next: &mut NextPolls,
        work: &mut PacedWork,
    ) -> Result<Vec<UnreadPayment>, Fault> {
        let store = self.store();
        let (mut chains, mut unread) = (BTreeMap::<&str, ChainBlocks>::new(), Vec::new());
        for id in ids {
            match tracked_payment(&store, &id) {
                Ok(None) => {}
                Ok(Some(payment)) => match height_of(&payment, settings) {
                    Some(height) => {
                        let chain = chains.entry(payment.network.key).or_default();
                        chain.network = Some(payment.network);
                        chain.heights.entry(height).or_default().push(id);
                    }
                    None => unread.push((payment.network.key, id)),
                },
                // Its own poll reports the error.
                Err(_) => unread.push(("", id)),
            }
        }
        for ChainBlocks { network, mut heights } in chains.into_values() {
            let Some(network) = network else { continue };
            while !heights.is_empty() {
                if app::now().since(began) >= POLL_MS {
                    unread.extend(heights.into_values().flatten().map(|id| (network.key, id)));
                    break;
                }
                let some: BTreeSet<u64> = heights.keys().copied().take(BLOCKS_MAX).collect();
                let found = trace::read_standing(settings, network, &some).await;
                let now = app::now();
                store.atomically(|| {
                    for id in some.iter().filter_map(|height| heights.remove(height)).flatten() {
                        // The record may have changed while the chain was asked.
                        let Some(mut fresh) = tracked_payment(&store, &id)? else { continue };
                        let block = finality::confirmed_block(&fresh.record);
                        let standing = block.and_then(|(height, hash)| Some(found.as_ref()?.of(height, hash)));
                        let changed = match standing {
                            Some(Standing::Final(confirmations)) => {
                                Some(Some(finality::apply_final_block(&mut fresh.record, confirmations)))
                            }
                            Some(Standing::Canonical) => None,
                            Some(Standing::Unclear) | None => {
                                unread.push((network.key, id));
                                continue;
                            }
                        };
                        if let Some(at) = write_poll(&store, &fresh, changed, now)? {
                            next.entry((at, network.key)).or_default().insert(id);
                        }
                    }
                    Ok(())
                })?;
                if found.is_none() && !heights.is_empty() {
                    // A chain that does not answer keeps the others waiting once, and not for each of its blocks.
                    let late = next.entry((now.plus(LATE_AFTER_MS), network.key)).or_default();
                    late.extend(std::mem::take(&mut heights).into_values().flatten());
                }
                work.pause_if_due().await;
            }
        }
        Ok(unread)
    }
}

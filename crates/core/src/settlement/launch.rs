//! Whether a flight may be launched: first by the settler's own state, then by what the chain reports.

use super::flight::cap_price;
use super::penalty::Penalty;
use super::spending::{SignerBudget, SignerSpending, WorstCost};
use super::{Flight, FlightPayload, SettlementReport};
use x402_chain::address::Address;
use x402_chain::amount::Amount;
use x402_chain::evm::sender::GasPrice;
use x402_chain::network::Network;
use x402_chain::reason::Reason;
use x402_chain::schemes::exact::svm::source_named;
use x402_chain::time::UnixMillis;

/// The most open flights of one payer with one signer (Solana): that a transaction cannot be mined is known only after
/// a minute or two.
const PAYER_FLIGHTS_MAX: usize = 32;

/// Why a flight is not launched. The attempt has failed then; another attempt of the same payment may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaunchDenial {
    /// The ledger has given the attempt up.
    GivenUp,
    /// The authorization has expired.
    Expired,
    /// The payer has a penalty, since its settlements reverted.
    Held(UnixMillis),
    /// The chain did not report what a launch needs, or its gas price is above the cap.
    Unknown,
    /// The payer's balance does not cover the open flights and this one.
    Balance,
    /// One node reports that the payer's balance is too low, and no other confirms it.
    Unconfirmed,
    /// Too many flights of the payer are open.
    Crowded,
    /// The daily budget is used up.
    Budget,
}

impl LaunchDenial {
    /// The failure that the ledger records for the attempt.
    #[must_use]
    pub fn report(self, flight: &Flight) -> SettlementReport {
        let (reason, message) = match self {
            Self::GivenUp => {
                (Reason::UnexpectedSettle, "this attempt was given up before it reached its signer".to_owned())
            }
            Self::Expired => (Reason::EvmValidBefore, "the authorization has expired".to_owned()),
            Self::Held(until) => {
                let message = format!(
                    "a payment of this payer has failed on the chain: no other is sent before {}",
                    until.rfc3339()
                );
                (Reason::UnexpectedSettle, message)
            }
            Self::Unknown => {
                let message =
                    "no node reports a gas price within this service's cap, or the other facts that a launch needs";
                (Reason::UnexpectedSettle, message.to_owned())
            }
            Self::Balance => {
                let message = "the payer's balance does not cover this payment and those that are in flight";
                let reason = match flight.cargo {
                    FlightPayload::Evm(_) => Reason::EvmBalance,
                    FlightPayload::Svm(_) => Reason::SvmSimulation,
                };
                (reason, message.to_owned())
            }
            Self::Unconfirmed => {
                let message = "one node reports a balance that does not cover the payment, and no other confirms it";
                (Reason::UnexpectedSettle, message.to_owned())
            }
            Self::Crowded => {
                let message =
                    "too many payments of this payer are in flight: repeat the request when some of them are completed";
                (Reason::UnexpectedSettle, message.to_owned())
            }
            Self::Budget => {
                let message = "this service's daily budget for transactions on this network is used up";
                (Reason::QuotaExceeded, message.to_owned())
            }
        };
        let held_until = match self {
            Self::Held(until) => Some(until),
            Self::GivenUp
            | Self::Expired
            | Self::Unknown
            | Self::Balance
            | Self::Unconfirmed
            | Self::Crowded
            | Self::Budget => None,
        };
        SettlementReport { held_until, ..SettlementReport::unsent(flight, reason, message) }
    }
}

/// Checks a flight before the chain is asked: the authorization's expiry and the payer's penalty.
///
/// # Errors
/// Why it is not launched.
pub fn check_before_chain(flight: &Flight, penalty: Option<Penalty>, now: UnixMillis) -> Result<(), LaunchDenial> {
    if flight.is_expired(now) {
        return Err(LaunchDenial::Expired);
    }
    penalty.and_then(|penalty| penalty.active_until(now)).map_or(Ok(()), |until| Err(LaunchDenial::Held(until)))
}

/// The totals of a signer's open flights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InFlightTotals {
    /// The most that the transactions in flight may still cost the signer.
    pub worst: WorstCost,
    /// The amount that the payer is to pay by them, atomic units.
    pub owed: Amount,
}

impl InFlightTotals {
    /// The totals of these flights, for a payment by the same payer.
    #[must_use]
    pub fn of<'a>(
        open: impl Iterator<Item = &'a Flight>,
        flight: &Flight,
        spending: &SignerSpending,
        network: &Network,
    ) -> Self {
        let mut in_flight = Self::default();
        for other in open {
            in_flight.worst = in_flight.worst.plus(spending.worst_cost(other, network), other.free);
            if other.payer == flight.payer {
                in_flight.owed = Amount(in_flight.owed.0.saturating_add(other.amount.0));
            }
        }
        in_flight
    }
}

/// What the chain reports before a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaunchFacts {
    /// The signer's next nonce by the chain, pending transactions included.
    pub nonce: Option<u64>,
    /// The payer's balance of the token; `None` where no node answered.
    pub holds: Option<Amount>,
    /// The market's gas price, if it was asked for.
    pub price: Option<GasPrice>,
}

/// Checks a flight by what the chain reports (EVM); returns the signer's next nonce and the price of the first version.
///
/// # Errors
/// Why it is not launched.
pub fn check_with_chain(
    flight: &Flight,
    network: &Network,
    observed: LaunchFacts,
    in_flight: InFlightTotals,
) -> Result<(u64, GasPrice), LaunchDenial> {
    let price = flight.price.or(observed.price).map(|price| cap_price(price, flight.cap_wei(network)));
    let (Some(nonce), Some(holds), Some(price)) = (observed.nonce, observed.holds, price) else {
        return Err(LaunchDenial::Unknown);
    };
    let wanted = in_flight.owed.0.saturating_add(flight.amount.0);
    if holds.0 < wanted { Err(LaunchDenial::Balance) } else { Ok((nonce, price)) }
}

/// The token account that a flight's payment is taken from (Solana).
#[must_use]
pub fn source_account(flight: &Flight) -> Option<Address> {
    match &flight.cargo {
        FlightPayload::Svm(text) => source_named(text),
        FlightPayload::Evm(_) => None,
    }
}

/// Checks that the payer may have one more open flight (Solana).
///
/// # Errors
/// [`LaunchDenial::Crowded`].
pub fn check_payer_crowd<'a>(flight: &Flight, open: impl Iterator<Item = &'a Flight>) -> Result<(), LaunchDenial> {
    let own = open.filter(|other| other.payer == flight.payer).count();
    if own < PAYER_FLIGHTS_MAX { Ok(()) } else { Err(LaunchDenial::Crowded) }
}

/// Checks that the balance `holds` of the account that pays covers this flight and the open ones from the same account
/// (Solana).
///
/// # Errors
/// [`LaunchDenial::Unknown`], [`LaunchDenial::Balance`].
pub fn check_account_balance<'a>(
    flight: &Flight,
    open: impl Iterator<Item = &'a Flight>,
    holds: Option<Amount>,
) -> Result<(), LaunchDenial> {
    let (Some(account), Some(holds)) = (source_account(flight), holds) else { return Err(LaunchDenial::Unknown) };
    let same = open.filter(|other| source_account(other) == Some(account));
    let wanted = same.fold(flight.amount.0, |sum, other| sum.saturating_add(other.amount.0));
    if holds.0 < wanted { Err(LaunchDenial::Balance) } else { Ok(()) }
}

/// Checks that the daily budget covers it.
///
/// # Errors
/// [`LaunchDenial::Budget`].
pub fn check_daily_budget(
    flight: &Flight,
    network: &Network,
    spending: &SignerSpending,
    in_flight: InFlightTotals,
    budget: SignerBudget,
) -> Result<(), LaunchDenial> {
    let cost = spending.worst_cost(flight, network);
    let allowed = spending.allows(in_flight.worst, cost, flight.free, budget);
    if allowed { Ok(()) } else { Err(LaunchDenial::Budget) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settlement::flight::tests::flight;
    use crate::settlement::status::SettlementStatus;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use x402_chain::network::by_key;
    use x402_chain::time::UnixSeconds;

    const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

    #[test]
    fn who_is_late_or_held_is_not_launched() {
        let mut flight = flight();
        assert_eq!(check_before_chain(&flight, None, NOW), Ok(()));
        let penalty = Penalty::after_revert(None, NOW);
        assert_eq!(check_before_chain(&flight, Some(penalty), NOW), Err(LaunchDenial::Held(penalty.until)));
        assert_eq!(check_before_chain(&flight, Some(penalty), penalty.until), Ok(()));
        flight.valid_before = Some(UnixSeconds(1_800_000_001));
        assert_eq!(check_before_chain(&flight, None, UnixMillis(NOW.0 + 999)), Ok(()));
        assert_eq!(check_before_chain(&flight, None, NOW.plus(1_000)), Err(LaunchDenial::Expired));
    }

    #[test]
    fn a_payer_holds_what_all_their_flights_move() {
        let (base, flight) = (by_key("base").expect("registered"), flight());
        let price = GasPrice { max_wei: 9, tip_wei: 1 };
        let observed = LaunchFacts { nonce: Some(4), holds: Some(Amount::atomic(14)), price: Some(price) };
        let spending = SignerSpending::default();
        let mut other = flight.clone();
        other.payer = other.pay_to;
        let open = [flight.clone(), other];
        let in_flight = InFlightTotals::of(open.iter(), &flight, &spending, base);
        assert_eq!(
            (in_flight.owed, in_flight.worst.total),
            (Amount::atomic(7), 2 * spending.worst_cost(&flight, base))
        );
        assert_eq!(check_with_chain(&flight, base, observed, in_flight), Ok((4, price)));
        let poorer = LaunchFacts { holds: Some(Amount::atomic(13)), ..observed };
        assert_eq!(check_with_chain(&flight, base, poorer, in_flight), Err(LaunchDenial::Balance));
        assert_eq!(check_with_chain(&flight, base, poorer, InFlightTotals::default()), Ok((4, price)));
    }

    #[test]
    fn what_was_simulated_is_the_price_within_the_cap() {
        let (base, mut flight) = (by_key("base").expect("registered"), flight());
        let observed = LaunchFacts { nonce: Some(4), holds: Some(Amount::atomic(7)), price: None };
        assert_eq!(check_with_chain(&flight, base, observed, InFlightTotals::default()), Err(LaunchDenial::Unknown));
        flight.price = Some(GasPrice { max_wei: 90, tip_wei: 80 });
        flight.max_fee_wei = Some(70);
        let price = GasPrice { max_wei: 70, tip_wei: 70 };
        assert_eq!(check_with_chain(&flight, base, observed, InFlightTotals::default()), Ok((4, price)));
        for partial in [LaunchFacts { nonce: None, ..observed }, LaunchFacts { holds: None, ..observed }] {
            assert_eq!(check_with_chain(&flight, base, partial, InFlightTotals::default()), Err(LaunchDenial::Unknown));
        }
    }

    /// A transaction of version 0 that pays an order.
    const TRANSACTION: &str = concat!(
        "AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAACYHn5hIElssCbY",
        "AXXvjkT58XoS7khfWCOW4J0mVjpWf1jgXOmg6BE7xYvydWL1sUxcjojp2+qLnLTcfEqxYFsLgAIBBQn9FyQ4WqDHW2T7eM1gL6HZ",
        "kf3r92sTxY7XAurINen2GOpKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIsVfrYUDwcTMIz1rajclqlUU/uq3ieryKWb3Ki",
        "2UMxyVtrhP5UBZmQpuojCNxliFWtlYplHhRXJiP3+tOT27AT7DtELLORIVfxOpM9ATQoLQMrX/7NAaLb8bd5BgjfAC6nAwZGb+Uh",
        "FzL/7K26csOb57yM5bvF9xJrLEObOkAAAAAFSlNamSkhBk0k6HFg2jh8fDW13bySu4HkH6hAQQVEjQbd9uHXZaGT2cvhRs7reawc",
        "tIXtX1s3kTqM9YV+/wCpBN+teWL/sd2SXQqftebQDOYZW6i7OpH9B++YYMXpe7gFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUF",
        "BQUFBQQFAAUCIE4AAAUACQMBAAAAAAAAAAcEAwQCAQoM6AMAAAAAAAAGBgAKb3JkZXItMDAwMQA=",
    );
    /// Where it names the token account that it takes from: two signatures, the version, the header, three keys.
    const SOURCE: usize = 1 + 2 * 64 + 1 + 3 + 1 + 3 * 32;

    /// A payment of 7 on Solana, taken from this owner's account.
    fn solana(owner: u8) -> Flight {
        let mut bytes = STANDARD.decode(TRANSACTION).expect("base64");
        bytes[SOURCE..SOURCE + 32].fill(owner);
        Flight { cargo: FlightPayload::Svm(STANDARD.encode(bytes)), payer: Address::Svm([owner; 32]), ..flight() }
    }

    #[test]
    fn an_account_on_solana_holds_what_all_its_flights_move() {
        let (own, other) = (solana(7), solana(3));
        assert!(
            source_account(&own).is_some()
                && source_account(&own) != source_account(&other)
                && source_account(&flight()).is_none()
        );
        let open = [own.clone(), other, own.clone(), flight()];
        let holds = |amount| check_account_balance(&own, open.iter(), Some(Amount::atomic(amount)));
        assert_eq!((holds(21), holds(20), holds(0)), (Ok(()), Err(LaunchDenial::Balance), Err(LaunchDenial::Balance)));
        // Another authority over the same account spends the same money.
        let delegate = Flight { payer: Address::Svm([8; 32]), ..own.clone() };
        assert_eq!(check_account_balance(&delegate, open.iter(), Some(Amount::atomic(20))), Err(LaunchDenial::Balance));
        assert_eq!(check_account_balance(&own, open.iter(), None), Err(LaunchDenial::Unknown));
        let unread = Flight { cargo: FlightPayload::Svm(String::new()), ..own.clone() };
        assert_eq!(check_account_balance(&unread, [].iter(), Some(Amount::atomic(9))), Err(LaunchDenial::Unknown));
        assert_eq!(check_account_balance(&own, [].iter(), Some(Amount::atomic(7))), Ok(()));
        assert_eq!(LaunchDenial::Balance.report(&own).reason, Some(Reason::SvmSimulation));
    }

    #[test]
    fn one_payer_fills_no_signer() {
        let (own, other) = (solana(7), solana(3));
        let open = |count: usize| std::iter::repeat_n(&own, count);
        assert_eq!(check_payer_crowd(&own, open(31)), Ok(()));
        assert_eq!(check_payer_crowd(&own, open(32)), Err(LaunchDenial::Crowded));
        assert_eq!(check_payer_crowd(&other, open(100)), Ok(()));
    }

    #[test]
    fn what_is_denied_is_reported_and_leaves_nothing() {
        let flight = flight();
        let base = by_key("base").expect("registered");
        let none = SignerBudget { signer: 0, free: 0 };
        assert_eq!(
            check_daily_budget(&flight, base, &SignerSpending::default(), InFlightTotals::default(), none),
            Err(LaunchDenial::Budget)
        );
        for (denied, reason) in [
            (LaunchDenial::GivenUp, Reason::UnexpectedSettle),
            (LaunchDenial::Expired, Reason::EvmValidBefore),
            (LaunchDenial::Held(NOW), Reason::UnexpectedSettle),
            (LaunchDenial::Unknown, Reason::UnexpectedSettle),
            (LaunchDenial::Balance, Reason::EvmBalance),
            (LaunchDenial::Unconfirmed, Reason::UnexpectedSettle),
            (LaunchDenial::Crowded, Reason::UnexpectedSettle),
            (LaunchDenial::Budget, Reason::QuotaExceeded),
        ] {
            let report = denied.report(&flight);
            assert_eq!((report.status, report.reason), (SettlementStatus::Failed, Some(reason)));
            assert!(report.attempts.is_empty() && !report.handed && report.transaction.is_none());
            assert_eq!(report.held_until.is_some(), denied == LaunchDenial::Held(NOW));
        }
        assert!(LaunchDenial::Held(NOW).report(&flight).message.contains("2027-01-15T08:00:00.000Z"));
    }
}

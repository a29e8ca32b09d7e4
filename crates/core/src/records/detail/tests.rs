use super::*;
use crate::records::days::MonthDays;
use crate::records::latency::greatest_of;
use crate::records::rollup::Totals;
use proptest::prelude::*;

const NOON: u64 = 43_200_000;

fn id(at: u64, number: u8) -> VerificationId {
    VerificationId::new(UnixMillis(at), [number; 10])
}

/// The id of a record of the test below: two an hour.
fn own_id(number: u8) -> VerificationId {
    id(NOON.saturating_add(u64::from(number).saturating_mul(HOUR_MS / 2)), number)
}

fn record(asked: u64, status: &str, payer: Option<&str>, amount: Option<u64>) -> String {
    let request_id = RequestId::new(UnixMillis(asked), [1; 10]).to_string();
    let amount = amount.map(|amount| amount.to_string());
    serde_json::json!({"status": status, "amount": amount, "request_id": request_id, "from_address": payer, "x": [1.5]})
        .to_string()
}

#[test]
fn a_record_says_what_it_adds() {
    let read = |text: &str| RecordDetail::read(id(NOON + 130, 1), text).expect("a record");
    let latency = Some((12, bucket_of(130)));
    let paid = read(&record(NOON, "confirmed", Some("0xA"), Some(7)));
    assert_eq!(paid, RecordDetail { latency, payment: Some(("0xA".to_owned(), Amount::atomic(7))) });
    for status in ["pending", "rejected", "reorged"] {
        assert_eq!(read(&record(NOON, status, Some("0xA"), Some(7))), RecordDetail { latency, payment: None });
    }
    assert_eq!(read(&record(NOON, "finalized", None, Some(7))).payment, None);
    // The clock of the ledger was behind that of the Worker.
    assert_eq!(read(&record(NOON + 131, "pending", None, None)).latency, Some((12, 0)));
    let old = read(r#"{"status":"finalized","amount":"7"}"#);
    assert_eq!(old, RecordDetail { latency: None, payment: None });
    assert!(RecordDetail::read(id(1, 1), r#"{"status":"finalized","amount":7}"#).is_err());
}

#[test]
fn what_a_day_does_not_hold_is_not_taken_back() {
    let paid = |payer: &str, amount: u64| RecordDetail {
        latency: None,
        payment: Some((payer.to_owned(), Amount::atomic(amount))),
    };
    let mut day = DayDetail::default();
    day.apply_record(None, &paid("0xA", 5)).expect("added");
    for wrong in [paid("0xA", 6), paid("0xB", 1), RecordDetail { latency: Some((1, 1)), payment: None }] {
        assert!(day.clone().apply_record(Some(&wrong), &paid("0xC", 1)).is_err(), "{wrong:?}");
    }
    let id = SettlementId::new(UnixMillis(NOON), [1; 10]);
    let (network, status) = ("eip155:8453".to_owned(), "pending".to_owned());
    let state = SettlementState { id, revision: 0, network, status, amount: Amount::atomic(1) };
    assert!(day.apply_settlement(Some(&state), &state).is_err());
    assert!(CountingProgress::default().counts("ver_2"));
    let counting = CountingProgress { after: Some("ver_1".to_owned()) };
    assert_eq!(["ver_0", "ver_1", "ver_2"].map(|id| counting.counts(id)), [true, true, false]);
}

#[test]
fn a_day_keeps_those_who_paid_most() {
    let mut day = DayDetail::default();
    let paid = |payer: usize, amount: u64| RecordDetail {
        latency: None,
        payment: Some((format!("0x{payer:04}"), Amount::atomic(amount))),
    };
    for payer in 0..PAYERS_MAX {
        day.apply_record(None, &paid(payer, 10)).expect("added");
    }
    day.cut_payers();
    assert!(!day.is_cut);
    day.apply_record(None, &paid(PAYERS_MAX, 9)).expect("added");
    day.cut_payers();
    assert!(day.is_cut && !day.payers.contains_key("0x2000"));
    day.apply_record(None, &paid(PAYERS_MAX, 11)).expect("added");
    day.cut_payers();
    assert!(day.payers.len() == PAYERS_MAX && day.payers.contains_key("0x2000") && !day.payers.contains_key("0x0000"));
    // What was left out of it is not taken back.
    let gone = RecordDetail { latency: None, payment: None };
    for wrong in [paid(PAYERS_MAX, 9), paid(PAYERS_MAX, 20), paid(0, 10)] {
        day.clone().apply_record(Some(&wrong), &gone).expect("left out");
    }
    // The largest day is a row, and a line of a message.
    let text = serde_json::to_string(&day).expect("JSON");
    assert!(text.len() < 200_000, "{}", text.len());
    assert_eq!(serde_json::from_str::<DayDetail>(&text).expect("a day"), day);
}

#[derive(Clone, Debug)]
struct Change {
    id: u8,
    revision: i64,
    status: usize,
    payer: Option<usize>,
    amount: u64,
    latency: u64,
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = (0_u8..12, 0_i64..4, 0_usize..4, prop::option::of(0_usize..3), 0_u64..9, 0_u64..300);
    let change = change.prop_map(|(id, revision, status, payer, amount, latency)| Change {
        id,
        revision,
        status,
        payer,
        amount,
        latency,
    });
    prop::collection::vec(change, 0..60)
}

/// What is counted anew from the records that stand.
fn counted(stored: &BTreeMap<u8, (i64, RecordDetail)>) -> (BTreeMap<String, PaymentSum>, BTreeMap<u8, Vec<u8>>) {
    let (mut payers, mut hours) = (BTreeMap::<String, PaymentSum>::new(), BTreeMap::<u8, Vec<u8>>::new());
    for (_, RecordDetail { latency, payment }) in stored.values() {
        if let Some((payer, amount)) = payment {
            let sum = payers.entry(payer.clone()).or_default();
            *sum = sum.plus(PaymentSum { amount: *amount, count: 1 }).expect("small");
        }
        if let Some((hour, bucket)) = latency {
            hours.entry(*hour).or_default().push(*bucket);
        }
    }
    (payers, hours)
}

proptest! {
    /// Whatever revisions arrive in whatever order, and however often, a day is what its records say that stand; also
    /// where older records are counted meanwhile.
    #[test]
    fn a_day_is_what_its_records_say(changes in changes(), counted_after in prop::option::of(0_usize..60)) {
        let mut day = DayDetail::default();
        let mut stored: BTreeMap<u8, (i64, RecordDetail)> = BTreeMap::new();
        // An older build has stored what came before; then a record is counted with each further change.
        let mut progress = CountingProgress { after: counted_after.map(|_| String::new()) };
        for (at, change) in changes.iter().enumerate() {
            let own = own_id(change.id);
            let status = ["confirmed", "finalized", "reorged", "rejected"][change.status];
            let payer = change.payer.map(|payer| ["0xA", "0xB", "0xC"][payer]);
            let text = record(own.created_at().0.saturating_sub(change.latency), status, payer, Some(change.amount));
            let new = RecordDetail::read(own, &text).expect("a record");
            let earlier = stored.get(&change.id).cloned();
            if earlier.as_ref().is_none_or(|(revision, _)| *revision < change.revision) {
                if progress.counts(&own.to_string()) {
                    day.apply_record(earlier.as_ref().map(|(_, detail)| detail), &new).expect("exact");
                }
                stored.insert(change.id, (change.revision, new));
            }
            if counted_after.is_some_and(|after| at >= after) {
                count_next(&mut day, &mut progress, &stored);
            }
        }
        while progress.after.is_some() {
            count_next(&mut day, &mut progress, &stored);
        }
        let (payers, hours) = counted(&stored);
        prop_assert_eq!(&day.payers, &payers);
        let mut month = MonthDays::default();
        month.add_day(UnixMillis(0), &Totals::new(), day).expect("small");
        prop_assert_eq!(month.latency.len(), hours.len());
        for (found, (hour, mut buckets)) in month.latency.into_iter().zip(hours) {
            buckets.sort_unstable();
            let rank = |percent: usize| {
                let rank = buckets.len().saturating_mul(percent).div_ceil(100);
                greatest_of(buckets[rank.saturating_sub(1)])
            };
            let want = (UnixMillis(u64::from(hour).saturating_mul(HOUR_MS)), u64::try_from(buckets.len()).expect("small"));
            prop_assert_eq!((found.hour, found.count), want);
            prop_assert_eq!((found.p50_ms, found.p95_ms), (rank(50), rank(95)));
        }
    }

    #[test]
    fn settlements_are_counted_in_their_newest_status(
        changes in prop::collection::vec((0_u8..6, 0_usize..3, 0_u64..9), 0..40),
    ) {
        let mut day = DayDetail::default();
        let mut stored: BTreeMap<u8, SettlementState> = BTreeMap::new();
        for (own, status, amount) in changes {
            let status = ["pending", "completed", "failed"][status].to_owned();
            let network = ["eip155:8453", "eip155:137"][usize::from(own & 1)].to_owned();
            let id = SettlementId::new(UnixMillis(NOON), [own; 10]);
            let new = SettlementState { id, revision: 0, network, status, amount: Amount::atomic(amount) };
            day.apply_settlement(stored.get(&own), &new).expect("exact");
            stored.insert(own, new);
        }
        let mut want = BTreeMap::<(String, String), PaymentSum>::new();
        for state in stored.into_values() {
            let sum = want.entry((state.network, state.status)).or_default();
            *sum = sum.plus(PaymentSum { amount: state.amount, count: 1 }).expect("small");
        }
        let mut month = MonthDays::default();
        month.add_day(UnixMillis(0), &Totals::new(), day).expect("small");
        let found = month.settlements.into_iter().map(|sum| ((sum.chain, sum.state), sum.sum));
        prop_assert_eq!(found.collect::<BTreeMap<_, _>>(), want);
    }
}

/// Counts the next record that is not counted yet.
fn count_next(day: &mut DayDetail, progress: &mut CountingProgress, stored: &BTreeMap<u8, (i64, RecordDetail)>) {
    let text = |own: u8| own_id(own).to_string();
    let next = stored.iter().find(|(own, _)| !progress.counts(&text(**own)));
    if let Some((_, (_, detail))) = next {
        day.apply_record(None, detail).expect("exact");
    }
    progress.after = next.map(|(own, _)| text(*own));
}

// What `GET /v1/analytics` must answer, counted anew from the records and settlements themselves.
import { timeOf } from "./months.mjs";

const HOUR = 3_600_000;
const DAY = 86_400_000;
/** The names of the networks that the tests use, as verifications write them. */
const CHAINS = { "eip155:8453": "base", "eip155:137": "polygon", "eip155:31337": "local-evm" };

/** The greatest time of the range of a time: each power of two is cut into eight. */
export function ceiling(ms) {
  const time = Math.min(Math.max(ms, 0), 65_535);
  if (time < 8) return time;
  const width = 2 ** (Math.floor(Math.log2(time)) - 3);
  return (Math.floor(time / width) + 1) * width - 1;
}

/** The nearest rank of so many in a hundred of sorted times. */
const rank = (times, percent) => ceiling(times[Math.max(Math.ceil((times.length * percent) / 100), 1) - 1]);

const none = () => ({
  verifications: { count: 0, succeeded: 0, failed: 0, reorged: 0, amount: 0n },
  settlements: { count: 0, pending: 0, completed: 0, failed: 0, amount: 0n },
});

/** Counts as they are answered. */
function shown({ verifications, settlements }) {
  const { count, succeeded } = verifications;
  const parts = String(count && Math.floor((succeeded * 10_000) / count)).padStart(5, "0");
  const success_rate = count === 0 ? null : `${parts.slice(0, -4)}.${parts.slice(-4)}`;
  return {
    verifications: { ...verifications, success_rate, amount: String(verifications.amount) },
    settlements: { ...settlements, amount: String(settlements.amount) },
  };
}

const date = (ms) => new Date(ms).toISOString().slice(0, 10);

/**
 * The answer at a time, without `generated_at`.
 * @param {{ records: any[], settlements?: any[], environment?: string, now: number, days: number }} given
 */
export function recount({ records, settlements = [], environment = "live", now, days }) {
  const to = now - (now % DAY) + DAY;
  const from = to - days * DAY;
  const isWithin = ({ id }) => timeOf(id) >= from && timeOf(id) < to;
  const all = none();
  const byDay = new Map(Array.from({ length: days }, (_, at) => [date(from + at * DAY), none()]));
  const byChain = new Map();
  const [codes, hours, payers] = [new Map(), new Map(), new Map()];
  const counts = (id, chain) => {
    if (!byChain.has(chain)) byChain.set(chain, none());
    return [all, byDay.get(date(timeOf(id))), byChain.get(chain)];
  };
  for (const record of records.filter(isWithin)) {
    const stands = ["confirmed", "finalized"].includes(record.status) && record.error_code === null;
    const part = stands ? "succeeded" : record.status === "reorged" ? "reorged" : "failed";
    for (const { verifications } of counts(record.id, record.chain)) {
      verifications.count++;
      verifications[part]++;
      if (stands) verifications.amount += BigInt(record.amount);
    }
    if (record.error_code) codes.set(record.error_code, (codes.get(record.error_code) ?? 0) + 1);
    if (record.request_id) {
      const at = timeOf(record.id);
      const hour = new Date(at - (at % HOUR)).toISOString();
      if (!hours.has(hour)) hours.set(hour, []);
      hours.get(hour).push(at - timeOf(record.request_id));
    }
    if (stands && record.from_address) {
      const [count, amount] = payers.get(record.from_address) ?? [0, 0n];
      payers.set(record.from_address, [count + 1, amount + BigInt(record.amount)]);
    }
  }
  for (const { id, network, status, amount } of settlements.filter(isWithin))
    for (const { settlements } of counts(id, CHAINS[network])) {
      settlements.count++;
      settlements[status]++;
      if (status === "completed") settlements.amount += BigInt(amount);
    }
  /** By the first member of each pair. */
  const order = (one, other) => (one[0] < other[0] ? -1 : 1);
  const most = ([one, [oneCount, oneSum]], [other, [otherCount, otherSum]]) =>
    Number(otherSum > oneSum) - Number(otherSum < oneSum) || otherCount - oneCount || (one < other ? -1 : 1);
  return {
    environment,
    from: date(from),
    to: date(to - 1),
    ...shown(all),
    by_day: [...byDay].map(([date, counts]) => ({ date, ...shown(counts) })),
    by_chain: [...byChain].sort(order).map(([chain, counts]) => ({ chain, ...shown(counts) })),
    by_error_code: [...codes]
      .map(([error_code, count]) => ({ error_code, count }))
      .sort((one, other) => other.count - one.count || (one.error_code < other.error_code ? -1 : 1)),
    latency: [...hours].sort(order).map(([hour, times]) => {
      times.sort((one, other) => one - other);
      return { hour, count: times.length, p50_ms: rank(times, 50), p95_ms: rank(times, 95) };
    }),
    top_payers: [...payers]
      .sort(most)
      .slice(0, 20)
      .map(([address, [count, amount]]) => ({ address, count, amount: String(amount) })),
    top_payers_complete: true,
  };
}

// What the objects of the months hold on disk, and messages to them. Needs node:sqlite (the bundled node 24).
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { gunzipSync } from "node:zlib";
import { readObjects } from "./state.mjs";
import { ROOT } from "./worker.mjs";

const CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const DAY = 86_400_000;

/** What rows are compressed with. */
const DICTIONARY = readFileSync(join(ROOT, "crates", "core", "data", "record-dictionary.txt"));

/** The bytes of an LZ4 block of `length` bytes that was compressed with the dictionary. */
function inflated(block, length) {
  const bytes = Buffer.alloc(DICTIONARY.length + length);
  let [from, to] = [0, DICTIONARY.copy(bytes)];
  /** A length that goes on in further bytes while they are 255. */
  const long = (short) => {
    let sum = short;
    for (let more = short === 15 ? 255 : 0; more === 255; sum += more) more = block[from++];
    return sum;
  };
  while (from < block.length) {
    const token = block[from++];
    const literals = long(token >> 4);
    to += block.copy(bytes, to, from, from + literals);
    from += literals;
    if (from >= block.length) break;
    const distance = block.readUInt16LE(from);
    from += 2;
    for (let left = long(token & 15) + 4; left > 0; left--, to++) bytes[to] = bytes[to - distance];
  }
  if (to !== bytes.length) throw new Error(`a row of ${to - DICTIONARY.length} bytes that says ${length}`);
  return bytes.subarray(DICTIONARY.length);
}

/** The line that a row holds. */
function unpacked(row) {
  const body = Buffer.from(row);
  if (body[0] !== 1) throw new Error(`a row with dictionary ${body[0]}`);
  return inflated(body.subarray(5), body.readUInt32LE(1)).toString();
}

/** A ULID of a time; `number` is its random part. */
export function ulid(ms, number = crypto.getRandomValues(new BigUint64Array(1))[0]) {
  let value = (BigInt(ms) << 80n) | BigInt(number);
  let text = "";
  for (let at = 0; at < 26; at++) {
    text = CROCKFORD[Number(value & 31n)] + text;
    value >>= 5n;
  }
  return text;
}

/** The month of a time, as 2026-11. */
export const monthOf = (ms) => new Date(ms).toISOString().slice(0, 7);

/** When a month is archived. */
export const archivedFrom = (month) => {
  const [year, number] = month.split("-").map(Number);
  return Date.UTC(year, number, 1) + 90 * DAY;
};

/**
 * Sends a message to a month's object, as a ledger or the Worker does; answers its reply.
 * @param {import("./worker.mjs").Worker} worker
 * @param {{ tenant: string, environment?: string, month: string }} owner
 * @param {any} message
 */
export async function ask(worker, { tenant, environment = "live", month }, message) {
  const objects = /** @type {any} */ (await worker.mf.getDurableObjectNamespace("RECORDS"));
  const body = JSON.stringify({ tenant, environment, month, message });
  const stub = objects.get(objects.idFromName(`${tenant}:${environment}:${month}`));
  const response = await stub.fetch("https://records/v2/", { method: "POST", body });
  return /** @type {any} */ (await response.json()).reply;
}

/** Whether an event is about a payment after it was answered. */
const isOfPayment = ({ kind }) => /^(payment|settlement)\./.test(kind);
/** Whether an event is about the tenant itself: neither that, nor that a verification was answered, nor about the quota. */
const isOfTenant = ({ kind }) => !/^(verification|payment|settlement|quota)\./.test(kind);

/**
 * The months of a tenant that hold records or events of payments, in order.
 * @param {{ state: string }} worker
 * @param {string} [tenant]
 */
export const stored = (worker, tenant) =>
  allStored(worker, tenant).filter(({ records, events, totals, archive }) => records.length || events.length || totals.length || archive);

/**
 * The stored events of changes of a tenant, each with the environment of its month.
 * @param {{ state: string }} worker
 * @param {string} [tenant]
 */
export const storedChanges = (worker, tenant) =>
  allStored(worker, tenant).flatMap(({ changes, environment }) => changes.map((event) => ({ ...event, environment })));

/**
 * Every month of a tenant that is stored, in order.
 * @param {{ state: string }} worker
 * @param {string} [tenant]
 */
function allStored(worker, tenant) {
  const all = readObjects(worker, "Records", "records", (rows) => {
    const [owner] = rows("SELECT value FROM state WHERE name = 'owner'");
    if (!owner) return [];
    const lines = (table) => rows(`SELECT body FROM ${table} ORDER BY id`).map(({ body }) => unpacked(body));
    const archive = rows("SELECT value FROM state WHERE name = 'archive'")[0]?.value ?? null;
    const records = lines("records").map((line) => ({ ...JSON.parse(line), line }));
    const events = lines("events").map((line) => JSON.parse(line));
    return [
      {
        ...JSON.parse(String(owner.value)),
        archive,
        records,
        events: events.filter(isOfPayment),
        changes: events.filter(isOfTenant),
        totals: rows("SELECT * FROM totals"),
        settlements: rows("SELECT name FROM sqlite_master WHERE name = 'settlements'").length ? rows("SELECT * FROM settlements") : [],
      },
    ];
  })
    .flat()
    .filter((month) => tenant === undefined || month.tenant === tenant);
  return all.sort((one, other) => one.month.localeCompare(other.month));
}

/** Makes the objects of a month refuse every record; returns what mends them. */
export function breakMonth({ state }, month) {
  const folder = join(state, "do", "-Records");
  const each = (sql) => {
    for (const name of readdirSync(folder).filter((name) => /^[0-9a-f]{64}\.sqlite$/.test(name))) {
      const db = new DatabaseSync(join(folder, name), { timeout: 5_000 });
      try {
        const owner = db.prepare("SELECT value FROM state WHERE name = 'owner'").get();
        if (JSON.parse(String(owner?.value ?? "{}")).month === month) db.exec(sql);
      } finally {
        db.close();
      }
    }
  };
  each("CREATE TRIGGER broken BEFORE INSERT ON records BEGIN SELECT RAISE(ABORT, 'broken by a test'); END");
  return () => each("DROP TRIGGER IF EXISTS broken");
}

/** The stored records of a tenant, by id: the text of each. */
export const storedTexts = (worker, tenant) =>
  new Map(
    stored(worker, tenant).flatMap(({ records }) =>
      records.map(({ id, line }) => [id, line.replace(/^\{"id":"[^"]*","revision":\d+,"record":/, "").slice(0, -1)]),
    ),
  );

/** The stored events about a subject. */
export const storedEvents = (worker, subject) =>
  stored(worker)
    .flatMap(({ events }) => events)
    .filter((event) => event.subject === subject);

/**
 * The lines of an R2 object, or of all whose keys begin so: each key with its lines.
 * @returns {Promise<{ key: string, lines: any[] }[]>}
 */
export async function archived(worker, prefix) {
  const bucket = await worker.mf.getR2Bucket("ARCHIVE");
  const { objects } = await bucket.list({ prefix });
  const read = async ({ key }) => {
    const file = Buffer.from(await (await bucket.get(key)).arrayBuffer());
    return {
      key,
      lines: gunzipSync(file)
        .toString()
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line)),
    };
  };
  return Promise.all(objects.map(read));
}

/** Totals of records by hour and day, as the directory must hold them: `span start chain outcome` to `[count, amount]`. */
export function totalsOf(records) {
  const totals = new Map();
  for (const { at, record } of records) {
    for (const [span, ms] of [
      ["hour", 3_600_000],
      ["day", DAY],
    ]) {
      const start = at - (at % Number(ms));
      const key = [span, start, record.chain, record.error_code ?? record.status].join(" ");
      const [count, amount] = totals.get(key) ?? [0, 0n];
      totals.set(key, [count + 1, amount + BigInt(record.amount ?? 0)]);
    }
  }
  return new Map(
    [...totals].sort(([one], [other]) => (one < other ? -1 : 1)).map(([key, [count, amount]]) => [key, [count, String(amount)]]),
  );
}

/** The same as the directory holds them. */
export async function rollups(worker, tenant) {
  const rows = await worker.sql("SELECT * FROM rollups WHERE tenant_id = ? AND count > 0", tenant);
  const all = rows.map(({ span, start_ms, chain, outcome, count, amount }) => [
    [span, start_ms, chain, outcome].join(" "),
    [count, amount],
  ]);
  return new Map(/** @type {[string, any][]} */ (all.sort(([one], [other]) => (one < other ? -1 : 1))));
}

/** The ids of the records that ledgers hold. */
export const ledgerRecords = (worker) => readObjects(worker, "TenantLedger", "records", (all) => all("SELECT id FROM records")).flat();

/** When a record was made, by its id. */
export function timeOf(id) {
  let ms = 0;
  for (const letter of id.split("_")[1].slice(0, 10)) ms = ms * 32 + CROCKFORD.indexOf(letter);
  return ms;
}

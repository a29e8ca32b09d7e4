// Reads the books for `balance`: from the outside what the API lists, from the inside the rows of objects, D1 and R2, and the chain.
import { TOKEN } from "../../../scripts/lib/evm.mjs";
import { archived, archivedFrom, monthOf, rollups, stored, timeOf } from "../months.mjs";
import { readObjects } from "../state.mjs";

/** @typedef {import("./balance.mjs").Books} Books */

/** Every page of a list, as the API shows it. */
async function pages(world, { key }, path) {
  const all = [];
  for (let cursor = /** @type {string | null} */ (""); cursor !== null; ) {
    const { status, body, text } = await world.worker.call("GET", `${path}?limit=100${cursor}`, { key });
    if (status !== 200) throw new Error(`${path}: ${text}`);
    all.push(...body.data);
    cursor = body.next_cursor ? `&cursor=${body.next_cursor}` : null;
  }
  return all;
}

/** The ledgers' rows, by `tenant:environment`. */
function ledgers(worker) {
  /** @type {(all: (sql: string) => any[]) => [string, any][]} */
  const read = (all) => {
    const [owner] = all("SELECT value FROM state WHERE name = 'tenant'");
    if (!owner) return [];
    const { id, environment } = JSON.parse(owner.value);
    const [admission] = all("SELECT value FROM state WHERE name = 'admission'");
    const { used = {} } = admission ? JSON.parse(admission.value).spending : {};
    const ledger = {
      reserved: Object.fromEntries(Object.entries(used).map(([network, { reserved, risked }]) => [network, reserved + risked])),
      records: all("SELECT id, revision, body AS text FROM records"),
      claims: all(
        "SELECT network, tx, recipient, NULL AS ordinal, id FROM claims UNION ALL SELECT network, tx, recipient, ordinal, id FROM log_claims",
      ),
      payments: all("SELECT authorization, settlement_id AS settlement FROM payments"),
      settlements: all("SELECT id, status, revision, body FROM settlements").map((row) => ({ ...row, body: JSON.parse(row.body) })),
    };
    return [[`${id}:${environment}`, ledger]];
  };
  return new Map(readObjects(worker, "TenantLedger", "payments", read).flat());
}

/** The newest revision of each record of a tenant, of its months and of the archive. */
async function recordsOf(worker, tenant, months) {
  const lines = (await archived(worker, `${tenant}/`)).flatMap(({ lines }) => lines);
  const inArchive = lines
    .filter(({ id }) => id.startsWith("ver_"))
    .map(({ id, revision, record }) => ({ id, revision, text: JSON.stringify(record) }));
  const textOf = ({ id, revision, line }) => ({ id, revision, text: line.slice(line.indexOf('"record":') + '"record":'.length, -1) });
  const own = months.flatMap(({ records }) => records.map(textOf));
  // A late revision is in its month, and the one before in the archive.
  const held = new Set(own.map(({ id }) => id));
  return [...own, ...inArchive.filter(({ id }) => !held.has(id))];
}

/** What is kept of an account. */
async function readAccount(world, own, kept) {
  const { worker } = world;
  const months = stored(worker, own.id).filter(({ environment }) => environment === own.environment);
  const [records, shownRecords, settlements, events, usage, copies, rows] = await Promise.all([
    recordsOf(worker, own.id, months),
    pages(world, own, "/v1/verifications"),
    pages(world, own, "/v1/settlements"),
    pages(world, own, "/v1/events"),
    worker.call("GET", "/v1/usage", { key: own.key }),
    worker.sql("SELECT id, status, revision FROM settlements WHERE tenant_id = ? AND environment = ?", own.id, own.environment),
    worker.sql("SELECT period, verifications FROM period_usage WHERE tenant_id = ? AND environment = ?", own.id, own.environment),
  ]);
  const none = { reserved: {}, records: [], claims: [], payments: [], settlements: [] };
  const ledger = kept.get(own.name) ?? none;
  // Months count settlements that were made in them; one that is archived has no rows any more.
  const inMonths = months.flatMap(({ settlements }) => settlements.map(({ id, status, revision }) => ({ id, status, revision })));
  const isArchived = ({ id }) => archivedFrom(monthOf(timeOf(id))) <= world.now() && !inMonths.some((one) => one.id === id);
  return {
    name: own.name,
    payTo: own.to,
    now: world.now(),
    limit: own.limit,
    ledger,
    months: records,
    monthSettlements: [...inMonths, ...ledger.settlements.filter(isArchived)],
    rollups: [...(await rollups(worker, own.id))],
    directory: { settlements: copies, usage: rows },
    shown: {
      records: shownRecords.map(({ id }) => id),
      usage: usage.body,
      events: events.filter(({ type }) => own.hears.test(type)).map(({ id, type, subject }) => ({ id, type, subject })),
      settlements: settlements.map(({ id, status, handed_over }) => ({ id, status, isHandedOver: handed_over !== null })),
    },
    received: [...new Set(world.play.of(own.host).map(({ id }) => id))],
    balance: own.environment === "test" ? String(await world.evm.balance(own.to)) : null,
  };
}

/** How many blocks are asked for at once. */
const AT_ONCE = 50;

/** The transactions of accounts in all blocks, with whether each has moved tokens. */
async function sentBy(evm, addresses) {
  const head = Number(await evm.rpc("eth_blockNumber"));
  const sent = new Map(addresses.map((address) => [address.toLowerCase(), /** @type {any[]} */ ([])]));
  const note = async (number) => {
    const { transactions } = await evm.rpc("eth_getBlockByNumber", [`0x${number.toString(16)}`, true]);
    for (const { from, to, nonce, hash } of transactions.filter((one) => sent.has(one.from.toLowerCase()))) {
      const { status } = await evm.rpc("eth_getTransactionReceipt", [hash]);
      sent.get(from.toLowerCase())?.push({ nonce: Number(nonce), hash, moved: to?.toLowerCase() === TOKEN && status === "0x1" });
    }
  };
  for (let at = 0; at <= head; at += AT_ONCE) {
    const numbers = Array.from({ length: Math.min(AT_ONCE, head + 1 - at) }, (_, step) => at + step);
    await Promise.all(numbers.map(note));
  }
  return sent;
}

const flightOf = ({ key, nonce, report, told }) => {
  const status = report === null ? "open" : JSON.parse(report).status;
  return { key, nonce, status, isReported: told === 1 };
};

/** What the chain and its Settler have of each signer. */
async function readSigners(world) {
  const { evm, worker } = world;
  const settlers = new Map(
    readObjects(worker, "Settler", "flights", (all) => {
      const flights = all("SELECT key, nonce, json_extract(flight, '$.signer') AS signer, report, told FROM flights");
      const [nonces] = all("SELECT value FROM state WHERE name = 'nonces'");
      const next = nonces ? (JSON.parse(nonces.value).next ?? null) : null;
      return { signer: flights[0]?.signer?.toLowerCase(), next, flights };
    }).map((one) => [one.signer, one]),
  );
  const { queued } = await evm.rpc("txpool_content");
  const sent = await sentBy(evm, world.signers);
  const count = async (address, tag) => Number(await evm.rpc("eth_getTransactionCount", [address, tag]));
  return Promise.all(
    world.signers.map(async (address) => {
      const own = settlers.get(address.toLowerCase());
      const waiting = Object.entries(queued).find(([account]) => account.toLowerCase() === address.toLowerCase());
      return {
        address,
        latest: await count(address, "latest"),
        pending: await count(address, "pending"),
        queued: Object.keys(waiting?.[1] ?? {}).length,
        next: own?.next ?? null,
        sent: sent.get(address.toLowerCase()) ?? [],
        flights: (own?.flights ?? []).map(flightOf),
      };
    }),
  );
}

/**
 * The books as they are now, once all is calm.
 * @param {import("./world.mjs").World} world
 * @returns {Promise<Books>}
 */
export async function collect(world) {
  const kept = ledgers(world.worker);
  const [accounts, signers, mails] = await Promise.all([
    Promise.all(world.accounts.map((own) => readAccount(world, own, kept))),
    readSigners(world),
    world.worker.sql(`SELECT address, state, created_ms AS at, (SELECT COUNT(*) FROM mailbox WHERE mail_id = mails.id) AS sent FROM mails`),
  ]);
  return structuredClone({ journal: world.journal, accounts, signers, mails });
}

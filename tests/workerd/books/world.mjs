// Everything that a load runs against: the Worker on a state that outlives it, a real chain behind two nodes, two providers of a
// scripted one, sellers of both environments with webhook endpoints, and the clock.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ACCOUNTS, KEYS, startEvm } from "../../../scripts/lib/evm.mjs";
import { Browser } from "../browser.mjs";
import { startMock } from "../mock-rpc.mjs";
import { archivedFrom, ask as askMonth, stored, timeOf, ulid } from "../months.mjs";
import { random } from "../payment.mjs";
import { startProxy } from "../proxy.mjs";
import { hearing, receivers } from "../receivers.mjs";
import { readObjects } from "../state.mjs";
import { startWorker, until } from "../worker.mjs";
import { newJournal } from "./journal.mjs";
import { richBuyer, settle, verify } from "./load.mjs";

const [SECOND, MINUTE] = [1_000, 60_000];
/** How many verifications a month one of the sellers may make. */
const SMALL_QUOTA = 40;
const BUYERS = 16;
/** Longer than a lease. */
const LEASE_MS = 31 * SECOND;
/** How far the clock jumps at most. */
const STEP_MS = 25 * 86_400_000;
/** How long the system may take to settle once nothing is wrong any more. */
const PATIENCE_MS = 120_000;
const HEARD = ["verification.*", "payment.*", "settlement.*"];
/** Hardly anything is refused for its cost, and days have budgets all the same. */
const BUDGETS = { SETTLE_DAILY_USD: "100000", SETTLE_DAILY_SIGNER_USD: "100000" };

/** A seller's environment under load.
 * @typedef {{ name: string, id: string, environment: string, key: string, to: string, host: string, hears: RegExp, path: string,
 *   limit: number | null }} Own */

/** Starts it all. */
export async function startWorld() {
  const [evm, one, other] = await Promise.all([startEvm({ slotsInAnEpoch: 4 }), startMock(), startMock()]);
  const nodes = [await startProxy(evm.url), await startProxy(evm.url)];
  const world = new World(evm, nodes, [one, other]);
  try {
    await world.begin();
    return world;
  } catch (error) {
    await world.stop();
    throw error;
  }
}

export class World {
  /** @type {import("../worker.mjs").Worker} */
  worker;
  isUp = false;
  ahead = 0;
  journal = newJournal();
  /** @type {Own[]} */
  accounts = [];
  /** @type {import("viem").LocalAccount[]} */
  buyers = [];
  /** Payments of the facilitator that were made, and how they are asked for. @type {any[]} */
  made = [];
  /** Hashes of payments that are not final yet. @type {string[]} */
  young = [];
  /** Whoever has signed for the service. */
  signers = [ACCOUNTS[3].address];
  state = mkdtempSync(join(tmpdir(), "x402-books-"));
  play = receivers();
  messages = 0;
  /** How long something is wrong. */
  spanMs = 1_000;
  /** Requests of the load that have got no answer yet. */
  inFlight = 0;

  /**
   * @param {import("../../../scripts/lib/evm.mjs").Evm} evm
   * @param {Awaited<ReturnType<typeof startProxy>>[]} nodes in front of the real chain
   * @param {Awaited<ReturnType<typeof startMock>>[]} mocks
   */
  constructor(evm, nodes, mocks) {
    this.evm = evm;
    this.nodes = nodes;
    this.mocks = mocks;
    /** @type {Record<string, string | undefined>} */
    this.vars = {
      MAIL_BACKEND: "mailbox",
      PUBLIC_URL: "https://pay.example",
      RPC_BASE: mocks.map(({ url }) => url).join(),
      RPC_LOCAL_EVM: nodes.map(({ url }) => url).join(),
      EVM_SIGNERS_TEST: KEYS[3],
      ...BUDGETS,
    };
  }

  async begin() {
    await this.start();
    // Who signs for a payment depends on its payer: with so many, each of two signers is used.
    for (let at = 0; at < BUYERS; at++) this.buyers.push(await richBuyer(this.evm));
    // One after the other: who signs up gets a mail.
    for (const [environment, limit] of /** @type {[string, number | null][]} */ ([
      ["live", null],
      ["live", SMALL_QUOTA],
      ["test", null],
      ["test", null],
    ]))
      this.accounts.push(await this.seller(environment, limit));
  }

  async seller(environment, limit) {
    const to = random(20);
    const own = await hearing(this.worker, { environment });
    const chain = environment === "live" ? "base" : "local-evm";
    const limits = { per_minute: 100_000, per_hour: 1_000_000, ...(limit === null ? {} : { per_month: limit }) };
    await own.admin("PATCH", "", { limits, recipients: { [chain]: to } });
    const host = `shop${this.accounts.length}.example`;
    // Now and then a shop fails.
    this.play.set(host, () => (++this.messages % 20 === 0 ? 503 : 200));
    const { path } = await own.endpoint(host, { events: HEARD });
    const hears = /^(verification|payment|settlement)\./;
    return { name: `${own.id}:${environment}`, id: own.id, environment, key: own.key, to, host, hears, path, limit };
  }

  /** The Worker's clock. */
  now() {
    return Date.now() + this.ahead;
  }

  /** A block of the scripted chain that is not final. */
  get youngBlock() {
    return this.mocks[0].head - 5;
  }

  async start() {
    const { vars, state, play } = this;
    this.worker = await startWorker({ vars, state, outbound: play.outbound, begun: { ahead: this.ahead } });
    this.isUp = true;
  }

  /** SIGKILL; the Worker starts again on what it has stored, with further settings. */
  async kill(more = {}) {
    this.isUp = false;
    this.worker.crash();
    await this.worker.stop();
    Object.assign(this.vars, more);
    await this.start();
  }

  /** Puts the Worker's clock forward. */
  async advance(ms) {
    this.ahead += ms;
    await this.worker.advance(ms);
  }

  /** The same over what people have waited for. */
  async jump(ms) {
    await this.advance(ms);
    this.journal.jumps.push(this.now() - ms);
  }

  /** Goes to a time while requests come, in steps: an event that is a month old is sent to nobody any more. */
  async travel(to) {
    while (this.now() < to) {
      await this.jump(Math.min(to - this.now(), STEP_MS));
      const hasArrived = this.whatIsOnItsWay();
      const isDone = async () => {
        await this.wake();
        if (hasArrived()) return true;
        // Where that goes past the time, what comes next is as far.
        await this.advance(Math.min(MINUTE, Math.max(to - this.now(), SECOND)));
        return false;
      };
      if (to - this.now() > SECOND) await until(isDone, "events to arrive", PATIENCE_MS);
    }
  }

  stranger() {
    return new Browser(this.worker);
  }

  /** Ends whatever is wrong. */
  async mend() {
    for (const mock of this.mocks) mock.fault = undefined;
    for (const node of this.nodes) Object.assign(node, { down: false, answer: () => undefined });
    await this.worker.fault(null);
    await this.worker.dbFault();
    await this.worker.away();
    await this.evm.rpc("evm_setAutomine", [true]);
    await this.evm.rpc("evm_mine");
  }

  /** Asks again what has got no answer, as a client does. */
  async askAgain() {
    for (const { account, asked, outcome, resolved } of [...this.journal.verifications]) {
      const own = this.accounts.find(({ name }) => name === account);
      const isRepeatable = asked.key !== null || asked.reference !== null;
      if (own && outcome === "unknown" && !resolved && isRepeatable) await verify(this, own, asked);
    }
    for (const made of this.made) {
      const lost = new Set(
        made.paid.settles.filter(({ sale, outcome }) => outcome === "unknown" && !sale.startsWith("call")).map(({ sale }) => sale),
      );
      for (const key of lost) await settle(this, made, { key });
    }
  }

  /** Settles what nobody has got, until somebody has it or it counts as handed over. */
  async settleRest() {
    for (const made of this.made) {
      const { settles } = made.paid;
      const isOver = settles.some(({ success }) => success) || settles.length === 0 || made.isOver;
      if (isOver) continue;
      const came = await settle(this, made);
      made.isOver = came?.body?.errorReason === "duplicate_settlement" && (await this.isHandedOver(made));
    }
  }

  async isHandedOver({ own, body, paid }) {
    const { from } = body.paymentPayload.payload.authorization;
    const path = `/v1/settlements?network=local-evm&payer=${from}&nonce=${paid.nonce}`;
    return Boolean((await this.worker.call("GET", path, { key: own.key })).body.data[0]?.handed_over);
  }

  /** Wakes every object, so that its alarm follows the clock, and runs the timed jobs. */
  async wake() {
    const { worker } = this;
    for (const { key, path } of this.accounts)
      for (const asked of ["/v1/usage", "/v1/events?limit=1", `${path}/deliveries?limit=1`]) await worker.call("GET", asked, { key });
    for (const { tenant, environment, month } of stored(worker))
      await askMonth(worker, { tenant, environment, month }, { page: { before: null, rows: 1, bytes: 1 } });
    const settlers = /** @type {any} */ (await worker.mf.getDurableObjectNamespace("SETTLERS"));
    for (const address of this.signers) {
      const stub = settlers.get(settlers.idFromName(`local-evm:${address}`));
      await (await stub.fetch("https://settler/", { method: "POST", body: JSON.stringify("held") })).text();
    }
    await worker.cron("* * * * *");
  }

  /** What is still on its way. @returns {Promise<string[]>} */
  async unsettled() {
    const { worker, evm } = this;
    const count = (all, sql) => all(sql)[0].count;
    const waits = (name, table, questions) =>
      readObjects(worker, name, table, (all) => Object.entries(questions).map(([what, sql]) => [what, count(all, sql)])).flat();
    const inObjects = [
      ...waits("TenantLedger", "outbox", {
        "entries of an outbox": "SELECT COUNT(*) AS count FROM outbox",
        "parked entries": "SELECT COUNT(*) AS count FROM outbox_parked",
        "events for a Courier": "SELECT COUNT(*) AS count FROM webhooks_waiting",
        "unshipped records":
          "SELECT COUNT(*) AS count FROM records WHERE id > COALESCE((SELECT json_extract(value, '$.record') FROM state WHERE name = 'shipped'), '')",
        "pending settlements": "SELECT COUNT(*) AS count FROM settlements WHERE status = 'pending'",
        "open settlements": "SELECT COUNT(*) AS count FROM settlements WHERE status = 'completed' AND handed = 0",
      }),
      ...waits("Records", "totals", { "totals that are not copied": "SELECT COUNT(*) AS count FROM totals WHERE revision <> copied" }),
      ...waits("Courier", "deliveries", { deliveries: "SELECT COUNT(*) AS count FROM deliveries WHERE state = 'waiting'" }),
      ...waits("Settler", "flights", { flights: "SELECT COUNT(*) AS count FROM flights WHERE report IS NULL OR told = 0" }),
    ];
    const due = stored(worker).filter(({ month, is_late, records }) => !is_late && records.length && archivedFrom(month) <= this.now());
    const [mails] = await worker.sql("SELECT COUNT(*) AS count FROM mails WHERE state = 'queued'");
    const [changes] = await worker.sql(
      "SELECT COUNT(*) AS count FROM directory_outbox WHERE shipped_ms IS NULL OR loaded_ms IS NULL OR heard_ms IS NULL",
    );
    const usage = await this.unshippedUsage();
    const onChain = await Promise.all(this.signers.map((address) => evm.rpc("eth_getTransactionCount", [address, "latest"])));
    const landed = readObjects(worker, "Settler", "flights", (all) =>
      count(all, "SELECT COALESCE(MAX(nonce), -1) + 1 AS count FROM flights"),
    );
    const missing = landed.reduce((all, one) => all + one, 0) - onChain.reduce((all, one) => all + Number(one), 0);
    return [
      ...inObjects,
      ["months to archive", due.length],
      ["reorganised payments", this.unfollowed()],
      ["mails", mails.count],
      ["changes", changes.count],
      ["usage", usage],
      ["transactions off the chain", Math.max(missing, 0)],
    ]
      .filter(([, number]) => Number(number) > 0)
      .map(([what, number]) => `${number} ${what}`);
  }

  /** A condition: whether all events that are on their way now have arrived. */
  whatIsOnItsWay() {
    const newest = (all, table) => all(`SELECT COALESCE(MAX(seq), 0) AS seq FROM ${table}`)[0].seq;
    const marks = readObjects(
      this.worker,
      "TenantLedger",
      "outbox",
      (all, id) => /** @type {[string, number[]]} */ ([id, [newest(all, "outbox"), newest(all, "webhooks_waiting")]]),
    );
    const [upto, seqs] = [ulid(this.now(), 0n), new Map(marks)];
    const waits = (all, id) => {
      const [entry = 0, webhook = 0] = seqs.get(id) ?? [];
      return all(
        `SELECT (SELECT COUNT(*) FROM outbox WHERE seq <= ?) + (SELECT COUNT(*) FROM webhooks_waiting WHERE seq <= ?) +
          (SELECT COUNT(*) FROM records WHERE id < ? AND
          id > COALESCE((SELECT json_extract(value, '$.record') FROM state WHERE name = 'shipped'), '')) AS count`,
        entry,
        webhook,
        `ver_${upto}`,
      )[0].count;
    };
    const undelivered = "SELECT COUNT(*) AS count FROM deliveries WHERE state = 'waiting' AND event_id < ?";
    return () =>
      readObjects(this.worker, "TenantLedger", "outbox", waits).every((count) => count === 0) &&
      readObjects(this.worker, "Courier", "deliveries", (all) => all(undelivered, `evt_${upto}`)[0].count).every((count) => count === 0);
  }

  /** How many records say that their payment is on its chain, which has lost it. After a jump of the clock nobody looks any more. */
  unfollowed() {
    const since = this.journal.jumps.at(-1) ?? 0;
    const gone = new Set(this.journal.dropped);
    const standing = "SELECT id, json_extract(body, '$.tx_hash') AS tx FROM records WHERE json_extract(body, '$.status') = 'confirmed'";
    const all = readObjects(this.worker, "TenantLedger", "records", (rows) => rows(standing)).flat();
    return all.filter(({ id, tx }) => gone.has(tx) && timeOf(id) > since).length;
  }

  /** How many records follow a payment that is not final yet. */
  notFinal() {
    const since = this.journal.jumps.at(-1) ?? 0;
    const watched = "SELECT id FROM records WHERE watched = 1 AND json_extract(body, '$.status') = 'confirmed'";
    return readObjects(this.worker, "TenantLedger", "records", (rows) => rows(watched))
      .flat()
      .filter(({ id }) => timeOf(id) > since).length;
  }

  /** How many accounts have used what the directory does not have yet. */
  async unshippedUsage() {
    let unshipped = 0;
    for (const { id, environment, key } of this.accounts) {
      const { body } = await this.worker.call("GET", "/v1/usage", { key });
      const statement = "SELECT verifications FROM period_usage WHERE tenant_id = ? AND environment = ? AND period = ?";
      const [row] = await this.worker.sql(statement, id, environment, body.period);
      unshipped += Number((row?.verifications ?? 0) !== body.verifications_used);
    }
    return unshipped;
  }

  /** Waits until nothing is on its way any more: faults are over, and lost answers are asked for again. */
  async calm() {
    await this.mend();
    await this.askAgain();
    await this.advance(LEASE_MS);
    let left = [];
    const isCalm = async () => {
      await this.settleRest();
      await this.advance(MINUTE + SECOND);
      await this.wake();
      left = await this.unsettled();
      return left.length === 0;
    };
    const wait = (condition) =>
      until(condition, "calm", PATIENCE_MS).catch((error) => {
        throw new Error(`${error.message}: ${left.join(", ")}`);
      });
    await wait(isCalm);
    // What is left of the scripted chain becomes final.
    this.young = [];
    for (const mock of this.mocks) {
      mock.head += 10;
      mock.finalized += 10;
    }
    await wait(async () => (await isCalm()) && this.notFinal() === 0);
  }

  async stop() {
    await this.worker?.stop();
    for (const each of [...this.nodes, ...this.mocks, this.evm]) each.stop();
    rmSync(this.state, { recursive: true, force: true });
  }
}

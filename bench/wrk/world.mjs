// What the requests of the mix name: tenants of a local Worker with keys, sessions, payments and records, or the one key of a
// deployment.
import { spawn } from "node:child_process";
import { join } from "node:path";

/**
 * @typedef {{ hash: string, reference: string, id: string }} Kept a payment that was verified and claimed
 * @typedef {{
 *   id: string, live: string, test: string, url: string, cookie: string, to: string, kept: Kept[], seen: string[], settlement: string, event: string,
 *   endpoint: string,
 * }} Tenant `live`: a key of all scopes, `test`: of test networks, `url`: for paths; `to`: where it is paid; `seen`: payments that
 *   were verified, and are not claimed
 * @typedef {{ tenant: Tenant, body: any, accepts: any }} Payment
 * @typedef {{
 *   host: string, prefix: string, isDeployment: boolean, tenants: Tenant[], admin: string, metrics: string, payments: Payment[],
 *   sign: (count: number) => Promise<Payment[]>,
 * }} World
 */

const METRICS_TOKEN = "m".repeat(32);
/** Enough that no limit of a tenant is what is measured. */
const LIMITS = { per_minute: 10_000_000, per_hour: 100_000_000 };
const SCOPES = ["verify", "settle", "analytics", "manage"];
/** Payments that are verified again and again; and the payers of all. */
const [PAYMENTS, BUYERS] = [64, 16];
/** What payers have: more than a run spends. */
const WEALTH = 10n ** 15n;

/** Runs some at a time. */
async function inTurns(items, width, act) {
  const left = [...items.entries()];
  const results = [];
  const one = async () => {
    for (let next = left.shift(); next; next = left.shift()) results[next[0]] = await act(next[1], next[0]);
  };
  await Promise.all(Array.from({ length: width }, one));
  return results;
}

function must(status, answer) {
  if (answer.status !== status) throw new Error(`${answer.status} in place of ${status}: ${JSON.stringify(answer.body)}`);
  return answer.body;
}

/**
 * Starts a Worker on workerd's own socket with a stub of a provider and a local chain, and makes tenants. `stop` ends all.
 * @param {{ build?: string, tenants?: number, kept?: number, inspect?: boolean }} [options] `kept`: payments of each tenant that have been
 *   verified before
 */
export async function startLocal({ build = "build", tenants = 12, kept = 20, inspect = false } = {}) {
  const { freePort } = await import("../../scripts/lib/ports.mjs");
  const { KEYS, startEvm } = await import("../../scripts/lib/evm.mjs");
  const { ADMIN_KEY, startWorker } = await import("../../tests/workerd/worker.mjs");
  const port = await freePort(0);
  const stub = spawn(process.execPath, [join(import.meta.dirname, "..", "stub.mjs"), String(port), "final", "payers"], { stdio: "ignore" });
  const kill = () => void stub.kill("SIGKILL");
  process.once("exit", kill);
  /** @type {(() => Promise<void>)[]} */
  const stops = [async () => kill()];
  const stop = async () => {
    for (const one of stops.splice(0).reverse()) await one();
    process.off("exit", kill);
  };
  try {
    const evm = await startEvm();
    stops.push(async () => evm.stop());
    const provider = `http://127.0.0.1:${port}`;
    const vars = {
      RPC_BASE: provider,
      DOH_URL: `${provider}/dns-query`,
      RPC_LOCAL_EVM: evm.url,
      EVM_SIGNERS_TEST: KEYS.slice(-3).join(),
      MAIL_BACKEND: "mailbox",
      METRICS_TOKEN,
      ...Object.fromEntries(["", "_FAILED", "_SIGNER", "_FREE"].map((name) => [`SETTLE_DAILY${name}_USD`, "1000000"])),
    };
    const worker = await startWorker({ build, direct: true, quiet: true, inspect, vars });
    stops.push(() => worker.stop());
    const world = await localWorld(worker, evm, { tenants, kept });
    return { worker, world: { ...world, admin: ADMIN_KEY }, url: String(worker.direct), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/**
 * @param {import("../../tests/workerd/worker.mjs").Worker} worker
 * @param {import("../../scripts/lib/evm.mjs").Evm} evm
 * @returns {Promise<World>}
 */
async function localWorld(worker, evm, { tenants, kept }) {
  const { TOKEN, randomAccount } = await import("../../scripts/lib/evm.mjs");
  const { sign } = await import("../../tests/workerd/payment.mjs");
  const buyers = Array.from({ length: BUYERS }, () => randomAccount());
  for (const { address } of buyers) await evm.mint(address, WEALTH);
  const payment = async (tenant, at) => {
    // Longer than any run lasts.
    const validBefore = BigInt(Math.floor(Date.now() / 1_000) + 7_200);
    const body = await sign({ buyer: buyers[at % BUYERS], to: tenant.to, token: TOKEN, chainId: 31337, change: { validBefore } });
    const { scheme, network, amount, payTo } = body.paymentRequirements;
    return { tenant, body, accepts: { x402Version: 2, accepts: [{ scheme, network, amount, payTo }] } };
  };
  const all = await inTurns(Array.from({ length: tenants }), 4, () => makeTenant(worker, kept, payment));
  const signAll = (count) => Promise.all(Array.from({ length: count }, (_, at) => payment(all[at % all.length], at)));
  // Both are made at the first request, and nobody else is answered meanwhile.
  for (const path of ["/v1/status", "/v1/health"]) must(200, await worker.call("GET", path));
  const payments = await signAll(PAYMENTS);
  return { host: "x", prefix: "", isDeployment: false, tenants: all, admin: "", metrics: METRICS_TOKEN, payments, sign: signAll };
}

/**
 * A tenant whose owner has signed up, with keys, verified payments, one settlement and a webhook endpoint for what never happens.
 * @param {import("../../tests/workerd/worker.mjs").Worker} worker
 * @returns {Promise<Tenant>}
 */
async function makeTenant(worker, kept, payment) {
  const { random, settlementOf } = await import("../../tests/workerd/payment.mjs");
  const { hearing } = await import("../../tests/workerd/receivers.mjs");
  const to = random(20);
  const { id, key: live, browser, admin, call } = await hearing(worker);
  await admin("PATCH", "", { limits: LIMITS, recipients: { base: to, "local-evm": to } });
  const made = must(201, await browser.call("POST", "/v1/api-keys", { name: "test", environment: "test", scopes: SCOPES }));
  const tenant = { id, live, test: made.key, url: await worker.urlKey({ id }, "test"), to };
  const verified = await inTurns(Array.from({ length: kept }), 4, async (_, at) => {
    const [hash, reference] = [`${random(12)}${to.slice(2)}`, `kept-${at}`];
    const body = { tx_hash: hash, chain: "base", expected_amount: "1.50", recipient: to, reference };
    const { success, id } = must(200, await worker.verify(live, body, { "idempotency-key": reference }));
    if (!success) throw new Error(`a payment of ${to} is not verified`);
    return { hash, reference, id };
  });
  const seen = await inTurns(Array.from({ length: kept }), 4, async () => {
    const hash = `${random(12)}${to.slice(2)}`;
    const body = { tx_hash: hash, chain: "base", expected_amount: "1.50", recipient: to, claim: false };
    if (!must(200, await worker.verify(live, body)).success) throw new Error(`a payment of ${to} is not verified`);
    return hash;
  });
  const { body } = await payment(tenant, 0);
  const settled = await worker.call("POST", "/facilitator/settle", { key: tenant.test, body });
  if (!must(200, settled).success) throw new Error(`a payment is not settled: ${settled.text}`);
  const url = `https://shop.example/${id}`;
  const endpoint = must(201, await call("POST", "/v1/webhook-endpoints", { url, environment: "live", events: ["subscription.updated"] }));
  const [event] = must(200, await call("GET", "/v1/events?limit=1")).data;
  const cookie = [...browser.cookies].map((pair) => pair.join("=")).join("; ");
  const settlement = settlementOf(settled);
  return { ...tenant, cookie, kept: verified, seen, settlement, event: event.id, endpoint: endpoint.webhook_endpoint.id };
}

/**
 * A deployment, as one key of its for test networks may ask it.
 * @param {string} url
 * @param {string} key
 * @returns {World}
 */
export function deployment(url, key) {
  const { host, pathname } = new URL(url);
  const tenant = { id: "", live: "", test: key, url: "", cookie: "", to: "", kept: [], seen: [], settlement: "", event: "", endpoint: "" };
  const nothing = { admin: "", metrics: "", payments: [], sign: async () => [] };
  return { host, prefix: pathname.replace(/\/$/, ""), isDeployment: true, tenants: [tenant], ...nothing };
}

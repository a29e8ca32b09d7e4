// What a refused caller of the facilitator costs: no call to a chain; and that the rates outlive the ledger's memory.
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { generatePrivateKey } from "viem/accounts";
import { KEYS, randomAccount, startEvm } from "../../scripts/lib/evm.mjs";
import { startMock } from "./mock-rpc.mjs";
import { LONG, random, sign } from "./payment.mjs";
import { startWorker, until } from "./worker.mjs";

let mock, worker;

before(async () => {
  mock = await startMock();
  worker = await startWorker({ vars: { RPC_BASE: mock.url, EVM_SIGNERS_LIVE: generatePrivateKey() } });
});
after(async () => {
  await worker?.stop();
  mock?.stop();
});

/** A seller of Base, and payments to them, each signed by another buyer. */
async function seller(limits = {}) {
  const to = random(20);
  const tenant = await worker.tenant({ recipients: { base: to }, limits });
  const ask = async (verb, key = tenant.live) => {
    const body = await sign({ buyer: randomAccount(), to, token: mock.token, chainId: 8453, name: "USD Coin", ...LONG });
    return worker.call("POST", `/facilitator/${verb}`, { key, body });
  };
  const admin = (method, path, body) => worker.call(method, `/v1/admin/tenants/${tenant.id}${path}`, { admin: true, body });
  return { ...tenant, to, ask, admin };
}

/** Waits until the provider is left alone, and forgets what it was asked. */
async function quiet() {
  await idle();
  mock.calls.length = 0;
}

/** Waits until the provider is asked nothing any more: what is asked after an answer has no other sign. */
async function idle() {
  let asked;
  await until(async () => {
    const before = asked;
    asked = mock.requests;
    await new Promise((resolve) => setTimeout(resolve, 150));
    return before === mock.requests;
  }, "the provider to be left alone");
}

/** How each kind of caller comes to be refused: answers the key. */
const KINDS = {
  RATE_LIMITED: async () => {
    const own = await seller({ per_minute: 1 });
    assert.equal((await own.ask("verify")).body.isValid, true);
    return { ...own, key: own.live };
  },
  QUOTA_EXCEEDED: async () => {
    const own = await seller({ per_month: 1 });
    assert.equal((await own.ask("verify")).body.isValid, true);
    return { ...own, key: own.live };
  },
  TENANT_SUSPENDED: async () => {
    const own = await seller();
    assert.equal((await own.admin("PATCH", "", { status: "suspended" })).status, 200);
    return { ...own, key: own.live };
  },
  INVALID_API_KEY: async () => {
    const own = await seller();
    const made = (await own.admin("POST", "/api-keys", { name: "one", environment: "live", scopes: ["verify", "settle"] })).body;
    assert.equal((await own.admin("DELETE", `/api-keys/${made.api_key.id}`)).status, 200);
    return { ...own, key: made.key };
  },
  INSUFFICIENT_SCOPE: async () => {
    const own = await seller();
    const made = (await own.admin("POST", "/api-keys", { name: "one", environment: "live", scopes: ["analytics"] })).body;
    return { ...own, key: made.key };
  },
};

for (const [code, make] of Object.entries(KINDS)) {
  for (const verb of ["verify", "settle"]) {
    test(`after the first refusal, a caller refused with ${code} costs no call to a chain (${verb})`, async () => {
      // The signer's means are looked at, and the price of gas.
      await worker.call("GET", "/facilitator/supported");
      await (await seller()).ask("verify");
      await quiet();
      await worker.advance(30_000);
      const { ask, key } = await make();
      const first = await ask(verb, key);
      assert.equal(first.body.error_code, code, first.text);
      await quiet();
      // What is looked at once a minute is due again, and the refusal is still remembered.
      await worker.advance(31_000);
      await worker.counts();
      for (let at = 0; at < 3; at++) {
        const again = await ask(verb, key);
        assert.deepEqual([again.status, again.body.error_code], [first.status, code]);
        if (first.status === 429) assert.ok(Number(again.headers.get("retry-after")) > 0, verb);
        assert.equal(again.headers.get("x-ledger-remember"), null);
      }
      const { ledger } = await worker.counts();
      assert.equal(ledger, code === "RATE_LIMITED" ? 0 : 3);
      await idle();
      assert.deepEqual(mock.calls, [], "calls to the chain");
    });
  }
}

test("what was answered under an Idempotency-Key repeats for a caller whose rates are used up", async () => {
  const own = await seller({ per_minute: 1 });
  const body = { tx_hash: random(32), chain: "base", recipient: own.to };
  const settle = await sign({
    buyer: randomAccount(),
    to: own.to,
    token: mock.token,
    chainId: 8453,
    name: "USD Coin",
    change: { validBefore: 1n },
  });
  const post = (path, sent, id) => worker.call("POST", path, { key: own.live, body: sent, headers: { "idempotency-key": id } });
  const first = await post("/facilitator/settle", settle, "one");
  assert.equal(first.body.errorReason, "invalid_exact_evm_payload_authorization_valid_before", first.text);
  assert.equal((await own.ask("settle")).status, 429);
  await worker.counts();
  const again = await post("/facilitator/settle", settle, "one");
  assert.deepEqual([again.status, again.text, again.headers.get("idempotent-replayed")], [200, first.text, "true"]);
  // Another attempt is refused by the ledger, and costs no call to the chain.
  await quiet();
  for (const [path, sent] of [
    ["/facilitator/settle", settle],
    ["/v1/verify", body],
  ]) {
    assert.equal((await post(path, sent, "two")).body.error_code, "RATE_LIMITED");
  }
  assert.deepEqual([(await worker.counts()).ledger, mock.calls], [3, []]);
});

test("what is remembered of a refused caller ends after a minute, and is remembered anew", async () => {
  const { ask, key } = await KINDS.TENANT_SUSPENDED();
  assert.equal((await ask("verify", key)).body.error_code, "TENANT_SUSPENDED");
  await worker.advance(61_000);
  await quiet();
  assert.equal((await ask("verify", key)).body.error_code, "TENANT_SUSPENDED");
  assert.ok(mock.calls.length > 0, "the chain is asked once more");
  await quiet();
  assert.equal((await ask("verify", key)).body.error_code, "TENANT_SUSPENDED");
  assert.deepEqual(mock.calls, []);
});

test("a refusal that is lifted is over at once, a rate limit that is raised within a minute", async () => {
  const suspended = await KINDS.TENANT_SUSPENDED();
  for (const verb of ["verify", "settle"]) assert.equal((await suspended.ask(verb)).status, 403);
  await suspended.admin("PATCH", "", { status: "active" });
  assert.equal((await suspended.ask("verify")).body.isValid, true);
  const full = await KINDS.QUOTA_EXCEEDED();
  assert.equal((await full.ask("verify")).status, 429);
  await full.admin("PATCH", "", { limits: { per_month: 5 } });
  assert.equal((await full.ask("verify")).body.isValid, true);
  const limited = await seller({ per_hour: 1 });
  assert.equal((await limited.ask("verify")).body.isValid, true);
  assert.equal((await limited.ask("verify")).status, 429);
  await limited.admin("PATCH", "", { limits: { per_hour: 50 } });
  await worker.advance(61_000);
  assert.equal((await limited.ask("verify")).body.isValid, true);
});

/** The rates that a tenant's ledger has in storage: requests of the last minute and hour. */
function stored(state) {
  const folder = join(state, "do", "-TenantLedger");
  const sum = (window) => window.reduce((all, [, count]) => all + count, 0);
  const files = readdirSync(folder).filter((name) => /^[0-9a-f]{64}\.sqlite$/.test(name));
  return files.map((name) => {
    const db = new DatabaseSync(join(folder, name), { readOnly: true });
    try {
      const row = db.prepare("SELECT value FROM state WHERE name = 'admission'").get();
      const { minute, hour } = JSON.parse(String(row?.value ?? '{"minute":[],"hour":[]}'));
      return [sum(minute), sum(hour)];
    } catch (error) {
      // An object that was made and has no table yet.
      if (/no such table/.test(error.message)) return [0, 0];
      throw error;
    } finally {
      db.close();
    }
  });
}

test("a burst and a pause open no window again, and cost a few rows", async () => {
  const state = mkdtempSync(join(tmpdir(), "x402-rates-"));
  const evm = await startEvm();
  const vars = { RPC_LOCAL_EVM: evm.url, EVM_SIGNERS_TEST: KEYS.at(-1) };
  let own = await startWorker({ vars, state });
  try {
    const to = random(20);
    const tenant = await own.tenant({ recipients: { "local-evm": to }, limits: { per_minute: 2_000, per_hour: 10_000 } });
    const buyer = randomAccount();
    await evm.mint(buyer.address, 10_000n);
    const body = await sign({ buyer, to });
    const ask = () => own.call("POST", "/facilitator/verify", { key: tenant.test, body });
    const first = await ask();
    assert.equal(first.body.isValid, true, first.text);
    await until(() => stored(state).some(([minute]) => minute === 1), "the first request in storage");
    await own.written();
    const burst = Array.from({ length: 100 }, ask);
    for (const { body } of await Promise.all(burst)) assert.equal(body.isValid, true);
    const { rows } = await own.written();
    console.log(`      100 verifications of a known payment wrote ${rows} rows`);
    assert.ok(rows <= 40, `${rows} rows`);
    // The alarm comes long before an idle object is evicted.
    await until(() => stored(state).some(([minute, hour]) => minute === 101 && hour === 101), "the rates in storage", 9_000);
    own.crash();
    await own.stop();
    own = await startWorker({ vars, state });
    const { rate } = (await own.call("GET", "/v1/usage", { key: tenant.test })).body;
    assert.deepEqual([rate.minute.used, rate.hour.used], [101, 101]);
  } finally {
    await own.stop();
    evm.stop();
    rmSync(state, { recursive: true, force: true });
  }
});

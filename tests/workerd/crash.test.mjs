// A killed workerd loses nothing that was answered.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { generatePrivateKey } from "viem/accounts";
import { randomAccount } from "../../scripts/lib/evm.mjs";
import { startMock } from "./mock-rpc.mjs";
import { storedTexts } from "./months.mjs";
import { LONG, random, sign } from "./payment.mjs";
import { startWorker, until, withState } from "./worker.mjs";

test("every answered verification is in ledger and month after a SIGKILL under load", async () => {
  const state = mkdtempSync(join(tmpdir(), "x402-crash-"));
  const mock = await startMock();
  const vars = { RPC_BASE: mock.url };
  let worker = await startWorker({ vars, state });
  try {
    const to = `0x${"5a".repeat(20)}`;
    const tenant = await worker.tenant({ recipients: { base: to }, limits: { per_minute: 100000, per_hour: 1000000 } });
    const answered = [];
    let dead = false;
    const load = async () => {
      while (!dead) {
        const hash = mock.addTransfer({ from: `0x${"7b".repeat(20)}`, to, amount: 1_000000, block: 900 });
        try {
          const { status, body } = await worker.verify(tenant.live, { tx_hash: hash, chain: "base", reference: hash });
          if (status === 200 && body?.success) answered.push(body.id);
        } catch {
          return;
        }
      }
    };
    const loads = Array.from({ length: 16 }, load);
    await until(() => answered.length >= 150, "load");
    worker.crash();
    dead = true;
    await Promise.all(loads);
    await worker.stop();
    worker = await startWorker({ vars, state });
    const key = tenant.live;
    for (const id of answered) {
      const { status } = await worker.call("GET", `/v1/verifications/${id}`, { key });
      assert.equal(status, 200, `${id} is in the ledger`);
    }
    const usage = (await worker.call("GET", "/v1/usage", { key })).body;
    assert.ok(usage.verifications_used >= answered.length, `${usage.verifications_used} of ${answered.length} are counted`);
    const shipped = () => [...storedTexts(worker, tenant.id).keys()];
    await until(() => shipped().length >= answered.length, "the alarm's shipment");
    const rows = new Set(shipped());
    assert.equal(rows.size, shipped().length);
    assert.deepEqual(
      answered.filter((id) => !rows.has(id)),
      [],
    );
  } finally {
    await worker.stop();
    mock.stop();
    rmSync(state, { recursive: true, force: true });
  }
});

test("every payment that was answered as valid is counted after a SIGKILL under load", async () => {
  const state = mkdtempSync(join(tmpdir(), "x402-crash-"));
  const mock = await startMock();
  const vars = { RPC_BASE: mock.url, EVM_SIGNERS_LIVE: generatePrivateKey() };
  let worker = await startWorker({ vars, state });
  try {
    const to = random(20);
    const { live: key } = await worker.tenant({ recipients: { base: to }, limits: { per_minute: 100_000, per_hour: 1_000_000 } });
    const terms = { to, token: mock.token, chainId: 8453, name: "USD Coin", ...LONG };
    const payments = await Promise.all(Array.from({ length: 400 }, () => sign({ buyer: randomAccount(), ...terms })));
    const asked = payments.length;
    // A ledger far away: what is stored only after the answer is still on its way when workerd is killed.
    await worker.fault({ names: '"payment":', slow: 100, stays: true });
    let answered = 0;
    const load = async () => {
      for (let body = payments.pop(); body; body = payments.pop()) {
        try {
          const answer = await worker.call("POST", "/facilitator/verify", { key, body });
          assert.equal(answer.body.isValid, true, answer.text);
          answered++;
        } catch (error) {
          if (error instanceof assert.AssertionError) throw error;
          return;
        }
      }
    };
    const loads = Array.from({ length: 16 }, load);
    await until(() => answered >= 150, "load");
    worker.crash();
    await Promise.all(loads);
    await worker.stop();
    worker = await startWorker({ vars, state });
    const { verifications_used: counted } = (await worker.call("GET", "/v1/usage", { key })).body;
    assert.ok(answered <= counted && counted <= asked, `${counted} are counted, of ${answered} answered and ${asked} asked`);
  } finally {
    await worker.stop();
    mock.stop();
    rmSync(state, { recursive: true, force: true });
  }
});

test("what was counted is counted after a SIGKILL that comes before the next alarm", async () => {
  const mock = await startMock();
  try {
    await withState({ RPC_BASE: mock.url }, async (running) => {
      const to = `0x${"5b".repeat(20)}`;
      const { live: key } = await running.worker.tenant({ recipients: { base: to } });
      for (let at = 0; at < 5; at++) {
        const tx_hash = mock.addTransfer({ from: `0x${"7b".repeat(20)}`, to, amount: 1_000_000, block: 900 });
        assert.equal((await running.worker.verify(key, { tx_hash, chain: "base" })).body.success, true);
        // Refused for now: in the rates, and not in the quota.
        assert.equal((await running.worker.verify(key, { tx_hash: `0x${"1".repeat(64)}`, chain: "base" })).body.retry, "later");
      }
      running.worker.crash();
      const worker = await running.again();
      const { body } = await worker.call("GET", "/v1/usage", { key });
      assert.deepEqual([body.verifications_used, body.rate.minute.used, body.rate.hour.used], [5, 10, 10]);
    });
  } finally {
    mock.stop();
  }
});

// A forged key ends in the Worker: it is run without any binding to prove it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { startWorker } from "./worker.mjs";

test("forged, truncated, mistyped and re-prefixed keys need neither ledger nor directory", async () => {
  const worker = await startWorker();
  const { live, test: key } = await worker.tenant();
  const bare = await startWorker({ bindings: false });
  try {
    const genuine = await bare.call("GET", "/v1/usage", { key });
    assert.equal(genuine.body.error_code, "MISCONFIGURED", "a genuine key would have needed a ledger");
    const swapped = (text, at) => text.slice(0, at) + (text[at] === "2" ? "3" : "2") + text.slice(at + 1);
    const wrong = [
      "",
      "x",
      "x402_live_",
      "x402_test_1111",
      key.slice(0, -1),
      `${key}1`,
      swapped(key, 20),
      swapped(key, key.length - 1),
      key.replace("test", "live"),
      live.replace("live", "test"),
      key.toUpperCase(),
      `x402_prod_${key.slice(10)}`,
    ];
    for (const forged of wrong) {
      for (const [method, path] of [
        ["GET", "/v1/usage"],
        ["POST", "/v1/verify"],
        ["GET", "/v1/verifications"],
      ]) {
        const answer = await bare.call(method, path, { key: forged, body: method === "POST" ? {} : undefined });
        assert.equal(answer.status, 401, forged);
        assert.equal(answer.body.error_code, "INVALID_API_KEY");
      }
    }
    await worker.counts();
    for (const forged of wrong) await worker.call("GET", "/v1/usage", { key: forged });
    assert.deepEqual(await worker.counts(), { ledger: 0, directory: 0 });
  } finally {
    await Promise.all([worker.stop(), bare.stop()]);
  }
});

test("missing settings are all named at the first request, and no value is", async () => {
  const worker = await startWorker({ bindings: false, vars: { ADMIN_KEY: "hunter2", KEY_PEPPERS: "", RPC_BASE: "ftp://hunter2" } });
  try {
    const answer = await worker.call("GET", "/v1/health");
    assert.equal(answer.status, 503);
    assert.equal(answer.body.error_code, "MISCONFIGURED");
    for (const name of ["ADMIN_KEY", "KEY_PEPPERS", "RPC_BASE"]) assert.match(answer.body.detail, new RegExp(name));
    assert.ok(!answer.text.includes("hunter2"));
  } finally {
    await worker.stop();
  }
});

// What operators read: metrics that promtool accepts, exact where they say so, and the public status.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { debianProgram } from "../../scripts/lib/debian.mjs";
import { startMock } from "./mock-rpc.mjs";
import { random } from "./payment.mjs";
import { ROOT } from "../../scripts/lib/tools.mjs";
import { until, withState } from "./worker.mjs";

const TOKEN = "m".repeat(32);
let mock;
before(async () => (mock = await startMock()));
after(() => mock?.stop());
const settings = () => ({ RPC_BASE: mock.url, METRICS_TOKEN: TOKEN });

/** A seller on Base, and how a payment to him is verified. */
async function seller(worker, more = {}) {
  const to = random(20);
  const limits = { per_minute: 10_000, per_hour: 100_000 };
  const { id, live: key } = await worker.tenant({ recipients: { base: to }, limits, ...more });
  const verify = (on = worker, reference = undefined) => {
    const tx_hash = mock.addTransfer({ from: random(20), to, amount: 1_000_000, block: 900 });
    return on.verify(key, { tx_hash, chain: "base", max_age_seconds: 315_360_000, reference });
  };
  return { id, key, to, verify };
}

/** The metrics' text; the answer is made anew. */
async function scrape(worker) {
  await worker.advance(11_000);
  const { status, text, headers } = await worker.call("GET", "/metrics", { key: TOKEN });
  assert.equal(status, 200, text);
  assert.match(headers.get("content-type"), /^text\/plain; version=0\.0\.4/);
  return text;
}

/** The value of a series, as `x402_errors_total{code="NOT_FOUND"}`; 0 where there is none. */
function value(text, series) {
  const line = text.split("\n").find((each) => each.startsWith(`${series} `));
  return line ? Number(line.slice(series.length + 1)) : 0;
}

async function promtool(args, input) {
  const { path, env } = await debianProgram("prometheus", "promtool", true);
  const { status, stdout, stderr } = spawnSync(path, args, { input, env: { ...process.env, ...env }, encoding: "utf8" });
  return { status, output: stdout + stderr };
}

test("a scrape needs the token, and wrong ones are bounded", () =>
  withState(settings(), async ({ worker }) => {
    for (const key of [undefined, "wrong", `${TOKEN}x`])
      assert.equal((await worker.call("GET", "/metrics", { key })).body.error_code, "INVALID_METRICS_TOKEN");
    const statuses = [];
    for (let times = 0; times < 25; times++) statuses.push((await worker.call("GET", "/metrics", { key: "wrong" })).status);
    assert.equal(statuses.at(-1), 429);
    await worker.advance(61_000);
    assert.equal((await worker.call("GET", "/metrics", { key: TOKEN })).status, 200);
  }));

test("without a token there are no metrics", () =>
  withState({ RPC_BASE: mock.url }, async ({ worker }) => {
    const { status, body } = await worker.call("GET", "/metrics", { key: TOKEN });
    assert.deepEqual([status, body.error_code], [503, "MISCONFIGURED"]);
    assert.match(body.detail, /METRICS_TOKEN/);
  }));

test("promtool accepts the metrics, and each verification is counted once", () =>
  withState(settings(), async ({ worker }) => {
    const { id, verify, key } = await seller(worker);
    for (let times = 0; times < 7; times++) assert.equal((await verify()).body.success, true);
    await worker.verify(key, { tx_hash: `0x${"9".repeat(64)}`, chain: "base" });
    await worker.call("GET", "/v1/nowhere");
    const counted = 'x402_verifications_total{chain="base",outcome="finalized"}';
    let text = "";
    const shows = (isShown) => async () => {
      text = await scrape(worker);
      return isShown();
    };
    await until(
      shows(() => value(text, counted) === 7),
      "all verifications",
    );
    await until(
      shows(() => value(text, 'x402_errors_total{code="NOT_FOUND"}') > 0),
      "what isolates count",
    );
    assert.equal(value(text, 'x402_verification_duration_seconds_count{chain="base"}') >= 7, true, text);
    assert.ok(value(text, `x402_provider_calls_total{chain="base",provider="${new URL(mock.url).host}",outcome="ok"}`) > 0, text);
    // What the directory says is read once a minute.
    await until(
      shows(() => value(text, 'x402_active_tenants{tier="enterprise"}') === 1),
      "the tenant",
    );
    assert.equal(value(text, 'x402_quota_used{tier="enterprise"}'), 7, "what is not found yet counts nothing");
    assert.ok(!text.includes(id), "no tenant is a label");
    const checked = await promtool(["check", "metrics"], text);
    assert.deepEqual(checked, { status: 0, output: "" });
  }));

test("what ledgers have counted is exact over kills and lost answers", () =>
  withState(settings(), async (running) => {
    let on = running.worker;
    const { verify } = await seller(on);
    // A Meter that stores and whose answer is lost is asked again.
    await on.fault({ names: '"add":{"source":"ten_', lost: true });
    for (let times = 0; times < 5; times++) assert.equal((await verify(on)).body.success, true);
    await scrape(on);
    on.crash();
    on = await running.again();
    for (let times = 0; times < 4; times++) assert.equal((await verify(on)).body.success, true);
    on.crash();
    on = await running.again();
    const counted = 'x402_verifications_total{chain="base",outcome="finalized"}';
    await until(async () => {
      const found = value(await scrape(on), counted);
      assert.ok(found <= 9, `${found} of 9`);
      return found === 9;
    }, "all verifications, once");
    await scrape(on);
    assert.equal(value(await scrape(on), counted), 9);
  }));

test("the status is public, cached, and names no provider of the operator's own", () =>
  withState(settings(), async ({ worker }) => {
    // The first that ask a new isolate wait for one of them.
    const first = await Promise.all(Array.from({ length: 20 }, () => worker.call("GET", "/v1/status")));
    assert.deepEqual([...new Set(first.map(({ status }) => status))], [200]);
    const { verify } = await seller(worker);
    for (let times = 0; times < 3; times++) await verify();
    const read = async () => {
      await worker.advance(61_000);
      const { status, body, text, headers } = await worker.call("GET", "/v1/status");
      assert.equal(status, 200, text);
      assert.equal(headers.get("cache-control"), "public, max-age=60");
      return body;
    };
    await until(async () => (await read()).chains.base.last_hour.verifications === 3, "the verifications");
    const { chains, incidents } = await read();
    const { last_hour, last_day } = chains.base;
    assert.deepEqual([last_hour.success_rate, last_day.verifications], ["1.0000", 3]);
    assert.ok(last_hour.p50_ms > 0 && last_hour.p95_ms >= last_hour.p50_ms);
    assert.deepEqual(
      last_hour.providers.map(({ provider }) => provider),
      ["own-1"],
    );
    assert.deepEqual([chains.polygon.last_day.verifications, chains.polygon.last_day.success_rate, incidents], [0, null, []]);
    await worker.sql(
      "INSERT INTO operator_alerts (kind, subject, detail, first_ms, began_ms, notified_ms) VALUES ('chain_unreachable', 'base', 'x', 1, ?, 1)",
      Date.now(),
    );
    const [incident] = (await read()).incidents;
    assert.deepEqual([incident.kind, incident.chain, incident.ended_at], ["chain_unreachable", "base", null]);
    // An hour later nothing of it is of the last hour.
    await worker.advance(3_700_000);
    assert.equal((await read()).chains.base.last_hour.verifications, 0);
    assert.equal((await read()).chains.base.last_day.verifications, 3);
  }));

test("Prometheus loads its configuration and rules, and scrapes the Worker", () =>
  withState(settings(), async ({ worker }) => {
    const { verify } = await seller(worker);
    await verify();
    await scrape(worker);
    const folder = mkdtempSync(join(tmpdir(), "x402-prometheus-"));
    const port = await new Promise((resolve) => {
      const probe = createServer().listen(0, "127.0.0.1", () => {
        const { port } = /** @type {import("node:net").AddressInfo} */ (probe.address());
        probe.close(() => resolve(port));
      });
    });
    const { path, env } = await debianProgram("prometheus", "prometheus", true);
    const given = readFileSync(join(ROOT, "ops", "prometheus", "prometheus.yml"), "utf8");
    const config = given
      .replace("x402-edge.example.com", new URL(worker.url).host)
      .replace("scheme: https", "scheme: http")
      .replace("/etc/prometheus/x402-edge.token", join(folder, "token"))
      .replace("x402-edge.rules.yml", join(ROOT, "ops", "prometheus", "x402-edge.rules.yml"))
      .replace("scrape_interval: 30s", "scrape_interval: 1s");
    assert.ok(config.includes(join(folder, "token")) && config.includes(`scheme: http\n`));
    writeFileSync(join(folder, "token"), TOKEN);
    writeFileSync(join(folder, "prometheus.yml"), config);
    const args = [`--config.file=${join(folder, "prometheus.yml")}`, `--storage.tsdb.path=${join(folder, "data")}`];
    const running = spawn(path, [...args, `--web.listen-address=127.0.0.1:${port}`], { env: { ...process.env, ...env }, stdio: "ignore" });
    try {
      const ask = async (query) => {
        const url = `http://127.0.0.1:${port}/api/v1/${query}`;
        // While it starts it refuses connections, then answers 503.
        const response = await fetch(url).catch(() => null);
        return response?.ok ? (await response.json()).data : undefined;
      };
      await until(async () => (await ask("query?query=x402_build_info"))?.result?.length === 1, "a scrape by Prometheus");
      const { groups } = await ask("rules");
      assert.ok(groups.length > 0 && groups.every(({ rules }) => rules.every(({ health }) => health !== "err")), JSON.stringify(groups));
      assert.equal((await ask("query?query=up")).result[0].value[1], "1");
    } finally {
      const ended = once(running, "exit");
      running.kill();
      await ended;
      rmSync(folder, { recursive: true, force: true });
    }
  }));

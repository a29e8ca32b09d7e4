// What operators are alerted to: each begins, is sent once and once a day while it lasts, and ends.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { Response, fetch as passed } from "miniflare";
import { generatePrivateKey, privateKeyToAddress } from "viem/accounts";
import { mailsTo } from "./browser.mjs";
import { startMock } from "./mock-rpc.mjs";
import { random } from "./payment.mjs";
import { startWorker, until } from "./worker.mjs";

const [MINUTE, HOUR, DAY] = [60_000, 3_600_000, 86_400_000];
const [CHECK, MINUTELY] = ["*/5 * * * *", "* * * * *"];
const [HOOK, OPERATOR] = ["https://hooks.chat.example/services/operators", "ops@pay.example"];
const signer = generatePrivateKey();
/** A time at which the built-in list is current. */
const CURRENT = Date.parse("2026-08-25T10:30:00Z");

/** @type {string[]} */
let posted = [];
/** @type {() => any} */
let answer = () => new Response("ok");
async function outbound(request) {
  if (new URL(request.url).hostname === "127.0.0.1") return passed(request);
  assert.equal(request.url, HOOK);
  posted.push((await request.json()).text);
  return answer();
}

let mock, worker;
let clock = Date.now();
const advance = async (ms) => {
  clock += ms;
  await worker.advance(ms);
};
const VARS = { MAIL_BACKEND: "mailbox", PUBLIC_URL: "https://pay.example", OPERATOR_ALERT_URL: HOOK, OPERATOR_MAIL: OPERATOR };
before(async () => {
  mock = await startMock();
  worker = await startWorker({ vars: { ...VARS, RPC_BASE: mock.url, EVM_SIGNERS_LIVE: signer }, outbound });
  clock = Date.now();
  await advance(CURRENT - clock);
});
after(async () => {
  await worker?.stop();
  mock?.stop();
});
beforeEach(() => {
  posted = [];
  answer = () => new Response("ok");
  mock.fault = undefined;
});

/** Runs the checks and the job that posts; the lines that were sent, of one kind. */
async function lines(kind) {
  const before = posted.length;
  await worker.cron(CHECK);
  await worker.cron(MINUTELY);
  return posted
    .slice(before)
    .flatMap((text) => text.split("\n"))
    .filter((line) => line.includes(kind))
    .map((line) => line.split(" ")[0].replace(":", ""));
}
const open = async (kind) => {
  const { status, body } = await worker.call("GET", "/v1/admin/alerts", { admin: true });
  assert.equal(status, 200);
  return body.data.filter((alert) => alert.kind === kind);
};

test("a list that grows old is an alert until another is built in", async () => {
  assert.deepEqual([await lines("sanctions_stale"), await open("sanctions_stale")], [[], []]);
  await advance(10 * DAY);
  assert.deepEqual(await lines("sanctions_stale"), ["Begins"]);
  const [alert] = await open("sanctions_stale");
  assert.deepEqual([alert.subject, alert.detail, alert.since], ["", "the list is 15 days old", alert.alerted_at]);
  await advance(5 * MINUTE);
  assert.deepEqual(await lines("sanctions_stale"), [], "not each time");
  await Promise.all([worker.cron(CHECK), worker.cron(CHECK)]);
  await advance(DAY);
  assert.deepEqual(await lines("sanctions_stale"), ["Lasts"]);
  await advance(-11 * DAY);
  assert.deepEqual(await lines("sanctions_stale"), ["Ended"]);
  assert.deepEqual(await open("sanctions_stale"), []);
  const mails = await until(async () => {
    const all = (await mailsTo(worker, OPERATOR)).filter(({ text }) => text.includes("sanctions_stale"));
    return all.length === 3 && all;
  }, "the mails");
  assert.equal(mails[0].subject, "x402-edge: an alert for operators");
});

test("a chain is unreachable when none of its providers answers for ten minutes", async () => {
  const base = () => lines("chain_unreachable base:");
  assert.deepEqual(await base(), []);
  mock.fault = "http-500";
  assert.deepEqual(await base(), []);
  assert.ok(!(await open("chain_unreachable")).some(({ subject }) => subject === "base"), "it has not lasted");
  await advance(5 * MINUTE);
  assert.deepEqual(await base(), []);
  await advance(5 * MINUTE);
  assert.deepEqual(await base(), ["Begins"]);
  assert.ok((await open("chain_unreachable")).some(({ subject }) => subject === "base"));
  await advance(5 * MINUTE);
  assert.deepEqual(await base(), []);
  mock.fault = undefined;
  const ended = () => lines("chain_unreachable base ");
  assert.deepEqual(await ended(), ["Ended"]);
  // One check in which it answers begins the time anew.
  for (const fault of ["http-500", undefined, "http-500", undefined]) {
    mock.fault = fault;
    await advance(8 * MINUTE);
    assert.deepEqual([await base(), await ended()], [[], []]);
  }
});

test("a signer that can pay for few more transactions is an alert", async () => {
  const own = privateKeyToAddress(signer);
  const hold = (wei) => {
    mock.script = (method) => (method === "eth_getBalance" ? { result: `0x${BigInt(wei).toString(16)}` } : undefined);
  };
  assert.deepEqual(await lines("signer_low"), []);
  hold(5n * 10n ** 15n);
  assert.deepEqual(await lines("signer_low base"), ["Begins"]);
  const [alert] = await open("signer_low");
  assert.deepEqual([alert.subject, (await open("signer_low")).length], [`base ${own}`, 1]);
  assert.match(alert.detail, /pay for 5 more transactions/);
  // While no node answers, nobody knows.
  mock.fault = "http-500";
  assert.deepEqual(await lines("signer_low"), []);
  mock.fault = undefined;
  hold(10n ** 16n);
  assert.deepEqual(await lines("signer_low base"), ["Ended"]);
  // A signer that holds nothing is not used on the chain.
  hold(0n);
  assert.deepEqual([await lines("signer_low"), await open("signer_low")], [[], []]);
  mock.script = () => undefined;
});

test("many verifications that fail in an hour are an alert, and two are none", async () => {
  const to = random(20);
  const { live: key } = await worker.tenant({ recipients: { base: to } });
  const fail = async (times) => {
    mock.fault = "http-500";
    const tx_hash = `0x${"ab".repeat(32)}`;
    const answers = await Promise.all(Array.from({ length: times }, () => worker.verify(key, { tx_hash, chain: "base" })));
    assert.deepEqual(new Set(answers.map(({ body }) => body.error_code)), new Set(["CHAIN_UNAVAILABLE"]));
    const hour = clock - (clock % HOUR);
    const counted = async () => (await worker.sql("SELECT count FROM verification_faults WHERE hour_ms = ?", hour))[0]?.count === times;
    await until(counted, `${times} faults`);
    mock.fault = undefined;
  };
  await fail(2);
  await advance(HOUR);
  assert.deepEqual(await lines("error_rate"), []);
  await fail(10);
  assert.deepEqual(await lines("error_rate"), [], "the hour is not over");
  await advance(HOUR);
  assert.deepEqual(await lines("error_rate"), ["Begins"]);
  assert.match((await open("error_rate"))[0].detail, /^10 of 10 verifications failed in the hour from 2026-08-25T/);
  await advance(HOUR);
  assert.deepEqual(await lines("error_rate"), ["Ended"]);
  assert.deepEqual(await open("error_rate"), []);
});

test("a provider that is silent and a URL that hangs hold up no alert", async () => {
  const kinds = async () => (await worker.sql("SELECT kind FROM operator_alerts WHERE began_ms IS NOT NULL")).map(({ kind }) => kind);
  /** @type {(() => void)[]} */
  const ends = [];
  answer = () => new Promise((resolve) => ends.push(() => resolve(new Response("late"))));
  const mailed = async (kind) => (await mailsTo(worker, OPERATOR)).filter(({ text }) => text.includes(`Begins: ${kind}`)).length;
  const before = { sanctions: await mailed("sanctions_stale"), base: await mailed("chain_unreachable base:") };
  mock.fault = "silent";
  const hour = clock - (clock % HOUR);
  await worker.sql("INSERT OR REPLACE INTO verification_faults (hour_ms, count) VALUES (?, 50)", hour + 10 * 24 * HOUR);
  await advance(10 * DAY + HOUR);
  const began = performance.now();
  await worker.cron(CHECK);
  assert.ok(performance.now() - began < 30_000, "a check waits for a bounded time");
  assert.deepEqual((await kinds()).filter((kind) => !kind.startsWith("chain")).sort(), ["error_rate", "sanctions_stale"]);
  const run = worker.cron(MINUTELY);
  await until(() => posted.length === 1, "the message");
  await until(async () => (await mailed("sanctions_stale")) === before.sanctions + 1, "the mail, while the URL hangs", 8_000);
  // The next alert begins meanwhile.
  await advance(10 * MINUTE);
  await worker.cron(CHECK);
  await until(async () => (await mailed("chain_unreachable base:")) === before.base + 1, "the mail about the chain");
  await run;
  answer = () => new Response("ok");
  mock.fault = undefined;
  for (const end of ends) end();
  posted = [];
  await advance(10 * MINUTE);
  await worker.cron(MINUTELY);
  for (const kind of ["sanctions_stale", "error_rate", "chain_unreachable base:"])
    assert.ok(
      posted.some((text) => text.includes(`Begins: ${kind}`)),
      `${kind}: ${posted}`,
    );
  await advance(-10 * DAY);
  await worker.cron(CHECK);
  await worker.cron(MINUTELY);
});

test("what cannot be read of one check keeps no other from being made", async () => {
  await worker.dbFault({ names: "verification_faults", stays: true });
  await advance(10 * DAY);
  assert.deepEqual(await lines("sanctions_stale"), ["Begins"]);
  await worker.dbFault();
  await advance(-10 * DAY);
  assert.deepEqual(await lines("sanctions_stale"), ["Ended"]);
});

test("the end of an alert is sent though the Worker is stopped before it knows that it is written", async () => {
  const state = mkdtempSync(join(tmpdir(), "x402-operators-"));
  const options = { vars: VARS, state, outbound };
  let own = await startWorker(options);
  const by = CURRENT - Date.now();
  try {
    const ahead = (ms) => own.advance(ms);
    await ahead(by + 10 * DAY);
    await own.cron(CHECK);
    await own.cron(MINUTELY);
    assert.ok(posted.some((text) => text.includes("Begins: sanctions_stale")));
    await ahead(-10 * DAY);
    // The batch is written; whoever wrote it is killed.
    await own.dbFault({ names: "INSERT INTO operator_checks", after: true, held: true });
    own.cron(CHECK).catch(() => {});
    await until(async () => (await fetch(`${own.url}/__dbfault`)).json(), "the batch");
    own.crash();
    await own.stop();
    posted = [];
    own = await startWorker(options);
    await ahead(by + 3 * MINUTE);
    await own.cron(CHECK);
    await own.cron(MINUTELY);
    const ended = posted.flatMap((text) => text.split("\n")).filter((line) => line.includes("sanctions_stale"));
    assert.deepEqual(
      ended.map((line) => line.split(" ")[0]),
      ["Ended:"],
    );
    await until(async () => (await mailsTo(own, OPERATOR)).some(({ text }) => text.includes("Ended: sanctions_stale")), "the mail");
    assert.deepEqual(
      (await own.call("GET", "/v1/admin/alerts", { admin: true })).body.data.filter(({ kind }) => kind === "sanctions_stale"),
      [],
    );
  } finally {
    await own.stop();
    rmSync(state, { recursive: true, force: true });
  }
});

test("without an address nothing is sent, and operators read what is open", async () => {
  const bare = await startWorker({ vars: { MAIL_BACKEND: "mailbox" }, outbound });
  try {
    await bare.cron(CHECK);
    await bare.cron(MINUTELY);
    const { body } = await bare.call("GET", "/v1/admin/alerts", { admin: true });
    assert.deepEqual(
      body.data.map(({ kind }) => kind),
      ["sanctions_stale"],
    );
    assert.deepEqual([posted, (await bare.sql("SELECT 1 FROM mails")).length], [[], 0]);
  } finally {
    await bare.stop();
  }
});

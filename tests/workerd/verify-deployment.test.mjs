// `scripts/verify-deployment.sh` against a running Worker, and against one that lies.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, request as forward } from "node:http";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { after, before, test } from "node:test";
import { listen } from "../../scripts/lib/ports.mjs";
import { startMock } from "./mock-rpc.mjs";
import { random } from "./payment.mjs";
import { ROOT, startWorker } from "./worker.mjs";

const SCRIPT = join(ROOT, "scripts", "verify-deployment.sh");
/** Letters as codes have them: an answer can pass it off as one. */
const TOKEN = "M".repeat(32);
const USDC_OF_BASE_SEPOLIA = "0x036cbd53842c5426634e7929541ec2318f3dcf7e";
/** @type {Awaited<ReturnType<typeof startMock>>} */
let mock;
/** @type {import("./worker.mjs").Worker} */
let worker;
let key, payment;

before(async () => {
  mock = await startMock({ chainId: 84_532, token: USDC_OF_BASE_SEPOLIA });
  worker = await startWorker({ vars: { METRICS_TOKEN: TOKEN, RPC_BASE_SEPOLIA: mock.url } });
  const to = random(20);
  key = (await worker.tenant({ recipients: { "base-sepolia": to } })).test;
  payment = mock.addTransfer({ from: random(20), to, amount: 1_000_000, block: 900 });
});
after(async () => {
  await worker?.stop();
  mock?.stop();
});

/** Runs the script; the servers live in this process, so it must not wait. */
function run(args, env = {}) {
  return new Promise((resolve) => {
    const own = { PATH: process.env.PATH, ...env };
    execFile("sh", [SCRIPT, ...args], { env: own, timeout: 200_000 }, (error, stdout, stderr) => {
      resolve({ code: error ? error.code : 0, stdout, stderr, lines: stdout.split("\n") });
    });
  });
}

/** Runs `act` with the URL of a server. */
async function withServer(serve, act) {
  const server = createServer(serve);
  try {
    return await act(`http://127.0.0.1:${await listen(server)}`);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

test("a deployment that is well passes, and every route with a credential is tried", async () => {
  const { code, stdout, stderr, lines } = await run(["--limit", "60", worker.url], { X402_TEST_KEY: key, METRICS_TOKEN: TOKEN });
  assert.deepEqual([code, stderr], [0, ""], stdout);
  assert.match(stdout, /^\w+ +GET \/v1\/health: 200 in [\d.]+ s, status \w+, version \d+\.\d+\.\d+/m);
  assert.match(stdout, /^\w+ +GET \/metrics with the token: 200/m);
  assert.match(stdout, /^\w+ +POST \/v1\/verify on base-sepolia: 200 in [\d.]+ s, verdict TX_NOT_FOUND/m);
  assert.match(stdout, /: 0 failed, \d+ warnings\n$/);
  assert.ok(
    lines.every((line) => /^(ok {4}|warn {2})\S|^\d+ checks|^$/.test(line)),
    stdout,
  );
  assert.ok(!stdout.includes(key) && !stdout.includes(TOKEN), stdout);
  const { paths } = JSON.parse(readFileSync(join(ROOT, "docs", "reference", "openapi.json"), "utf8"));
  for (const [path, operations] of Object.entries(paths))
    for (const [method, { security }] of Object.entries(operations)) {
      const shown = `${method.toUpperCase()} ${path.replaceAll(/\{\w+\}/g, "0")} for `;
      const tried = lines.filter((line) => line.slice(6).startsWith(shown));
      const isOpen = security.length === 0 || security.some((one) => Object.keys(one).length === 0);
      assert.equal(
        tried.some((line) => line.includes(", without a credential: ")),
        !isOpen,
        shown,
      );
      const isOperators = security.some((one) => "adminKey" in one);
      if (security.length > 0 && !isOperators)
        assert.ok(
          tried.some((line) => line.includes(", with a wrong ")),
          shown,
        );
    }
});

test("a payment that is given must verify, and claims nothing", async () => {
  const env = { X402_TEST_KEY: key, X402_TEST_TX: payment, X402_TEST_CHAIN: "base-sepolia" };
  for (const times of [1, 2]) {
    const { code, stdout } = await run(["--limit", "60", `${worker.url}/`], env);
    assert.equal(code, 0, `${times}: ${stdout}`);
    assert.match(stdout, /^\w+ +POST \/v1\/verify on base-sepolia: 200 in [\d.]+ s, verdict success/m);
    assert.match(stdout, /^skip {2}metrics: /m);
  }
  const { body } = await worker.verify(key, { tx_hash: payment, chain: "base-sepolia", reference: "own", max_age_seconds: 315_360_000 });
  assert.deepEqual([body.success, body.replayed], [true, false], JSON.stringify(body));
});

test("the headers that it wants are those that the service sends", () => {
  const source = readFileSync(join(ROOT, "crates", "api", "src", "headers.rs"), "utf8");
  const table = source.match(/^const ALWAYS_HEADERS[\s\S]*?^\];/m)?.[0] ?? "";
  const sent = [...table.matchAll(/\(\s*"([\w-]+)",\s*"([^"]*)",?\s*\)/g)].map(([, name, value]) => `${name}: ${value}`);
  const script = readFileSync(join(ROOT, "scripts", "lib", "ask.sh"), "utf8");
  const wanted =
    script
      .match(/^security_headers[\s\S]*?<<'EOF'\n([\s\S]*?)^EOF$/m)?.[1]
      .trim()
      .split("\n") ?? [];
  assert.ok(sent.length > 4);
  assert.deepEqual(wanted, [...sent, "X-Request-Id: *", "Cache-Control: *"]);
});

/** @typedef {import("node:http").IncomingMessage} Request */
/** @typedef {import("node:http").ServerResponse} Response */

/** An answer in place of the Worker's, with the headers that it would have. */
const says =
  (status, body, headers = {}) =>
  (/** @type {Response} */ response, own) => {
    response.writeHead(status, { ...own, "content-type": "application/problem+json", ...headers }).end(JSON.stringify(body));
  };
/** The Worker's answer with headers that differ; `undefined` takes one away. */
const changes = (headers) => (response, own, status, body) => {
  const all = Object.entries({ ...own, ...headers }).filter(([, value]) => value !== undefined);
  response.writeHead(status, Object.fromEntries(all)).end(body);
};
const bearer =
  (token) =>
  (/** @type {Request} */ { headers }) =>
    headers.authorization === `Bearer ${token}`;
const bare = (/** @type {Request} */ { headers }) => !headers.authorization && !headers.cookie && !headers["x-admin-key"];
const hasCookie = (/** @type {Request} */ { headers }) => Boolean(headers.cookie);

/**
 * Each lie: the request that it answers, how, and the line about it.
 * @type {[string, (request: Request) => boolean, (response: Response, own: any, status: any, body: any) => void, RegExp][]}
 */
const LIES = [
  ["GET /v1/pricing", bare, changes({ "x-frame-options": undefined }), /^GET \/v1\/pricing: headers that .*: X-Frame-Options$/],
  ["GET /docs/tiers", bare, changes({ "content-security-policy": "default-src *" }), /^GET \/docs\/tiers: .*: Content-Security-Policy$/],
  ["GET /v1/nowhere", bare, changes({ "x-frame-options": ["DENY", "SAMEORIGIN"] }), /^GET \/v1\/nowhere: .*: X-Frame-Options$/],
  [
    "GET /v1/admin/tenants",
    bare,
    says(200, { tenants: [] }),
    /^GET \/v1\/admin\/tenants for operators, .*: status 200 instead of 401 or 403$/,
  ],
  [
    "GET /v1/admin/mailbox",
    bare,
    says(401, { error_code: "INVALID_ADMIN_KEY", mails: "m".repeat(4_000) }),
    /^GET \/v1\/admin\/mailbox .* more than a refusal$/,
  ],
  ["GET /v1/admin/alerts", bare, says(401, { alerts: [] }), /^GET \/v1\/admin\/alerts .*: 401 without the code of a refusal$/],
  ["GET /v1/usage", (request) => bearer(TOKEN)(request), says(200, { used: 1 }), /^GET \/v1\/usage with the token of metrics: status 200 /],
  ["GET /v1/whoami", (request) => !bare(request), says(200, {}), /^GET \/v1\/whoami for keys, with a wrong key: status 200 /],
  ["GET /v1/settlements", bare, says(302, {}, { location: "/login" }), /^GET \/v1\/settlements for keys, .*: status 302 /],
  ["GET /v1/sessions", hasCookie, says(200, []), /^GET \/v1\/sessions for people, with a wrong session: status 200 /],
  ["DELETE /v1/tenant", hasCookie, says(500, {}), /^DELETE \/v1\/tenant for people, with a wrong session: status 500 /],
  [
    "GET /v1/members",
    bare,
    changes({ "access-control-allow-origin": "*" }),
    /^GET \/v1\/members for people, .*: pages of other origins may read it$/,
  ],
  ["GET /v1/events/0", bare, (response) => response.destroy(), /^GET \/v1\/events\/0 for managers, .*: no answer \(curl \d+\)$/],
  [
    "GET /v1/health",
    bare,
    says(200, { status: "down", version: "1.2.3", checks: { database: { status: "ok" } } }),
    /^GET \/v1\/health: the status is 'down'$/,
  ],
  ["GET /docs/errors", bare, () => {}, /^GET \/docs\/errors: no whole answer within 8 s$/],
  [
    "GET /v1/openapi.json",
    bare,
    (response, own) => response.writeHead(200, { ...own, "content-length": 10 ** 9 }).write("{"),
    /^GET \/v1\/openapi.json: the answer has more than \d+ bytes$/,
  ],
  ["GET /v1/status", bare, endless, /^GET \/v1\/status: the answer has more than \d+ bytes$/],
  [
    "GET /facilitator/supported",
    bare,
    says(500, { error_code: "INTERNAL" }),
    /^GET \/facilitator\/supported: status 500 INTERNAL instead of 200$/,
  ],
  ["GET /.env", bare, says(200, "ADMIN_KEY=1"), /^GET \/.env: status 200 instead of 404$/],
  ["POST /v1/health", bare, says(200, {}), /^POST \/v1\/health, a wrong method: status 200 instead of 405$/],
  ["DELETE /v1/pricing", bare, changes({ allow: undefined }), /^DELETE \/v1\/pricing, a wrong method: no header Allow$/],
  ["GET /metrics", bearer(TOKEN), says(500, { error_code: TOKEN }), /^GET \/metrics with the token: status 500 \(secret\) instead of 200$/],
  [
    "POST /v1/verify",
    (request) => bearer(key)(request),
    says(200, { success: true }, { "content-type": "application/json" }),
    /^POST \/v1\/verify on base-sepolia: the verdict is '' instead of TX_NOT_FOUND; /,
  ],
];

/** An answer without an end. */
function endless(response, own) {
  const { "content-length": _, ...headers } = own;
  response.writeHead(200, headers);
  const chunk = Buffer.alloc(65_536, "x");
  const more = () => {
    while (!response.destroyed && response.write(chunk));
  };
  response.on("drain", more);
  more();
}

/** Passes requests on to the Worker, and its answers back as `lie` changes them. */
function lying(lieAbout) {
  return (/** @type {Request} */ request, /** @type {Response} */ response) => {
    const { method, url: path, headers } = request;
    const passed = forward(`${worker.url}${path}`, { method, headers }, async (answer) => {
      const chunks = [];
      for await (const chunk of answer) chunks.push(chunk);
      const { "transfer-encoding": _, "content-length": __, ...own } = answer.headers;
      const lie = lieAbout(request) ?? changes({});
      lie(response, own, answer.statusCode, Buffer.concat(chunks));
    });
    request.pipe(passed);
  };
}

/** What is no failure, and is warned of. */
/** @type {typeof LIES} */
const ODDITIES = [
  [
    "GET /v1/verifications",
    bare,
    (...given) => setTimeout(() => changes({})(...given), 1_050),
    /^warn {2}GET \/v1\/verifications for keys, without a credential: 401 in [\d.]+ s, but the answer took 1\.\d+ s$/,
  ],
  [
    "GET /metrics",
    (request) => /^Bearer a-wrong-token/.test(request.headers.authorization ?? ""),
    says(503, { error_code: "MISCONFIGURED" }),
    /^warn {2}GET \/metrics for metrics, with a wrong token: 503 in [\d.]+ s, but METRICS_TOKEN is not set: there are no metrics$/,
  ],
];

test("each lie of a deployment is found, and nothing else", async () => {
  const lieAbout = (/** @type {Request} */ request) =>
    [...LIES, ...ODDITIES].find(([what, when]) => what === `${request.method} ${request.url}` && when(request))?.[2];
  // The Worker compares so many wrong keys a minute, and each run sends some.
  await worker.advance(61_000);
  await withServer(lying(lieAbout), async (url) => {
    const { code, stdout, stderr, lines } = await run(["--limit", "8", url], { X402_TEST_KEY: key, METRICS_TOKEN: TOKEN });
    assert.deepEqual([code, stderr], [1, ""], stdout);
    const failed = lines
      .slice(lines.indexOf("failed:") + 1)
      .filter(Boolean)
      .map((line) => line.trim());
    for (const [what, , , line] of LIES)
      assert.ok(
        failed.some((one) => line.test(one)),
        `${what}: ${line}\n${failed.join("\n")}`,
      );
    assert.deepEqual(
      failed.filter((one) => !LIES.some(([, , , line]) => line.test(one))),
      [],
    );
    assert.equal(failed.length, LIES.length, failed.join("\n"));
    assert.deepEqual(
      lines.filter((line) => line.startsWith("FAIL")).map((line) => line.slice(6)),
      failed,
    );
    for (const [what, , , line] of ODDITIES)
      assert.ok(
        lines.some((one) => line.test(one)),
        `${what}: ${stdout}`,
      );
    assert.ok(!stdout.includes(key) && !stdout.includes(TOKEN), stdout);
  });
});

test("where nothing answers, one check fails", async () => {
  const url = await withServer(
    () => {},
    async (gone) => gone,
  );
  const { code, stdout } = await run([url]);
  assert.equal(code, 1, stdout);
  assert.match(
    stdout,
    /^FAIL {2}GET \/v1\/health: no answer \(curl 7\)\n1 checks of .*: 1 failed, 0 warnings\nfailed:\n {2}GET \/v1\/health: no answer/,
  );
});

test("no secret is on a command line, in the environment of a program that it runs, or printed", async () => {
  const folder = mkdtempSync(join(tmpdir(), "x402-verify-"));
  try {
    const log = join(folder, "log");
    // Each program that the script runs first writes down what others can read of it.
    const path = process.env.PATH?.split(delimiter) ?? [];
    const tools = ["awk", "cat", "curl", "cut", "grep", "head", "mktemp", "od", "rm", "sed", "tail", "tr", "wc"];
    for (const tool of tools) {
      const program = (await new Promise((resolve) => execFile("sh", ["-c", `command -v ${tool}`], (_, stdout) => resolve(stdout)))).trim();
      writeFileSync(join(folder, tool), `#!/bin/sh\n{ echo "${tool} $*"; env; } >>'${log}'\nexec '${program}' "$@"\n`);
      chmodSync(join(folder, tool), 0o755);
    }
    const seen = [];
    const server = (request, response) => {
      seen.push(request.headers.authorization ?? "");
      response.writeHead(500).end();
    };
    const token = `"quoted\\ ${"t".repeat(32)}`;
    const { code, stdout, stderr } = await withServer(server, (url) =>
      run([url], { PATH: [folder, ...path].join(delimiter), X402_TEST_KEY: key, METRICS_TOKEN: token }),
    );
    assert.equal(code, 1, stderr);
    assert.ok(seen.includes(`Bearer ${key}`) && seen.includes(`Bearer ${token}`), "both were sent as they are");
    const written = readFileSync(log, "utf8");
    const curls = written.split("\n").filter((line) => line.startsWith("curl "));
    assert.ok(curls.length > 100 && curls.every((line) => line === "curl -q --config -"), curls[0]);
    for (const text of [written, stdout, stderr]) assert.ok(!text.includes(key) && !text.includes("t".repeat(32)));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test("what is wrong with the command or the environment is told, without a secret", async () => {
  const secret = `x402_live_${"s".repeat(40)}`;
  for (const [args, env, told] of /** @type {[string[], Record<string, string>, RegExp][]} */ ([
    [[], {}, /which URL\?/],
    [["http://pay.example"], {}, /a key would be readable/],
    [["http://127.0.0.1.pay.example:80"], {}, /a key would be readable/],
    [["ftp://pay.example"], {}, /must begin with https/],
    [[`https://${secret}@pay.example`], {}, /without anything more/],
    [["https://pay.example/path"], {}, /without anything more/],
    [["--limit", "0", "https://pay.example"], {}, /from 1 to 60/],
    [["--limit"], {}, /wants seconds/],
    [["--nope", "https://pay.example"], {}, /no such option/],
    [["https://pay.example", "https://pay.example"], {}, /one URL/],
    [["https://pay.example"], { X402_TEST_KEY: secret }, /for test networks/],
    [["https://pay.example"], { METRICS_TOKEN: "short" }, /at least 32/],
    [["https://pay.example"], { METRICS_TOKEN: `${"t".repeat(32)}\nheader` }, /no header can/],
    [["https://pay.example"], { X402_TEST_TX: '"' }, /no transaction/],
  ])) {
    const { code, stdout, stderr } = await run(args, env);
    assert.deepEqual([code, stdout], [2, ""], `${args} ${stderr}`);
    assert.match(stderr, told);
    assert.ok(!stderr.includes(secret), stderr);
  }
  const { code, stdout } = await run(["--help"]);
  assert.equal(code, 0);
  for (const name of ["X402_TEST_KEY", "X402_TEST_TX", "X402_TEST_CHAIN", "METRICS_TOKEN", "--limit"])
    assert.ok(stdout.includes(name), name);
});

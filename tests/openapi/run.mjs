// The OpenAPI document against the running Worker, by schemathesis, every answer
// validated. argv: the python of the virtual environment.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { Response, fetch as passed } from "miniflare";
import { startMock } from "../workerd/mock-rpc.mjs";
import { ADMIN_KEY, ROOT, startWorker } from "../workerd/worker.mjs";

const python = process.argv[2];
const mock = await startMock({ chainId: 31337, token: "0x4020000000000000000000000000000000000001" });
/** Every host has a public address; nothing else leaves this machine. */
async function outbound(request) {
  const { hostname, searchParams } = new URL(request.url);
  if (hostname === "127.0.0.1") return passed(request);
  if (hostname !== "cloudflare-dns.com") return new Response("", { status: 502 });
  const answers = searchParams.get("type") === "A" ? [{ name: searchParams.get("name"), type: 1, data: "93.184.215.14" }] : [];
  return Response.json({ Status: 0, Answer: answers });
}

const worker = await startWorker({
  vars: {
    RPC_LOCAL_EVM: mock.url,
    MAIL_BACKEND: "mailbox",
    METRICS_TOKEN: "a token of the metrics of this run",
    STRIPE_SECRET_KEY: "sk_test_of_this_run",
    STRIPE_WEBHOOK_SECRET: "whsec_of_this_run",
  },
  outbound,
});
const tenant = await worker.tenant({
  recipients: { "local-evm": "0x209693Bc6afc0C5328bA36FaF03C514EF312287C" },
  limits: { per_minute: 1_000_000, per_hour: 1_000_000 },
});

const CHECKS =
  "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance";

/** How many requests were made so far. */
let requests = 0;

/**
 * Runs schemathesis over a part of the paths; `more` are checks beside those of every answer.
 * @param {string} name @param {string[]} args @param {string} [more] @param {{ phases?: string, document?: string }} [options]
 */
function run(name, args, more = ",negative_data_rejection,ignored_auth,unsupported_method", { phases, document } = {}) {
  const fixed = [
    "run",
    ...(document ? [document, "--url", worker.url] : [`${worker.url}/v1/openapi.json`]),
    "--phases",
    phases ?? "examples,coverage,fuzzing",
    "--max-examples",
    "25",
    "--generation-deterministic",
    "--request-timeout",
    "15",
    "--no-color",
    "--checks",
    `${CHECKS}${more}`,
  ];
  return new Promise((resolve) => {
    const child = spawn(python, ["-m", "schemathesis.cli", ...fixed, ...args], { cwd: ROOT, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (output += chunk));
    child.once("exit", (code) => {
      const [, generated = "0"] = output.match(/^ {2}(\d+) generated/m) ?? [];
      requests += Number(generated);
      console.log(code === 0 ? output.split("\n").slice(-12).join("\n") : output);
      console.log(`${name}: ${code === 0 ? "1 passed" : "1 failed"}`);
      resolve(code);
    });
  });
}

/** Which later requests take what an earlier one was answered: the place of it in the answer, and the parameter that gets it. */
const LINKS = [
  ["post", "/v1/admin/tenants", "#/tenant/id", "id", /^\/v1\/admin\/tenants\/\{id\}(\/[a-z-]+)?$/],
  ["post", "/v1/api-keys", "#/api_key/id", "key_id", /^\/v1\/api-keys\/\{key_id\}/],
  ["post", "/v1/webhook-endpoints", "#/webhook_endpoint/id", "id", /^\/v1\/webhook-endpoints\/\{id\}(\/[a-z-]+)?$/],
  ["get", "/v1/events", "#/data/0/id", "id", /^\/v1\/events\/\{id\}$/],
];

/** The document with links from what is made to what is asked of it, as a file: sequences of requests follow them. */
async function linkedDocument() {
  const document = await (await fetch(`${worker.url}/v1/openapi.json`)).json();
  for (const [method, path, place, parameter, pattern] of /** @type {any[]} */ (LINKS)) {
    const targets = Object.entries(document.paths).filter(([other]) => pattern.test(other));
    if (targets.length === 0) throw new Error(`nothing follows ${path}`);
    const links = targets.flatMap(([, methods]) =>
      Object.values(methods)
        .filter(({ operationId }) => operationId)
        .map(({ operationId }) => [operationId, { operationId, parameters: { [parameter]: `$response.body${place}` } }]),
    );
    const response = Object.entries(document.paths[path][method].responses).find(([status]) => status.startsWith("2"))?.[1];
    response.links = Object.fromEntries(links);
  }
  const folder = mkdtempSync(join(tmpdir(), "x402-openapi-"));
  const file = join(folder, "openapi.json");
  writeFileSync(file, JSON.stringify(document));
  return file;
}

/** The least requests of all runs together: fewer would say that a phase has not run. */
const REQUESTS_MIN = 5_000;
let failed = 0;
try {
  // A stream that is open does not end: tests/workerd/stream.test.mjs compares its answers with the document.
  failed += await run("key holders and the public", [
    "--exclude-path-regex",
    "^/v1/admin|^/facilitator/k/|^/v1/events/stream",
    "-H",
    `Authorization: Bearer ${tenant.test}`,
  ]);
  const { body: made } = await worker.call("POST", `/v1/admin/tenants/${tenant.id}/api-keys`, {
    admin: true,
    body: { name: "manages", environment: "live", scopes: ["manage"] },
  });
  failed += await run("keys that manage", [
    "--include-path-regex",
    "^/v1/(recipients|tenant|audit-log|webhook-endpoints)",
    "-H",
    `Authorization: Bearer ${made.key}`,
  ]);
  // There every answer is 200, a refusal too.
  failed += await run("keys in the path", ["--include-path-regex", "^/facilitator/k/"], "");
  // The check of all chains would leave this machine.
  failed += await run("operators", ["--include-path-regex", "^/v1/admin/tenants", "-H", `X-Admin-Key: ${ADMIN_KEY}`]);
  const document = await linkedDocument();
  const sequences = { phases: "stateful", document };
  failed += await run(
    "sequences of a manager",
    ["--include-path-regex", "^/v1/(api-keys|webhook-endpoints|events$|events/\\{)", "-H", `Authorization: Bearer ${made.key}`],
    "",
    sequences,
  );
  failed += await run(
    "sequences of an operator",
    ["--include-path-regex", "^/v1/admin/tenants", "-H", `X-Admin-Key: ${ADMIN_KEY}`],
    "",
    sequences,
  );
  rmSync(dirname(document), { recursive: true });
  console.log(`${requests} requests`);
  if (requests < REQUESTS_MIN) {
    console.log(`fewer than ${REQUESTS_MIN}\nnumber of requests: 1 failed`);
    failed++;
  }
  const panics = worker.log.lines.filter((line) => /panick|RuntimeError|unreachable/.test(line));
  if (panics.length > 0) {
    console.log(`${panics.slice(0, 5).join("\n")}\npanics: 1 failed`);
    failed++;
  }
} finally {
  await worker.stop();
  mock.stop();
  process.exit(failed ? 1 : 0);
}

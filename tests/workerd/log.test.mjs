// What the log holds of a request: one line, with its route, and nothing that names a person or a secret.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { network, signedUp } from "./browser.mjs";
import { startWorker, until } from "./worker.mjs";

let worker;
before(async () => (worker = await startWorker({ vars: { MAIL_BACKEND: "mailbox" } })));
after(() => worker.stop());

/** A text as a key, a token or an address could stand in its place. */
const MARKER = "x402_live_NeverInTheLog";

/** What a line of a request may say. */
const MEMBERS = [
  ...["message", "request_id", "trace_id", "method", "endpoint", "status", "ms", "tenant", "chain", "outcome", "code"],
  ...["auth_ms", "chain_ms", "ledger_ms", "settler_ms", "providers"],
];

/** Bodies that hold the text where a client may have put it: whole, in a list, as a member's name or value. */
const bodies = (members) => [
  JSON.stringify(MARKER),
  JSON.stringify([MARKER]),
  JSON.stringify({ [MARKER]: 1 }),
  JSON.stringify({ [MARKER]: MARKER, a: [MARKER] }),
  MARKER,
  `{"a":"${MARKER}`,
  `{"a":"${MARKER}"}}`,
  ...members.flatMap((name) => [MARKER, [MARKER], { [MARKER]: MARKER }].map((value) => JSON.stringify({ [name]: value }))),
];

test("no route logs what a body, a query or a header holds", async () => {
  const ann = await signedUp(worker);
  const { body: made } = await ann.browser.call("POST", "/v1/api-keys", {
    name: "all",
    environment: "live",
    scopes: ["verify", "settle", "analytics", "manage"],
  });
  const { body } = await worker.call("GET", "/v1/openapi.json");
  const schemaOf = (schema = {}) => (schema.$ref ? body.components.schemas[schema.$ref.split("/").at(-1)] : schema);
  const answers = [];
  const clients = [];
  for (const [path, methods] of Object.entries(body.paths))
    for (const [method, operation] of Object.entries(methods)) {
      if (!["get", "post", "patch", "delete"].includes(method)) continue;
      const schema = schemaOf(operation.requestBody?.content?.["application/json"]?.schema);
      const ways = (operation.security ?? [{}]).map((way) => Object.keys(way)[0]);
      // What the caller may do is no matter here: the session would end.
      if (path.startsWith("/v1/session") && method === "delete") continue;
      const query = path.startsWith("/facilitator/k/") ? "" : `?cursor=${MARKER}&limit=${MARKER}&x=${MARKER}`;
      const address = path.replaceAll(/\{[a-z_]+\}/g, MARKER) + query;
      const client = network();
      clients.push(client["cf-connecting-ip"]);
      const traced = { traceparent: `00-${MARKER}`, tracestate: `a=${MARKER}` };
      const own = { "idempotency-key": MARKER, "user-agent": MARKER, referer: MARKER, ...traced, ...client };
      const credentials = ways.includes("session")
        ? { ...own, "sec-fetch-site": "same-origin", cookie: [...ann.browser.cookies].map((pair) => pair.join("=")).join("; ") }
        : own;
      const all = operation.requestBody ? bodies(Object.keys(schema.properties ?? {})) : [undefined];
      const admin = ways.includes("adminKey");
      const key = ways.includes("apiKey") && !ways.includes("session") ? made.key : undefined;
      const send = (raw) => {
        const headers = raw === undefined ? credentials : { ...credentials, "content-type": "application/json" };
        return worker.call(method.toUpperCase(), address, { raw, headers, admin, key });
      };
      const endpoint = path.replace("/k/{key}/", "/");
      for (const { status, headers } of await Promise.all(all.map(send)))
        answers.push({ id: headers.get("x-request-id"), method: method.toUpperCase(), endpoint, status, path });
    }
  assert.ok(answers.length > 200, `${answers.length} requests`);
  await until(() => worker.log.lines.some((line) => line.includes("JSON of another form: line 1, column")), "the log of a refused body");
  await worker.call("GET", "/v1/nowhere");
  await until(() => worker.log.lines.at(-1)?.includes(`"endpoint":"none"`), "the last line");
  assert.deepEqual(
    worker.log.lines.filter((line) => line.includes("NeverInTheLog")),
    [],
  );
  const secrets = [made.key, ann.email, ...ann.browser.cookies.values(), ...clients];
  assert.deepEqual(
    worker.log.lines.filter((line) => secrets.some((secret) => line.includes(secret))),
    [],
  );
  // Each request has one line, of its own route.
  const lines = new Map();
  for (const line of worker.log.lines.map((text) => JSON.parse(text)).filter(({ message }) => message === "request")) {
    assert.ok(
      Object.keys(line).every((name) => MEMBERS.includes(name)),
      JSON.stringify(line),
    );
    lines.set(line.request_id, [...(lines.get(line.request_id) ?? []), line]);
  }
  for (const { id, method, endpoint, status, path } of answers) {
    const [line, ...more] = lines.get(id) ?? [];
    assert.deepEqual(more, []);
    const found = { id: line?.request_id, method: line?.method, endpoint: line?.endpoint };
    assert.deepEqual(found, { id, method, endpoint });
    // A client whose URL holds a key is answered 200.
    if (!path.startsWith("/facilitator/k/")) assert.equal(line.status, status);
    assert.match(line.trace_id, /^[0-9a-f]{32}$/);
  }
});

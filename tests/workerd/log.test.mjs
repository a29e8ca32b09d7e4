// What the log does not hold: nothing of a request but its method and its route.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { network, signedUp } from "./browser.mjs";
import { startWorker, until } from "./worker.mjs";

let worker;
before(async () => (worker = await startWorker({ vars: { MAIL_BACKEND: "mailbox" } })));
after(() => worker.stop());

/** A text as a key, a token or an address could stand in its place. */
const MARKER = "x402_live_NeverInTheLog";

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
  let sent = 0;
  for (const [path, methods] of Object.entries(body.paths))
    for (const [method, operation] of Object.entries(methods)) {
      if (!["get", "post", "patch", "delete"].includes(method)) continue;
      const schema = schemaOf(operation.requestBody?.content?.["application/json"]?.schema);
      const ways = (operation.security ?? [{}]).map((way) => Object.keys(way)[0]);
      // What the caller may do is no matter here: the session would end.
      if (path.startsWith("/v1/session") && method === "delete") continue;
      const query = path.startsWith("/facilitator/k/") ? "" : `?cursor=${MARKER}&limit=${MARKER}&x=${MARKER}`;
      const address = path.replaceAll(/\{[a-z_]+\}/g, MARKER) + query;
      const own = { "idempotency-key": MARKER, "user-agent": MARKER, referer: MARKER, ...network() };
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
      await Promise.all(all.map(send));
      sent += all.length;
    }
  assert.ok(sent > 200, `${sent} requests`);
  await until(() => worker.log.lines.some((line) => line.includes("JSON of another form: line 1, column")), "the log of a refused body");
  await worker.call("GET", "/v1/nowhere");
  await until(() => worker.log.lines.at(-1)?.includes(`"endpoint":"none"`), "the last line");
  assert.deepEqual(
    worker.log.lines.filter((line) => line.includes("NeverInTheLog")),
    [],
  );
});

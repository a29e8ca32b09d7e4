// What src/platform works around: the platform's own way, and what the Worker does instead.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { Miniflare, convertV4MiniflareOptions } from "miniflare";
import { ADMIN_KEY, DATE, FLAGS, NOWHERE, PEPPERS, ROOT, Worker, until } from "./worker.mjs";

/** The Worker; a write of an object's state that is to fail; and what an object's storage holds. */
const PROBE = `
import Inner, * as all from "./index.js";
let isBroken = false;
export const { Settler } = all;
export class TenantLedger extends all.TenantLedger {
  constructor(state, env) {
    super(state, env);
    this.probed = state.storage.sql;
    const statements = Object.getPrototypeOf(this.probed);
    if (statements.platformExec) return;
    statements.platformExec = statements.exec;
    statements.exec = function (text, ...bind) {
      if (isBroken && text.startsWith("INSERT") && bind[0] === "admission") throw new Error("a statement that fails");
      return this.platformExec(text, ...bind);
    };
  }
  fetch(request) {
    if (!request.url.endsWith("/__state")) return super.fetch(request);
    return Response.json(this.probed.exec("SELECT name FROM state").toArray().map(({ name }) => name));
  }
}
export default {
  fetch(request, env, context) {
    const { pathname, search } = new URL(request.url);
    if (pathname === "/__microtasks") return Response.json(globalThis.queueMicrotask.name);
    if (pathname === "/__break") return Response.json((isBroken = search === "?yes"));
    if (pathname === "/__state") return env.LEDGERS.getByName(search.slice(1)).fetch("https://ledger/__state");
    return new Inner(context, env).fetch(request);
  },
};
`;

const folder = join(ROOT, "build");
const read = (name) => readFileSync(join(folder, name));
/** @type {any} Miniflare 4's own type wants one form of `modules` by literal. */
const options = {
  modules: [
    { type: "ESModule", path: join(folder, "probe.js"), contents: PROBE },
    { type: "ESModule", path: join(folder, "index.js"), contents: read("index.js").toString() },
    { type: "CompiledWasm", path: join(folder, "index_bg.wasm"), contents: read("index_bg.wasm") },
  ],
  modulesRoot: folder,
  compatibilityDate: DATE,
  compatibilityFlags: FLAGS,
  host: "127.0.0.1",
  port: 0,
  d1Databases: { DB: "x402-edge" },
  durableObjects: {
    LEDGERS: { className: "TenantLedger", useSQLite: true },
    SETTLERS: { className: "Settler", useSQLite: true },
  },
  bindings: { ADMIN_KEY, KEY_PEPPERS: PEPPERS, ...NOWHERE },
};
const mf = new Miniflare(convertV4MiniflareOptions(options));
const worker = new Worker(mf, (await mf.ready).origin, "", { lines: [] }, false);
await worker.migrate();
after(() => worker.stop());

test("futures are polled from V8's own microtasks", async () => {
  assert.equal((await worker.call("GET", "/__microtasks")).body, "bound then");
});

/** Two requests: one waits, the other lets it go on, and the first then reads its own body, which is I/O. */
const WAITING = `
let wake, isOver = false;
export default {
  async fetch(request) {
    const { pathname } = new URL(request.url);
    if (pathname === "/wake") {
      isOver = wake !== undefined;
      wake?.();
      return Response.json(isOver);
    }
    const read = () => request.text().catch(({ message }) => message);
    isOver = false;
    const found = new Promise((resolve) => {
      wake = pathname === "/called" ? () => resolve(read()) : () => {};
    });
    while (!isOver) await scheduler.wait(5);
    wake = undefined;
    return Response.json(pathname === "/called" ? await found : await read());
  },
};
`;

test("a request that looks by its own timer goes on in its own context, and one that another calls does not", async () => {
  const { modules: _, modulesRoot: __, durableObjects: ___, ...rest } = options;
  const script = [{ type: "ESModule", path: join(folder, "waiting.js"), contents: WAITING }];
  const own = new Miniflare(convertV4MiniflareOptions({ ...rest, modules: script, modulesRoot: folder }));
  try {
    const { origin } = await own.ready;
    const read = async (path) => (await fetch(`${origin}${path}`, { method: "POST", body: "its own" })).json();
    const woken = async (path) => {
      const found = read(path);
      await until(() => read("/wake"), "the first request to wait");
      return found;
    };
    assert.equal(await woken("/looks"), "its own");
    assert.match(await woken("/called"), /^Cannot perform I\/O on behalf of a different request/);
  } finally {
    await own.dispose();
  }
});

test("a step whose last statement fails leaves nothing of the others", async () => {
  await worker.call("GET", "/__break?yes");
  const body = { email: "step@example.test", tier: "enterprise" };
  const made = await worker.call("POST", "/v1/admin/tenants", { admin: true, body });
  // The keys are shown only here: that no ledger has loaded them is no error of the request.
  assert.equal(made.status, 201, made.text);
  const [{ id }] = await worker.sql("SELECT id FROM tenants");
  const names = async () => (await worker.call("GET", `/__state?${id}:live`)).body;
  assert.deepEqual(await names(), ["schema"]);
  await worker.call("GET", "/__break?no");
  const read = await worker.call("PATCH", `/v1/admin/tenants/${id}`, { admin: true, body: { company_name: "Ann" } });
  assert.equal(read.status, 200, read.text);
  assert.deepEqual((await names()).sort(), ["admission", "schema", "tenant"]);
});

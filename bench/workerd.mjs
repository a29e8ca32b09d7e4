// The memory of the workerd that this process has started, and what its objects have stored.
import { readFileSync, readdirSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";

/** A workerd's memory in MiB: now, and its peak since the last reset. */
export function memory(pid) {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const of = (name) => Number(status.match(new RegExp(`^${name}:\\s+(\\d+) kB`, "m"))?.[1] ?? 0) / 1024;
  return { now: of("VmRSS"), peak: of("VmHWM") };
}

/** The process that serves the Worker: the child of this one with the most memory. */
export function workerdPid() {
  const children = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
        return stat.includes("(workerd") && stat.split(") ")[1].split(" ")[1] === String(process.pid);
      } catch {
        return false;
      }
    });
  return children.sort((one, other) => memory(other).now - memory(one).now)[0];
}

/** The databases below a state folder: their paths, and the class of their objects, or `D1`. */
function databases(state) {
  const files = readdirSync(state, { recursive: true, encoding: "utf8" });
  return files
    .filter((name) => /^(do|d1)\//.test(name) && name.endsWith(".sqlite") && basename(name) !== "metadata.sqlite")
    .map((name) => ({ path: join(state, name), owner: name.startsWith("d1/") ? "D1" : basename(dirname(name)).replace(/^-/, "") }));
}

/**
 * The bytes of the files of each class of objects, with what is not yet in the database itself.
 * @returns {Record<string, number>}
 */
export function storedBytes(state) {
  /** @type {Record<string, number>} */
  const bytes = {};
  for (const { path, owner } of databases(state)) {
    for (const file of [path, `${path}-wal`]) bytes[owner] = (bytes[owner] ?? 0) + (statSync(file, { throwIfNoEntry: false })?.size ?? 0);
  }
  return bytes;
}

/**
 * The rows of each table of each class of objects, and the bytes of its pages with those of its indexes: `class.table`. Reads every
 * page, while the Worker runs.
 * @returns {Promise<Record<string, { rows: number, bytes: number }>>}
 */
export async function storedTables(state) {
  const { DatabaseSync } = await import("node:sqlite");
  /** @type {Record<string, { rows: number, bytes: number }>} */
  const tables = {};
  for (const { path, owner } of databases(state)) {
    const db = new DatabaseSync(path, { readOnly: true });
    try {
      const sizes = db.prepare(
        `SELECT tbl_name AS name, sum(pgsize) AS bytes FROM dbstat JOIN sqlite_master USING (name)
         WHERE tbl_name NOT LIKE '\\_cf\\_%' ESCAPE '\\' GROUP BY tbl_name`,
      );
      for (const { name, bytes } of sizes.all()) {
        const { rows } = /** @type {any} */ (db.prepare(`SELECT count(*) AS rows FROM "${name}"`).get());
        const known = tables[`${owner}.${name}`] ?? { rows: 0, bytes: 0 };
        tables[`${owner}.${name}`] = { rows: known.rows + Number(rows), bytes: known.bytes + Number(bytes) };
      }
    } finally {
      db.close();
    }
  }
  return tables;
}

/**
 * What the isolate of the Worker and its objects holds, in bytes: V8 after a collection of garbage, and the WebAssembly memory, which
 * never shrinks. Wants `inspect`; it is for a Worker without the tests' wrapper, which answers the latter itself.
 * @param {import("../tests/workerd/worker.mjs").Worker} worker
 */
export async function heldBytes(worker) {
  const v8 = await worker.heap();
  const inspector = /** @type {NonNullable<typeof worker.inspector>} */ (worker.inspector);
  /** @type {Promise<number>} */
  const context = new Promise((resolve) => {
    inspector.socket.addEventListener("message", function listen({ data }) {
      const { method, params } = JSON.parse(data);
      if (method !== "Runtime.executionContextCreated") return;
      inspector.socket.removeEventListener("message", listen);
      resolve(params.context.id);
    });
  });
  await inspector.send("Runtime.enable");
  const expression = "WebAssembly.Memory.prototype";
  const { result } = await inspector.send("Runtime.evaluate", { expression, contextId: await context });
  const { objects } = await inspector.send("Runtime.queryObjects", { prototypeObjectId: result.objectId });
  const functionDeclaration = "function () { return this.reduce((sum, { buffer }) => sum + buffer.byteLength, 0); }";
  const sum = await inspector.send("Runtime.callFunctionOn", { objectId: objects.objectId, functionDeclaration, returnByValue: true });
  // It would keep what the Worker logs.
  await inspector.send("Runtime.disable");
  return { v8, wasm: Number(sum.result.value) };
}

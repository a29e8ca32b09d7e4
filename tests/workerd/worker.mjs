// The built Worker on real workerd (Miniflare), with real D1 and Durable Objects.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Miniflare, convertV4MiniflareOptions } from "miniflare";
import { checkDocumented } from "./documented.mjs";

export const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
export const ADMIN_KEY = "an-operators-key-for-tests-of-40-letters";
export const PEPPERS = "01".repeat(32);

/** No test leaves this machine: every chain's provider is a port that nobody listens on, unless a test names one. */
export const NOWHERE = Object.fromEntries(
  JSON.parse(readFileSync(join(ROOT, "crates", "chain", "data", "chains.json"), "utf8")).chains.map(({ key }) => [
    `RPC_${key.toUpperCase().replaceAll("-", "_")}`,
    "http://127.0.0.1:1",
  ]),
);

/** What wrangler.toml says of the runtime. */
const WRANGLER = readFileSync(join(ROOT, "wrangler.toml"), "utf8");
export const FLAGS = JSON.parse(WRANGLER.match(/^compatibility_flags = (\[.*\])/m)?.[1] ?? "[]");
export const DATE = WRANGLER.match(/^compatibility_date = "(.*)"/m)?.[1];

/** Runs before the Worker's own module, and keeps the memories of its WebAssembly. */
const PROBE = `
export const memories = [];
const Platform = WebAssembly.Instance;
WebAssembly.Instance = class extends Platform {
  constructor(...given) {
    super(...given);
    if (this.exports.memory) memories.push(this.exports.memory);
  }
};
`;

/** Counts what the Worker asks of the platform (the ledger's own calls are not its), and
 * lets a test put the clock forward: alarms are set in the Worker's time and ring in the platform's. */
const WRAPPER = `
import { memories } from "./probe.js";
import Inner, * as all from "./index.js";
const Platform = Date;
const real = () => Platform.now();
let ahead = begun.ahead;
globalThis.Date = class extends Platform {
  constructor(...given) {
    if (given.length) super(...given);
    else super(real() + ahead);
  }
  static now() {
    return real() + ahead;
  }
};
// What objects have written since this was last read: rows of their own storage, also by table; of what they handed to D1 the largest
// value and batch in bytes, and the most statements; the largest batch in bytes that a month was sent; and how often an
// alarm was put off that was due and had not run.
const written = { rows: 0, value: 0, batch: 0, statements: 0, taken: 0, putOff: 0, tables: {} };
const alarms = new WeakMap();
const sizes = new WeakMap();
// What is to go wrong with the storage of objects: a statement whose text holds \`names\`, or \`setAlarm\`, fails, or, \`lost\`, is
// not carried out. And what their databases count as: so many bytes at the next reading, and from then on by what they have grown.
let storageFault = null;
let counted = null;
function isFaulted(text) {
  if (!storageFault || !text.includes(storageFault.names)) return false;
  if (!storageFault.lost) throw new Error("a storage fault of a test");
  return true;
}
function measure(state, env) {
  const sql = Object.getPrototypeOf(state.storage.sql);
  if (sql.platformExec || !env.DB) return;
  sql.platformExec = sql.exec;
  const size = Object.getOwnPropertyDescriptor(sql, "databaseSize");
  Object.defineProperty(sql, "databaseSize", {
    ...size,
    get() {
      const own = size.get.call(this);
      if (!counted) return own;
      counted.first ??= own;
      return counted.bytes + own - counted.first;
    },
  });
  sql.exec = function (...given) {
    isFaulted(given[0]);
    const cursor = this.platformExec(...given);
    const rows = cursor.rowsWritten;
    written.rows += rows;
    const [, table] = rows ? (/(?:INTO|UPDATE|FROM) (\\w+)/.exec(given[0]) ?? []) : [];
    if (table) written.tables[table] = (written.tables[table] ?? 0) + rows;
    return cursor;
  };
  const [database, statement] = [env.DB, env.DB.prepare("SELECT 1")].map((object) => Object.getPrototypeOf(object));
  const { bind } = statement;
  statement.bind = function (...values) {
    const texts = values.filter((value) => typeof value === "string").map((text) => new TextEncoder().encode(text).length);
    const bound = bind.apply(this, values);
    sizes.set(bound, texts.reduce((sum, bytes) => sum + bytes, 0));
    written.value = Math.max(written.value, ...texts);
    return bound;
  };
  const { batch } = database;
  database.batch = function (statements) {
    const bytes = statements.reduce((sum, one) => sum + (sizes.get(one) ?? 0), 0);
    written.batch = Math.max(written.batch, bytes);
    written.statements = Math.max(written.statements, statements.length);
    return batch.call(this, statements);
  };
}
// A test stops an object at one of its operations on D1 or R2, or at deleteAll, before or after it is done: the object then
// waits, until the test kills workerd. The class and the operation
// name it; some may go on before it.
const halt = { what: null, skip: 0, isDone: false, isReached: false };
// The operations of objects so far.
const steps = [];
async function step(what, act) {
  steps.push(what);
  const isHere = halt.what === what && halt.skip-- === 0;
  const stop = async () => {
    halt.isReached = true;
    for (;;) await scheduler.wait(20);
  };
  if (isHere && !halt.isDone) await stop();
  const result = await act();
  if (isHere) await stop();
  return result;
}
const owners = new WeakMap();
function halting(Class, name) {
  const stepped = (target, methods) =>
    new Proxy(target, {
      get(object, property) {
        const value = object[property];
        if (typeof value !== "function" || property === "constructor") return value;
        if (!methods.includes(property)) return value.bind(object);
        return (...args) => step(name + " " + property, () => value.apply(object, args));
      },
    });
  return class extends Class {
    constructor(state, env) {
      const own = { ...env };
      if (env.DB) own.DB = stepped(env.DB, ["batch"]);
      if (env.COURIERS) own.COURIERS = faulty(env.COURIERS, state);
      if (env.ARCHIVE) own.ARCHIVE = stepped(env.ARCHIVE, ["put", "get", "list"]);
      super(state, own);
      owners.set(state.storage, name);
      const { constructor: { prototype } } = state.storage;
      if (prototype.platformDeleteAll) return;
      prototype.platformDeleteAll = prototype.deleteAll;
      prototype.deleteAll = function () {
        return step(owners.get(this) + " deleteAll", () => this.platformDeleteAll());
      };
    }
  };
}
function clocked(Class) {
  return class extends Class {
    constructor(state, env) {
      super(state, env);
      measure(state, env);
      patchDb(env);
      this.own = { storage: state.storage, known: ahead };
      const { constructor: { prototype } } = state.storage;
      if (prototype.platformAlarm) return;
      prototype.platformAlarm = prototype.setAlarm;
      prototype.setAlarm = async function (at, ...more) {
        if (isFaulted("setAlarm")) return;
        if (alarms.get(this) <= Date.now() && Number(at) > alarms.get(this)) written.putOff++;
        alarms.set(this, Number(at));
        return this.platformAlarm(Math.max(Number(at) - ahead, real()), ...more);
      };
    }
    async fetch(request) {
      const body = request.headers.get("content-length");
      if (request.url.startsWith("https://records/")) written.taken = Math.max(written.taken, Number(body));
      const { storage, known } = this.own;
      if (known !== ahead) {
        this.own.known = ahead;
        const at = await storage.getAlarm();
        if (at !== null) await storage.platformAlarm(Math.max(at - (ahead - known), real()));
      }
      return super.fetch(request);
    }
    alarm(...given) {
      alarms.delete(this.own.storage);
      return super.alarm(...given);
    }
  };
}
export const Settler = clocked(all.Settler);
export const TenantLedger = halting(clocked(all.TenantLedger), "TenantLedger");
export const Records = halting(clocked(all.Records), "Records");
export const Courier = halting(clocked(all.Courier), "Courier");
export const Meter = clocked(all.Meter);
const counts = { ledger: 0, directory: 0 };
function watched(target, methods, name) {
  return new Proxy(target, {
    get(object, property) {
      const value = object[property];
      if (typeof value !== "function" || property === "constructor") return value;
      return (...args) => {
        if (methods.includes(property)) counts[name]++;
        return value.apply(object, args);
      };
    },
  });
}
// What is to go wrong with the next call to an object whose body names it, or with all of them: the call is made at
// once, slowly or not at all, and its answer is held until the test lets it go, or never comes.
let fault = begun.fault;
let held = null;
// How many calls to ledgers have been answered, by what was asked.
const asks = {};
function noteAsk(body) {
  try {
    const { ask } = JSON.parse(body);
    const kind = typeof ask === "string" ? ask : Object.keys(ask)[0];
    asks[kind] = (asks[kind] ?? 0) + 1;
  } catch {
    // A call that is no envelope.
  }
}
function faulty(namespace, context) {
  return new Proxy(namespace, {
    get(object, property) {
      const value = object[property];
      if (typeof value !== "function" || property === "constructor") return value;
      return (...args) => (property === "getByName" ? faultyStub(value.apply(object, args), context) : value.apply(object, args));
    },
  });
}
function faultyStub(stub, context) {
  return new Proxy(stub, {
    get(object, property) {
      const value = object[property];
      if (typeof value !== "function" || property === "constructor") return value;
      if (property !== "fetch") return value.bind(object);
      const call = async (what, init) => {
        const body = init?.body ?? (typeof what === "string" ? "" : await what.clone().text());
        const own = fault && String(body).includes(fault.names) ? fault : null;
        if (own && !own.stays) fault = null;
        if (own?.slow) await scheduler.wait(own.slow);
        if (own?.unsent) throw new Error("an object that is not reached");
        if (own?.refused) return Response.json({ error_code: "LEDGER_UNAVAILABLE" }, { status: 503, headers: { "retry-after": "1" } });
        const answer = await object.fetch(what, init);
        noteAsk(body);
        if (own?.held) {
          held = own;
          while (held === own) await scheduler.wait(20);
        }
        if (own?.lost) throw new Error("an answer that is lost");
        return answer;
      };
      // A call that is under way arrives, whoever has given it up.
      return (what, init) => {
        const called = call(what, init);
        context.waitUntil(called.catch(() => {}));
        return called;
      };
    },
  });
}
// What is to go wrong with statements and batches of the Worker's own D1 whose text holds \`names\`: before they run, or \`after\`
// it, an error or a wait of \`slow\` ms, or, \`held\`, until the faults are set anew; once, or each time with \`stays\`; the
// first \`skip\` of them run as they are.
let dbFaults = begun.dbFaults;
let dbHeld = null;
const sqlOf = new WeakMap();
let isPatched = false;
async function actOnDb(texts, after) {
  const all = texts.join(" ;; ");
  const own = dbFaults.find((one) => Boolean(one.after) === after && all.includes(one.names));
  if (!own) return;
  if (own.skip > 0) {
    own.skip--;
    return;
  }
  if (!own.stays) dbFaults = dbFaults.filter((one) => one !== own);
  if (own.held) {
    dbHeld = own;
    while (dbHeld === own) await scheduler.wait(10);
    return;
  }
  if (!own.slow) throw new Error("D1_ERROR: a fault of a test");
  await scheduler.wait(own.slow);
}
function patchDb(env) {
  if (isPatched || !env.DB) return;
  isPatched = true;
  const database = Object.getPrototypeOf(env.DB);
  const statement = Object.getPrototypeOf(env.DB.prepare("SELECT 1"));
  const { prepare, batch } = database;
  const { bind, all } = statement;
  database.prepare = function (text) {
    const made = prepare.call(this, text);
    sqlOf.set(made, text);
    return made;
  };
  statement.bind = function (...values) {
    const bound = bind.apply(this, values);
    sqlOf.set(bound, sqlOf.get(this) ?? "");
    return bound;
  };
  const faulted = async (texts, act) => {
    await actOnDb(texts, false);
    const result = await act();
    await actOnDb(texts, true);
    return result;
  };
  statement.all = function (...given) {
    return faulted([sqlOf.get(this) ?? ""], () => all.apply(this, given));
  };
  database.batch = function (statements) {
    return faulted(
      statements.map((one) => sqlOf.get(one) ?? ""),
      () => batch.call(this, statements),
    );
  };
}
// Messages that begin so the queue of mails does not take from a timed job.
let unqueued = null;
function unqueueing(queue) {
  return new Proxy(queue, {
    get(object, property) {
      const value = object[property];
      if (typeof value !== "function" || property === "constructor") return value;
      return async (message, ...more) => {
        if (unqueued && String(message).startsWith(unqueued)) throw new Error("a queue that takes nothing");
        return value.call(object, message, ...more);
      };
    },
  });
}
// The code of the error with which the binding that sends mails refuses, as Cloudflare does; its message names the address.
let refusal = null;
function refusing(binding) {
  return {
    async send(mail) {
      if (refusal) throw Object.assign(new Error("no mail to " + mail.to), { code: refusal });
      return binding.send(mail);
    },
  };
}
// Whether messages to Stripe's queue are refused.
let isQueueDown = false;
function sending(queue) {
  return new Proxy(queue, {
    get(object, property) {
      const value = object[property];
      if (typeof value !== "function" || property === "constructor") return value;
      return (...args) => {
        if (isQueueDown) return Promise.reject(new Error("a queue that is not reached"));
        return value.apply(object, args);
      };
    },
  });
}
// Whether the platform refuses the next request's work after its answer: the crate worker then panics.
let isPanicking = false;
const refusingWork = (context) =>
  new Proxy(context, {
    get(object, property) {
      if (property === "waitUntil")
        return () => {
          throw new Error("no work after an answer to ann@pay.example");
        };
      const value = object[property];
      return typeof value === "function" ? value.bind(object) : value;
    },
  });
export default {
  async fetch(request, env, context) {
    const { pathname, search } = new URL(request.url);
    if (pathname === "/__panic") {
      isPanicking = true;
      return new Response();
    }
    if (pathname === "/__advance") {
      ahead += Number(search.slice(1));
      return Response.json({ ahead });
    }
    if (pathname === "/__storage") {
      [storageFault, counted] = await request.json();
      return new Response();
    }
    if (pathname === "/__fault") {
      fault = await request.json();
      return Response.json(fault);
    }
    patchDb(env);
    if (pathname === "/__dbfault") {
      if (request.method === "GET") return Response.json(dbHeld !== null);
      dbFaults = await request.json();
      dbHeld = null;
      return new Response();
    }
    if (pathname === "/__release") {
      held = null;
      return new Response();
    }
    if (pathname === "/__asks") return Response.json(asks);
    if (pathname === "/__refuse") {
      refusal = search.slice(1) || null;
      return new Response();
    }
    if (pathname === "/__unqueue") {
      unqueued = search.slice(1) || null;
      return new Response();
    }
    if (pathname === "/__queue") {
      isQueueDown = search === "?down";
      return new Response();
    }
    if (pathname === "/__counts") {
      const answer = Response.json(counts);
      counts.ledger = counts.directory = 0;
      return answer;
    }
    if (pathname === "/__memory") return Response.json(memories.reduce((sum, { buffer }) => sum + buffer.byteLength, 0));
    if (pathname === "/__halt") {
      Object.assign(halt, { skip: 0, isDone: false, isReached: false }, await request.json());
      return Response.json(halt);
    }
    if (pathname === "/__halted") return Response.json({ isReached: halt.isReached, steps });
    if (pathname === "/__written") {
      const sent = Response.json(written);
      for (const name of Object.keys(written)) written[name] = name === "tables" ? {} : 0;
      return sent;
    }
    const own = { ...env };
    if (env.LEDGERS) own.LEDGERS = faulty(watched(env.LEDGERS, ["get", "getByName"], "ledger"), context);
    if (env.SETTLERS) own.SETTLERS = faulty(env.SETTLERS, context);
    for (const name of ["RECORDS", "COURIERS", "METERS"]) if (env[name]) own[name] = faulty(env[name], context);
    if (env.DB) own.DB = watched(env.DB, ["prepare", "batch", "exec"], "directory");
    if (env.STRIPE_EVENTS) own.STRIPE_EVENTS = sending(env.STRIPE_EVENTS);
    const given = isPanicking ? refusingWork(context) : context;
    isPanicking = false;
    return new Inner(given, own).fetch(request);
  },
  scheduled(event, env, context) {
    const own = { ...env };
    for (const name of ["LEDGERS", "RECORDS", "COURIERS", "METERS"]) if (env[name]) own[name] = faulty(env[name], context);
    if (env.MAILS) own.MAILS = unqueueing(env.MAILS);
    return new Inner(context, own).scheduled(event);
  },
  queue: (batch, env, context) => new Inner(context, { ...env, EMAIL: env.EMAIL && refusing(env.EMAIL) }).queue(batch),
};
`;

/**
 * Starts the Worker. `vars` are further settings; `bindings: false` leaves D1 and
 * ledgers out; `state` is a folder that outlives it; `direct` opens workerd's own socket beside Miniflare's; `inspect` its
 * inspector, which `heap` needs; `outbound` answers the Worker's requests to the outside; `email` narrows the binding that
 * sends mails; `ratelimits` are limits that the platform counts, which are absent otherwise; `begun` is how far the clock is
 * ahead, and what goes wrong from the first moment on.
 * @param {{
 *   vars?: Record<string, string | undefined>, bindings?: boolean, state?: string, build?: string, direct?: boolean,
 *   inspect?: boolean, outbound?: (request: import("miniflare").Request) => Promise<import("miniflare").Response>,
 *   email?: { allowed_sender_addresses?: string[] }, ratelimits?: Record<string, { namespace_id: string, simple: { limit: number, period: 10 | 60 } }>,
 *   begun?: { ahead?: number, fault?: any, dbFaults?: any[] },
 * }} [wanted]
 */
export async function startWorker(wanted = {}) {
  const {
    vars = {},
    bindings = true,
    state,
    build = "build",
    direct = false,
    inspect = false,
    outbound,
    email = {},
    ratelimits,
    begun = {},
  } = wanted;
  const folder = join(ROOT, build);
  const from = { ahead: 0, fault: null, dbFaults: [], ...begun };
  const own = state ?? mkdtempSync(join(tmpdir(), "x402-edge-"));
  const modules = [
    ...(direct
      ? []
      : [
          { type: "ESModule", path: join(folder, "wrapper.js"), contents: `const begun = ${JSON.stringify(from)};\n${WRAPPER}` },
          { type: "ESModule", path: join(folder, "probe.js"), contents: PROBE },
        ]),
    { type: "ESModule", path: join(folder, "index.js"), contents: readFileSync(join(folder, "index.js"), "utf8") },
    { type: "CompiledWasm", path: join(folder, "index_bg.wasm"), contents: readFileSync(join(folder, "index_bg.wasm")) },
  ];
  /** @type {{ lines: string[] }} */
  const log = { lines: [] };
  /** @type {any} Miniflare 4's own type wants one form of `modules` by literal. */
  const options = {
    modules,
    modulesRoot: folder,
    compatibilityDate: DATE,
    compatibilityFlags: FLAGS,
    host: "127.0.0.1",
    port: 0,
    ...(bindings
      ? {
          d1Databases: { DB: "x402-edge" },
          durableObjects: {
            LEDGERS: { className: "TenantLedger", useSQLite: true },
            SETTLERS: { className: "Settler", useSQLite: true },
            RECORDS: { className: "Records", useSQLite: true },
            COURIERS: { className: "Courier", useSQLite: true },
            METERS: { className: "Meter", useSQLite: true },
          },
          r2Buckets: { ARCHIVE: "x402-edge-archive" },
          email: { send_email: [{ name: "EMAIL", ...email }] },
          queueProducers: { MAILS: { queueName: "x402-edge-mails" }, STRIPE_EVENTS: { queueName: "x402-edge-stripe" } },
          queueConsumers: {
            "x402-edge-mails": { maxBatchSize: 10, maxBatchTimeout: 0, maxRetries: 20 },
            "x402-edge-stripe": { maxBatchSize: 10, maxBatchTimeout: 0, maxRetries: 100 },
          },
        }
      : {}),
    bindings: { ADMIN_KEY, KEY_PEPPERS: PEPPERS, ...NOWHERE, ...vars },
    resourcePersistencePath: own,
    // Mails that the binding sends become files below it.
    resourceTmpPath: join(own, "tmp"),
    ...(outbound ? { outboundService: outbound } : {}),
    ...(ratelimits ? { ratelimits } : {}),
    ...(inspect ? { inspectorPort: 0 } : {}),
    ...(direct ? { unsafeDirectSockets: [{ host: "127.0.0.1", port: 0 }] } : {}),
    // A benchmark keeps no log.
    ...(direct ? {} : { handleStructuredLogs: ({ message }) => log.lines.push(String(message)) && console.log(message) }),
  };
  const mf = new Miniflare(convertV4MiniflareOptions(options));
  const url = (await mf.ready).origin;
  const worker = new Worker(mf, url, own, log, state === undefined);
  if (direct) worker.direct = (await mf.unsafeGetDirectURL()).href;
  if (bindings) await worker.migrate();
  return worker;
}

/** A connection to the inspector of the Worker's isolate. */
class Inspector {
  /** @type {Map<number, { resolve: (result: any) => void, reject: (error: Error) => void }>} */
  waiting = new Map();
  sent = 0;

  /** @param {WebSocket} socket */
  constructor(socket) {
    this.socket = socket;
    socket.onmessage = ({ data }) => {
      const { id, result, error } = JSON.parse(data);
      const one = this.waiting.get(id);
      this.waiting.delete(id);
      if (error) one?.reject(new Error(error.message));
      else one?.resolve(result);
    };
    socket.onclose = () => {
      for (const one of this.waiting.values()) one.reject(new Error("the inspector has closed"));
      this.waiting.clear();
    };
  }

  /** @param {URL} url */
  static async open(url) {
    const socket = new WebSocket(new URL("/core:user:", url));
    await new Promise((resolve, reject) => {
      socket.onopen = resolve;
      socket.onerror = () => reject(new Error("the inspector does not answer"));
    });
    return new Inspector(socket);
  }

  /** @returns {Promise<any>} */
  send(method) {
    const id = ++this.sent;
    this.socket.send(JSON.stringify({ id, method, params: {} }));
    return new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject }));
  }
}

export class Worker {
  /** @type {Inspector | undefined} */
  inspector;

  /**
   * workerd's own socket, where one was opened.
   * @type {string | undefined}
   */
  direct;

  /**
   * @param {Miniflare} mf
   * @param {string} url
   * @param {string} state the folder of its stored state
   * @param {{ lines: string[] }} log
   * @param {boolean} ownsState whether the folder goes when it stops
   */
  constructor(mf, url, state, log, ownsState) {
    this.mf = mf;
    this.url = url;
    this.state = state;
    this.log = log;
    this.ownsState = ownsState;
  }

  async migrate() {
    const db = await this.mf.getD1Database("DB");
    const { results } = await db.prepare("SELECT name FROM sqlite_master WHERE name = 'tenants'").all();
    if (results.length) return;
    for (const file of readdirSync(join(ROOT, "migrations"))
      .filter((name) => name.endsWith(".sql"))
      .sort()) {
      const sql = readFileSync(join(ROOT, "migrations", file), "utf8").replace(/^--.*$/gm, "");
      for (const statement of sql
        // A trigger stands on one line.
        .split(/;$/m)
        .map((one) => one.trim())
        .filter(Boolean))
        await db.prepare(statement).run();
    }
  }

  /** @returns {Promise<any[]>} */
  async sql(statement, ...bind) {
    const db = await this.mf.getD1Database("DB");
    return (
      await db
        .prepare(statement)
        .bind(...bind)
        .all()
    ).results;
  }

  /**
   * Any request; the body as JSON, or as it is in `raw`. `key` is a bearer token; `admin` an operator's key, `true` for
   * the right one.
   * @param {string} method
   * @param {string} path
   * @param {{ key?: string, admin?: string | boolean, body?: any, headers?: Record<string, string>, raw?: RequestInit["body"] }} [options]
   * @returns {Promise<{ status: number, headers: Headers, body: any, text: string }>}
   */
  async call(method, path, { key, admin, body, headers = {}, raw } = {}) {
    const sent = { ...headers };
    if (key !== undefined) sent.authorization = `Bearer ${key}`;
    if (admin) sent["x-admin-key"] = admin === true ? ADMIN_KEY : admin;
    if (body !== undefined && raw === undefined) sent["content-type"] ??= "application/json";
    const response = await fetch(`${this.url}${path}`, {
      method,
      headers: sent,
      body: raw ?? (body === undefined ? undefined : JSON.stringify(body)),
    });
    // A stream has no end; its events are for `stream.test.mjs`.
    const isStream = response.headers.get("content-type") === "text/event-stream";
    const text = isStream ? ((await response.body?.cancel()) ?? "") : await response.text();
    let parsed;
    try {
      parsed = JSON.parse(text);
    } catch {
      parsed = undefined;
    }
    checkDocumented(method, path, response.status, parsed);
    return { status: response.status, headers: response.headers, body: parsed, text };
  }

  async tenant(more = {}) {
    const email = `${crypto.randomUUID()}@example.test`;
    const made = await this.call("POST", "/v1/admin/tenants", { admin: true, body: { email, tier: "enterprise", ...more } });
    if (made.status !== 201) throw new Error(`no tenant: ${made.text}`);
    return { id: made.body.tenant.id, live: made.body.api_keys.live, test: made.body.api_keys.test, view: made.body.tenant };
  }

  /** A key for URLs of a tenant. */
  async urlKey({ id }, environment) {
    const body = { name: "shop", environment, kind: "url" };
    const made = await this.call("POST", `/v1/admin/tenants/${id}/api-keys`, { admin: true, body });
    if (made.status !== 201) throw new Error(`no key: ${made.text}`);
    return made.body.key;
  }

  verify(key, body, headers) {
    return this.call("POST", "/v1/verify", { key, body, headers });
  }

  /** What goes wrong with the next call to an object whose body holds `names`: it is made after `slow` ms, or
   * `unsent`, or `refused` with a 503; or its answer is `held` until `release`, or `lost`.
   * With `stays` so it is with all such calls. */
  async fault(what) {
    await fetch(`${this.url}/__fault`, { method: "POST", body: JSON.stringify(what) });
  }

  /** What goes wrong with the storage of objects: statements whose text holds `names`, or `setAlarm`, fail, or are `lost`; and how
   * many bytes their databases count as. Without arguments nothing does. */
  async storageFault(what = null, bytes = null) {
    await fetch(`${this.url}/__storage`, { method: "POST", body: JSON.stringify([what, bytes === null ? null : { bytes }]) });
  }

  /** What goes wrong with D1: statements and batches whose text holds `names` fail, or wait for `slow` ms, or are `held` until
   * this is called again, before they run or `after` it; the next one, or all with `stays`, without the first `skip`. Without
   * arguments nothing does. */
  async dbFault(...what) {
    await fetch(`${this.url}/__dbfault`, { method: "POST", body: JSON.stringify(what) });
  }

  /** Does something while a statement of a request whose text holds `names` waits; answers what the request answers. */
  async whileHeld(names, request, act) {
    await this.dbFault({ names, held: true });
    const answer = request();
    await until(async () => (await fetch(`${this.url}/__dbfault`)).json(), `a statement with ${names}`);
    await act();
    await this.dbFault();
    return answer;
  }

  /** Has the platform refuse the work that the next request leaves for after its answer: that panics. */
  async panic() {
    await fetch(`${this.url}/__panic`);
  }

  /** Lets the answer go that a fault holds. */
  async release() {
    await fetch(`${this.url}/__release`);
  }

  /** Has the binding that sends mails refuse with an error of this code; without one it sends. */
  async refuseMails(code = "") {
    await fetch(`${this.url}/__refuse?${code}`);
  }

  /** Has the queue of mails take no message of a timed job that begins so; an empty text has it take all. */
  async queueFault(names) {
    await fetch(`${this.url}/__unqueue?${names}`);
  }

  /** Whether the queue of Stripe's events takes messages. @param {boolean} isUp */
  async queue(isUp) {
    await fetch(`${this.url}/__queue?${isUp ? "up" : "down"}`);
  }

  /** How many calls to ledgers have been answered so far, by what was asked: `{ payment, deliver, reopen, … }`. */
  async asks() {
    return (await fetch(`${this.url}/__asks`)).json();
  }

  /** Answers a condition: whether ledgers have answered so many calls of a kind from now on. */
  async answersFromNow() {
    const before = await this.asks();
    return async (kind, times) => ((await this.asks())[kind] ?? 0) >= (before[kind] ?? 0) + times;
  }

  /** Stops an object at an operation, as "Records put": the one after `skip` others, before it or when it `isDone`.
   * @param {{ what: string, skip?: number, isDone?: boolean }} where */
  async halt(where) {
    await fetch(`${this.url}/__halt`, { method: "POST", body: JSON.stringify(where) });
  }

  /** Whether an object has stopped, and the operations of objects so far.
   * @returns {Promise<{ isReached: boolean, steps: string[] }>} */
  async halted() {
    return (await fetch(`${this.url}/__halted`)).json();
  }

  async counts() {
    return (await fetch(`${this.url}/__counts`)).json();
  }

  /** What objects have written since this was last asked: `rows` of their storage, also by their `tables`; `value`, `batch` (bytes) and
   * `statements` of D1 at most; `taken`, the bytes of the largest batch that a month was sent; `putOff`, how often an
   * alarm that was due was set anew before it ran. */
  async written() {
    return (await fetch(`${this.url}/__written`)).json();
  }

  /** The bytes of the Worker's WebAssembly memory, which never shrinks.
   * @returns {Promise<number>} */
  async memory() {
    return (await fetch(`${this.url}/__memory`)).json();
  }

  /**
   * What the isolate of the Worker and its objects holds after a collection of garbage, in bytes: V8's heap, what V8 keeps
   * for the platform's objects, and buffers. Wants `inspect`.
   * @returns {Promise<number>}
   */
  async heap() {
    this.inspector ??= await Inspector.open(await this.mf.getInspectorURL());
    // V8 collects when the isolate next runs.
    let isCollected = false;
    const collected = this.inspector.send("HeapProfiler.collectGarbage").then(() => {
      isCollected = true;
    });
    while (!isCollected) await Promise.all([this.memory(), this.inspector.send("Runtime.getHeapUsage")]);
    await collected;
    const { usedSize, embedderHeapUsedSize = 0, backingStorageSize = 0 } = await this.inspector.send("Runtime.getHeapUsage");
    return usedSize + embedderHeapUsedSize + backingStorageSize;
  }

  /** Puts the Worker's clock forward. An object's alarm follows when the object is next asked something. */
  async advance(ms) {
    await fetch(`${this.url}/__advance?${ms}`);
  }

  /** Fires a cron trigger. */
  async cron(pattern) {
    const fetcher = /** @type {any} */ (await this.mf.getWorker());
    return fetcher.scheduled({ cron: pattern });
  }

  /** Kills workerd as a crash would; the state stays on disk. */
  crash() {
    const pids = execFileSync("pgrep", ["-P", String(process.pid), "workerd"], { encoding: "utf8" })
      .trim()
      .split("\n");
    for (const pid of pids) process.kill(Number(pid), "SIGKILL");
  }

  async stop() {
    await this.mf.dispose().catch(() => {});
    if (this.ownsState) rmSync(this.state, { recursive: true, force: true });
  }
}

/** Runs `act` with a Worker whose state outlives it: `again` starts the next one on the same state. */
export async function withState(vars, act) {
  const state = mkdtempSync(join(tmpdir(), "x402-state-"));
  const running = {
    state,
    worker: await startWorker({ vars, state }),
    again: async () => {
      await running.worker.stop();
      running.worker = await startWorker({ vars, state });
      return running.worker;
    },
  };
  try {
    return await act(running);
  } finally {
    await running.worker.stop();
    rmSync(state, { recursive: true, force: true });
  }
}

/** Waits for a condition; the condition's truth is the answer. */
export async function until(condition, what, patience = 20_000) {
  const end = Date.now() + patience;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

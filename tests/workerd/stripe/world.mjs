// seahaven's Stripe, which is Python, in Pyodide: requests, a clock that a test sets, what happens as time passes.
import { join } from "node:path";
import { loadPyodide } from "pyodide";
import { pythonWheels } from "../../../scripts/lib/tools.mjs";

/** Where the wheels are unpacked; installs them when they are missing. */
export const wheels = () => pythonWheels("stripe-world", join(import.meta.dirname, "wheels.txt"));

/** The interpreter of this process: it takes seconds to start. @type {Promise<any> | undefined} */
let started;

async function interpreter() {
  const site = await wheels();
  const pyodide = await loadPyodide({ fullStdLib: false });
  for (const [name, root] of Object.entries({ site, driver: join(import.meta.dirname, "python") })) {
    pyodide.FS.mkdirTree(`/${name}`);
    pyodide.FS.mount(pyodide.FS.filesystems.NODEFS, { root }, `/${name}`);
  }
  // Compiled modules are kept for the next start. The world tells of its own faults by logging, beside what it answers.
  pyodide.runPython(`
import logging, sys
sys.dont_write_bytecode = False
sys.path[:0] = ["/driver", "/site"]
logging.disable(logging.CRITICAL)
import driver
`);
  return pyodide.pyimport("driver");
}

/** What a request is answered. @typedef {{ status: number, headers: Record<string, string>, body: any }} Answer */

/** The policy of retries: `end_behavior` is what becomes of a subscription whose last attempt failed.
 * @typedef {{ max_attempts?: number, window?: "1w" | "2w" | "3w" | "1mo", end_behavior?: "cancel" | "mark_unpaid" | "leave_past_due" }} Dunning */

/** Starts the world with a blank account. `now` in milliseconds. @param {{ now: number, dunning?: Dunning, seed?: number }} options */
export async function startWorld({ now, dunning = {}, seed = 1 }) {
  started ??= interpreter();
  const driver = await started;
  /** Calls a function of the driver. What Python raises has a stack of the interpreter's own code: only its words go on. */
  const call = (name, ...values) => {
    try {
      return driver[name](...values.map((value) => (typeof value === "object" ? JSON.stringify(value) : value)));
    } catch (error) {
      throw new Error(`stripe: ${error.message}`);
    }
  };
  /** A blank account. @param {{ now?: number, dunning?: Dunning }} [how] */
  const reset = (how = {}) => call("start", { now, dunning, ...how, seed });
  reset();
  return {
    reset,
    /** One request. `query` and `body` are forms. @returns {Answer} */
    request: (method, path, { query = "", body = "", key = undefined } = {}) =>
      JSON.parse(call("request", { method, path, query, body, key })),
    /** Sets the clock to milliseconds. */
    set: (at) => call("set_clock", at),
    /** When the next thing happens by itself; none is -1. */
    due: () => Number(call("due")),
    /** Has it happen. The clock must stand at it. */
    step: () => call("step"),
    /** Events after one, by their numbers. @returns {{ seq: number, event: any }[]} */
    events: (seq) => JSON.parse(call("events_after", seq)),
    /** An event of an object that the gateway keeps; answers its id. @returns {string} */
    emit: (type, object, previous = undefined) => call("emit", { type, object, previous }),
    /** What charges of an attached card do: `charge_declined=…,decline_code=…`, `three_d_secure=required`, or "". */
    behave: (card, tags) => call("behave", { card, tags }),
    /** What no route of Stripe's tells. */
    hook: (name, more = {}) => JSON.parse(call("hook", { name, ...more })),
  };
}

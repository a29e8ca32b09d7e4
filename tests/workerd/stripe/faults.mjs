// What goes wrong between us and Stripe.
import { setTimeout as wait } from "node:timers/promises";

/** A fault: what it meets, how often, and what happens. `error` answers 500 without doing anything, which Stripe keeps for the
 * key; `failed` does it and answers 500; `limited` answers 429; `lost` does it and breaks the answer off; `hangs` does nothing
 * and does not answer for `ms`, `late` does it and answers after `ms`; `refused` does not connect; `forbidden` answers 403, as to
 * a restricted key without a permission. Miniflare shows a Worker an
 * answer that breaks off as a body that is cut short, and what fails to connect as a 500 of plain text. `answers` does nothing
 * and gives what `answer` makes of a request; it does not meet one of which that makes nothing.
 * @typedef {"error" | "failed" | "limited" | "lost" | "hangs" | "late" | "refused" | "forbidden" | "answers"} FaultKind
 * @typedef {{ method: string, path: string, params?: any }} AskedOf
 * @typedef {{ kind: FaultKind, method?: string, path?: string | RegExp, times?: number, skip?: number, ms?: number,
 *   answer?: (asked: AskedOf) => { status: number, body: any } | undefined }} Fault */

/** A connection that breaks. */
export class Broken extends Error {}

const API_ERROR = { error: { type: "api_error", message: "An unknown error occurred" } };
const LIMITED = {
  error: {
    type: "invalid_request_error",
    code: "rate_limit",
    doc_url: "https://stripe.com/docs/error-codes/rate-limit",
    message: "Request rate limit exceeded. Learn more about rate limits here https://stripe.com/docs/rate-limits.",
  },
};

const FORBIDDEN = {
  error: {
    type: "invalid_request_error",
    message:
      "The provided key 'rk_test_*********1234' does not have the required permissions for this endpoint on account 'acct_1'. Having the 'rak_read' permission would allow this request to continue.",
  },
};

/** The faults of a gateway. */
export function faults() {
  /** @type {(Fault & { times: number, skip: number })[]} */
  let waiting = [];
  const hanging = new AbortController();

  /** @param {Fault} fault @param {AskedOf} asked */
  const meets = ({ kind, method, path, answer }, asked) =>
    (!method || method === asked.method) &&
    (!path || (typeof path === "string" ? asked.path.startsWith(path) : path.test(asked.path))) &&
    (kind !== "answers" || answer?.(asked) !== undefined);

  return {
    /** Adds a fault. @param {Fault} fault */
    add: (fault) => waiting.push({ times: 1, skip: 0, ...fault }),
    clear: () => (waiting = []),
    /** Faults that no request has met yet. */
    left: () => waiting.reduce((sum, { times }) => sum + times, 0),
    /** Nothing hangs any longer. */
    stop: () => hanging.abort(),
    /** Does a request with the fault that meets it. `act` answers and keeps its answer; `keep` keeps another. */
    async around(asked, act, keep) {
      const fault = waiting.find((one) => meets(one, asked));
      if (!fault) return act();
      if (fault.skip > 0) {
        fault.skip--;
        return act();
      }
      fault.times--;
      waiting = waiting.filter(({ times }) => times > 0);
      const pause = () => wait(fault.ms ?? 60_000, undefined, { signal: hanging.signal, ref: false }).catch(() => {});
      const error = { status: 500, headers: {}, body: API_ERROR };
      switch (fault.kind) {
        case "answers":
          return { headers: {}, ...fault.answer?.(asked) };
        case "error":
          return keep(error);
        case "failed":
          await act();
          return keep(error);
        case "forbidden":
          return { status: 403, headers: {}, body: FORBIDDEN };
        case "limited":
          return { status: 429, headers: { "retry-after": "1", "stripe-rate-limited-reason": "global-rate" }, body: LIMITED };
        case "lost":
          return { ...(await act()), broken: true };
        case "hangs":
          await pause();
          throw new Broken("Stripe has not answered");
        case "late": {
          const answer = await act();
          await pause();
          return answer;
        }
        default:
          throw new Broken("Stripe is not reached");
      }
    },
  };
}

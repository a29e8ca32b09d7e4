// Sends hostile requests to workerd's own socket, so many at once, and looks at each answer.
import { Agent, request } from "node:http";
import { checkAnswer } from "./answers.mjs";

/** Requests under way at once. */
const WIDTH = 24;
/** The longest that an answer may take, on a machine that does much else. */
const SLOW_MS = 20_000;

export class Sender {
  agent = new Agent({ keepAlive: true, maxSockets: WIDTH });
  /** How many requests were answered, by status. @type {Record<string, number>} */
  statuses = {};
  sent = 0;
  /** What is wrong, a line each. @type {string[]} */
  amiss = [];
  slowest = 0;

  /** @param {string} url */
  constructor(url) {
    const { hostname, port } = new URL(url);
    this.to = { hostname, port };
  }

  /**
   * @typedef {{ method: string, path: string, headers?: Record<string, string>, body?: Buffer, name: string, mayPass?: boolean, url?: string }} Hostile
   * `mayPass`: whoever sends it may be answered with success
   */

  /** @param {Hostile} hostile @returns {Promise<{ status: number, headers: import("node:http").IncomingHttpHeaders, text: string }>} */
  exchange({ method, path, headers = {}, body }) {
    return new Promise((resolve, reject) => {
      const length = body ? { "content-length": String(body.length) } : {};
      const options = {
        ...this.to,
        agent: this.agent,
        method,
        path,
        headers: { ...length, ...headers },
        setHost: headers.host === undefined,
      };
      const asked = request(options, (response) => {
        const chunks = [];
        const done = () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text: Buffer.concat(chunks).toString() });
        // A stream has no end.
        if (response.headers["content-type"] === "text/event-stream") {
          response.destroy();
          return done();
        }
        response.on("data", (chunk) => chunks.push(chunk));
        response.once("end", done);
        response.once("error", reject);
      });
      const late = () => asked.destroy(new Error(`no answer within ${SLOW_MS} ms`));
      asked.setTimeout(SLOW_MS, late);
      asked.once("upgrade", (_, socket) => {
        socket.destroy();
        reject(new Error("the connection was upgraded"));
      });
      asked.once("error", reject);
      asked.end(body);
    });
  }

  /** @param {Hostile} hostile */
  async one(hostile) {
    const began = performance.now();
    const what = `${hostile.method} ${hostile.path.slice(0, 120)} (${hostile.name})`;
    try {
      const answer = await this.exchange(hostile);
      this.sent++;
      this.statuses[answer.status] = (this.statuses[answer.status] ?? 0) + 1;
      this.amiss.push(...checkAnswer(hostile, answer).map((why) => `${what}: ${why}`));
    } catch (error) {
      this.amiss.push(`${what}: ${error.message}`);
    }
    this.slowest = Math.max(this.slowest, performance.now() - began);
  }

  /** Sends all, so many at once. @param {Iterable<Hostile>} all */
  async all(all) {
    const rest = all[Symbol.iterator]();
    const lane = async () => {
      for (let next = rest.next(); !next.done; next = rest.next()) await this.one(next.value);
    };
    await Promise.all(Array.from({ length: WIDTH }, lane));
  }

  stop() {
    this.agent.destroy();
  }
}

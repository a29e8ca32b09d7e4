// A browser as far as cookies and the headers about the page go, and the mailbox that it reads.
import { request as http } from "node:http";
import { checkDocumented } from "./documented.mjs";
import { until } from "./worker.mjs";

/** The mails to an address, the newest first. */
export async function mailsTo(worker, email) {
  const { body } = await worker.call("GET", "/v1/admin/mailbox", { admin: true });
  return body.data.filter(({ to }) => to === email);
}

/** Waits until so many mails have come to an address; the newest, with what it holds. */
export async function mailTo(worker, email, count = 1) {
  const [mail] = await until(async () => {
    const all = await mailsTo(worker, email);
    return all.length >= count && all;
  }, `${count} mails to ${email}`);
  return { ...mail, token: mail.text.match(/#token=([0-9a-f]{64})/)?.[1], code: mail.text.match(/: (\d{6})\n/)?.[1] };
}

let networks = 0;
/** The header that the platform adds for a client of a network of its own: the limits of one do not stop another. */
export const network = () => ({ "cf-connecting-ip": `10.${networks >> 8}.${networks++ & 255}.1` });

export class Browser {
  /** @type {Map<string, string>} */
  cookies = new Map();
  network = network();

  constructor(worker) {
    this.worker = worker;
  }

  /**
   * A request as a page of our own makes it, unless `headers` say otherwise; a cookie that is set is kept.
   * @param {string} method
   * @param {string} path
   * @param {any} [body]
   * @param {Record<string, string | undefined>} [headers] `undefined` leaves a header out
   * @returns {Promise<{ status: number, headers: import("node:http").IncomingHttpHeaders, body: any, setCookie: string[] }>}
   */
  async call(method, path, body, headers = {}) {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const all = {
      ...this.network,
      "sec-fetch-site": "same-origin",
      cookie: this.cookies.size ? [...this.cookies].map((pair) => pair.join("=")).join("; ") : undefined,
      ...(text === undefined ? {} : { "content-type": "application/json", "content-length": String(Buffer.byteLength(text)) }),
      ...headers,
    };
    const sent = Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
    const { hostname, port } = new URL(this.worker.url);
    return new Promise((resolve, reject) => {
      // `fetch` would not send these headers.
      const asked = http({ hostname, port, path, method, agent: false, headers: sent }, async (response) => {
        const isStream = response.headers["content-type"] === "text/event-stream";
        // A stream has no end.
        if (isStream) response.destroy();
        const whole = isStream ? "{}" : Buffer.concat(await response.toArray()).toString();
        const setCookie = response.headers["set-cookie"] ?? [];
        for (const cookie of setCookie) this.keep(cookie);
        const [status, parsed] = [response.statusCode ?? 0, whole ? JSON.parse(whole) : undefined];
        try {
          checkDocumented(method, path, status, parsed);
          resolve({ status, headers: response.headers, body: parsed, setCookie });
        } catch (error) {
          reject(error);
        }
      });
      asked.once("error", reject);
      asked.end(text);
    });
  }

  keep(setCookie) {
    const [, name, value] = setCookie.match(/^([^=]+)=([^;]*)/);
    if (/Max-Age=0(;|$)/.test(setCookie)) this.cookies.delete(name);
    else this.cookies.set(name, value);
  }

  signUp(email, more = {}) {
    return this.call("POST", "/v1/signup", { email, ...more });
  }

  logIn(email) {
    return this.call("POST", "/v1/login", { email });
  }

  session(proof, headers) {
    return this.call("POST", "/v1/session", proof, headers);
  }
}

/** A new address. */
export const address = () => `${crypto.randomUUID()}@example.test`;

/** A browser in which somebody has just signed up. */
export async function signedUp(worker, email = address()) {
  const browser = new Browser(worker);
  await browser.signUp(email);
  const { token } = await mailTo(worker, email);
  const made = await browser.session({ token });
  if (made.status !== 201) throw new Error(`not signed up: ${JSON.stringify(made.body)}`);
  return { browser, email, ...made.body };
}

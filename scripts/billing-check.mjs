// npm run billing:check -- --url https://pay.example: has the Worker compare every tenant that pays with Stripe, bring in line what
// differs, and tell operators of it; prints what differed. The operators' key is in ADMIN_KEY. The exit code is 0 where
// nothing differed, 1 where something did, 2 where not all could be compared.
import { setTimeout as wait } from "node:timers/promises";
import { parseArgs } from "node:util";
import { Refused, address } from "./lib/stripe.mjs";

const ATTEMPTS = 4;
const USAGE = `npm run billing:check -- --url https://pay.example

Has the Worker compare every tenant that pays with Stripe, and bring in line what differs. It prints what differed.

  --url   where the service is; PUBLIC_URL otherwise

ADMIN_KEY holds the operators' key. The exit code is 0 where nothing differed, 1 where something did, 2 where not all could be
compared.`;

/** The JSON of a text; `undefined` where it is none. */
function read(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** One part of the check. What fails for the moment is asked again. */
async function part(url, key, cursor) {
  for (let attempt = 1; ; attempt++) {
    let failure;
    try {
      const response = await fetch(new URL("/v1/admin/billing/check", url), {
        method: "POST",
        headers: { "x-admin-key": key, "content-type": "application/json" },
        body: JSON.stringify(cursor ? { cursor } : {}),
        signal: AbortSignal.timeout(300_000),
      });
      const body = read(await response.text());
      if (response.status === 200 && Array.isArray(body?.differences)) return body;
      failure = body?.error_code
        ? `${body.error_code}: ${body.detail}`
        : `${url.href} answers ${response.status}, and not as the service does: is it there?`;
      if (response.status < 500) throw new Refused(failure);
    } catch (error) {
      if (error instanceof Refused) throw error;
      failure = error.cause?.message ?? error.message;
    }
    if (attempt === ATTEMPTS) throw new Refused(failure);
    await wait(attempt * 1000);
  }
}

try {
  const { values } = parseArgs({ options: { url: { type: "string" }, help: { type: "boolean", short: "h" } } });
  if (values.help) {
    console.log(USAGE);
    process.exit();
  }
  const { ADMIN_KEY: key, PUBLIC_URL } = process.env;
  const where = values.url ?? PUBLIC_URL;
  if (!where) throw new Refused("where is the service? npm run billing:check -- --url https://…");
  if (!key) throw new Refused("ADMIN_KEY must hold the operators' key");
  const url = address(where, "--url");
  let [checked, differing] = [0, 0];
  /** @type {string | null | undefined} */
  let cursor;
  do {
    const answer = await part(url, key, cursor);
    checked += answer.checked;
    differing += answer.differences.length;
    for (const { tenant, customer, detail } of answer.differences) console.log(`${tenant ?? customer}: ${detail}`);
    cursor = answer.next_cursor;
  } while (cursor);
  console.log(`${checked} tenants were compared with Stripe; ${differing === 0 ? "nothing differed" : `${differing} differed`}`);
  process.exitCode = differing === 0 ? 0 : 1;
} catch (error) {
  const isKnown = error instanceof Refused || error.code?.startsWith("ERR_PARSE_ARGS");
  console.error(isKnown ? error.message : error);
  process.exitCode = 2;
}

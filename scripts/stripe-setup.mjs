// npm run stripe:setup -- --url https://pay.example [--dry-run] [--test]: products, prices, the portal and the webhook
// endpoint at Stripe, in the mode of the key in STRIPE_SECRET_KEY. A second run finds what the first has made.
// `--dry-run` only tells; `--test` refuses a live key; STRIPE_API_URL is another address than Stripe's, on this machine.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Refused, mode, setUpStripe } from "./lib/stripe.mjs";

const USAGE = `npm run stripe:setup -- --url https://pay.example [--dry-run] [--test]

Makes products, prices, the portal's configurations and the webhook endpoint at Stripe, in the mode of the key, or brings those
that are there up to date. It tells what it did, and may be run again.

  --url       where the service is; PUBLIC_URL otherwise
  --dry-run   only tells what it would do
  --test      refuses a live key

STRIPE_SECRET_KEY holds the key. The exit code is 0 where all was done, else 1.`;
const PRICING = join(import.meta.dirname, "..", "docs", "reference", "pricing.json");

try {
  const { values } = parseArgs({
    options: {
      url: { type: "string" },
      "dry-run": { type: "boolean" },
      test: { type: "boolean" },
      help: { type: "boolean", short: "h" },
    },
  });
  if (values.help) {
    console.log(USAGE);
    process.exit();
  }
  const { STRIPE_SECRET_KEY: key = "", STRIPE_API_URL: api = "https://api.stripe.com", PUBLIC_URL } = process.env;
  const url = values.url ?? PUBLIC_URL;
  if (!url) throw new Refused("where is the service? npm run stripe:setup -- --url https://…");
  if (values.test && mode(key) !== "test") throw new Refused("--test takes no live key");
  const pricing = JSON.parse(readFileSync(PRICING, "utf8"));
  await setUpStripe({ api, key, url, pricing, isTried: values["dry-run"], say: (line) => console.log(line) });
} catch (error) {
  const isKnown = error instanceof Refused || error.code?.startsWith("ERR_PARSE_ARGS");
  console.error(isKnown ? error.message : error);
  process.exitCode = 1;
}

// What `npm run deploy` and `npm run doctor` warn of.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { warnings } from "../scripts/lib/warnings.mjs";

const ROOT = join(import.meta.dirname, "..");

test("a deployment that sends mails and has no Turnstile is warned of", () => {
  const [sends, turnstile] = [{ MAIL_BACKEND: "resend" }, "TURNSTILE_SECRET"];
  for (const [vars, secrets, wanted] of /** @type {[Record<string, string>, string[] | undefined, RegExp | undefined][]} */ ([
    [{}, [], undefined],
    [{}, undefined, undefined],
    [{ MAIL_BACKEND: "mailbox" }, [], undefined],
    [sends, [], /TURNSTILE_SECRET is not set/],
    [{}, ["MAIL_BACKEND"], /TURNSTILE_SECRET is not set/],
    [sends, undefined, /not known/],
    [sends, [turnstile], undefined],
    [{ ...sends, [turnstile]: "0x4" }, undefined, undefined],
  ])) {
    const found = warnings(vars, secrets);
    assert.equal(found.length, wanted ? 1 : 0, JSON.stringify([vars, secrets]));
    if (wanted) assert.match(found[0], wanted);
  }
});

test("a half of Stripe's settings, and a key of the mode in which nobody pays, are warned of", () => {
  const [key, webhook] = ["STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET"];
  const [live, both] = [{ STRIPE_MODE: "live" }, [key, webhook]];
  for (const [
    vars,
    secrets,
    wanted,
    name = "production",
  ] of /** @type {[Record<string, string>, string[] | undefined, RegExp[], string?][]} */ ([
    [live, [], []],
    [live, undefined, []],
    [live, both, []],
    [{}, [], []],
    [live, [key], [/STRIPE_SECRET_KEY is set, and STRIPE_WEBHOOK_SECRET is not set/]],
    [live, [webhook], [/STRIPE_WEBHOOK_SECRET is set, and STRIPE_SECRET_KEY is not set/]],
    [{}, both, [/STRIPE_MODE is not "live".*test cards/]],
    [{ STRIPE_MODE: "test" }, both, [/STRIPE_MODE is not "live".*test cards/]],
    [{}, both, [], "staging"],
    [{ [key]: "sk_test_1" }, [webhook], [/stand in wrangler\.toml/, /STRIPE_SECRET_KEY is a test key.*test cards/]],
    [{ ...live, [key]: "rk_test_1" }, [webhook], [/stand in wrangler\.toml/, /is a test key, and STRIPE_MODE is live/]],
  ])) {
    const found = warnings(vars, secrets, name);
    assert.equal(found.length, wanted.length, JSON.stringify([vars, secrets, found]));
    for (const [at, line] of wanted.entries()) assert.match(found[at], line);
    assert.ok(!found.join().includes("k_test_1"), "no key is printed");
  }
});

test("the variables of an environment are read from wrangler.toml", () => {
  const script = `
    import { warn } from "./scripts/lib/warnings.mjs";
    await warn("production", { asks: false });
    console.log("read");`;
  const printed = execFileSync(process.execPath, ["--input-type=module", "--eval", script], { cwd: ROOT, encoding: "utf8" });
  assert.equal(printed.trim().split("\n").at(-1), "read");
});

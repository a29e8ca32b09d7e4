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

test("the variables of an environment are read from wrangler.toml", () => {
  const script = `
    import { warn } from "./scripts/lib/warnings.mjs";
    await warn("production", { asks: false });
    console.log("read");`;
  const printed = execFileSync(process.execPath, ["--input-type=module", "--eval", script], { cwd: ROOT, encoding: "utf8" });
  assert.equal(printed.trim().split("\n").at(-1), "read");
});

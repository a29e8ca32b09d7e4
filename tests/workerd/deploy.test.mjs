// `npm run deploy` and `npm run doctor -- --env` with a wrangler that is played: the order of steps, what stops them, exit codes. And
// that wrangler itself takes the command lines that it is given.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { settingsOf } from "../../scripts/lib/checks.mjs";
import { settings } from "../../scripts/lib/inspect.mjs";
import { exportsOf, trial } from "../../scripts/lib/trial.mjs";
import { configuration } from "../../scripts/lib/wrangler.mjs";
import { Checkout } from "./fake-wrangler.mjs";
import { ROOT } from "./worker.mjs";

/** @type {Checkout} */
let checkout;
before(() => {
  checkout = new Checkout();
});
after(() => checkout?.remove());

const FILES = readdirSync(join(ROOT, "migrations"))
  .filter((name) => name.endsWith(".sql"))
  .sort();
const [OLD, NEW] = ["11111111-2222-4333-8444-555555555555", "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"];
const CLASSES = ["TenantLedger", "Settler", "Records", "Courier", "Meter"];
const json = (value) => JSON.stringify(value, null, 2);

/** What Cloudflare answers where the build of before runs and one migration of the directory is to come. */
function answers({ secrets = ["ADMIN_KEY", "KEY_PEPPERS"], applied = FILES.slice(0, -1), tag = "v5", versions = [[OLD, 100]] } = {}) {
  const bindings = CLASSES.map((name) => ({ type: "durable_object_namespace", name, class_name: name, namespace_id: "1" }));
  return [
    { to: "secret list", out: json(secrets.map((name) => ({ name, type: "secret_text" }))) },
    { to: "d1 execute DB --remote --json", out: json([{ results: applied.map((name) => ({ name })), success: true, meta: {} }]) },
    { to: "deployments status", out: json({ versions: versions.map(([version_id, percentage]) => ({ version_id, percentage })) }) },
    { to: "versions view", out: json({ id: OLD, resources: { bindings, script: {}, script_runtime: { migration_tag: tag } } }) },
    {
      to: "r2 bucket lifecycle list",
      out: "name:     Default\nenabled:  Yes\naction:   Abort incomplete multipart uploads after 7 days\n",
    },
    { to: "r2 bucket lock list", out: "There are no lock rules for bucket 'x402-edge-archive-staging'.\n" },
    { to: "d1 time-travel info", out: json({ bookmark: "00000085-0000024c-00004c6d" }) },
    { to: "versions upload", report: { type: "version-upload", version: 1, version_id: NEW } },
  ];
}
/** The same, with other answers in front. */
const but = (...own) => [...own, ...answers()];
const ABSENT = {
  err: "✘ [ERROR] A request to the Cloudflare API failed.\n  This Worker does not exist on your account. [code: 10007]\n",
  code: 1,
};
const FIRST = [
  { to: "secret list", err: '✘ [ERROR] Worker "x402-edge-staging" (env: staging) not found.\n', code: 1 },
  { to: "d1 execute", out: json({ error: { text: "no such table: d1_migrations: SQLITE_ERROR" } }), code: 1 },
  { to: "deployments status", ...ABSENT },
];

/** Does something with each item, two at a time. */
async function inTwos(items, act) {
  for (let at = 0; at < items.length; at += 2) await Promise.all(items.slice(at, at + 2).map(act));
}

/** Calls that change nothing. */
const READS = /^(secret list|d1 execute DB --remote --json|deployments status|versions view|r2 bucket \w+ list|d1 time-travel info)/;
const lines = (calls) => calls.map((args) => args.join(" "));
const acts = ({ calls }) => lines(calls).filter((line) => !READS.test(line));

test("the doctor, then migrations, then the Worker, then the test of what runs", async () => {
  checkout.configure((text) => text.replace("[env.staging.vars]", '[env.staging.vars]\nPUBLIC_URL = "https://staging.example"'));
  const seen = await checkout.run("deploy.mjs", ["--env", "staging", "--message", "of a test"], answers());
  checkout.configure();
  assert.equal(seen.code, 0, seen.text);
  assert.deepEqual(acts(seen), [
    "d1 migrations apply DB --remote --env staging",
    "deploy --env staging --message of a test",
    "verify https://staging.example",
  ]);
  const all = lines(seen.calls);
  const reads = all.slice(0, all.indexOf("d1 time-travel info DB --json --env staging")).map((line) => line.split(" --")[0]);
  assert.deepEqual(reads.sort(), [
    "d1 execute DB",
    "deployments status",
    "r2 bucket lifecycle list x402-edge-archive-staging",
    "r2 bucket lock list x402-edge-archive-staging",
    "secret list",
    `versions view ${OLD}`,
  ]);
  assert.equal(all.indexOf("d1 time-travel info DB --json --env staging") + 1, all.indexOf(acts(seen)[0]));
  assert.match(seen.text, new RegExp(`the directory before ${FILES.at(-1)}: bookmark 00000085`));
  assert.match(seen.text, new RegExp(`back: npx wrangler rollback ${OLD} --env staging`));
});

test("what the doctor finds stops a deployment before anything is changed", async () => {
  const denied = { err: "✘ [ERROR] In a non-interactive environment, it's necessary to set a CLOUDFLARE_API_TOKEN\n", code: 1 };
  await inTwos(
    /** @type {[any[], RegExp][]} */ ([
      [answers({ secrets: ["KEY_PEPPERS"] }), /mistake: staging: ADMIN_KEY is not set/],
      [answers({ applied: [...FILES, "0999_later.sql"] }), /applied 0999_later\.sql, which this checkout lacks/],
      [answers({ tag: "v9" }), /the migration v9 of objects, which this checkout lacks/],
      [but({ to: "secret list", ...denied }, { to: "d1 execute", ...denied }), /the secrets cannot be read: In a non-interactive/],
      [but({ to: "deployments status", out: "<html>" }), /the deployment cannot be read: wrangler has answered what/],
    ]),
    async ([given, wanted]) => {
      const seen = await checkout.run("deploy.mjs", ["--env", "staging"], given);
      assert.deepEqual([seen.code, acts(seen)], [1, []], seen.text);
      assert.match(seen.text, wanted);
      assert.match(seen.text, /Nothing is deployed/);
    },
  );
});

test("a configuration that lacks a binding, or that the build does not serve with, stops a deployment", async () => {
  for (const [change, wanted] of /** @type {[(text: string) => string, RegExp][]} */ ([
    [
      (text) => text.replace(/\[\[env\.staging\.r2_buckets\]\]\n.*\n.*\n/, ""),
      /mistake: staging: \[env\.staging\] lacks the binding ARCHIVE/,
    ],
    [
      (text) => text.replace('[env.staging.vars]\nQUORUM_USDC = "100"', '[env.staging.vars]\nQUORUM_USDC = "many"'),
      /does not serve with these settings: QUORUM_USDC must be a decimal number/,
    ],
    [
      (text) => text.replace("[env.staging.vars]", '[env.staging.vars]\nMAIL_BACKEND = "resend"\nMAIL_FROM = "a@b.example"'),
      /does not serve with these settings: .*PUBLIC_URL|does not serve with these settings: .*RESEND_API_KEY/,
    ],
  ])) {
    checkout.configure(change);
    const seen = await checkout.run("deploy.mjs", ["--env", "staging"], answers());
    checkout.configure();
    assert.deepEqual([seen.code, acts(seen)], [1, []], seen.text);
    assert.match(seen.text, wanted);
  }
});

test("a command line that is wrong ends with 2 and asks nobody", async () => {
  await inTwos([[], ["--env", "prod"], ["--env", "staging", "--gradual", "100"], ["--env", "staging", "--no-such"]], async (args) => {
    const seen = await checkout.run("deploy.mjs", args, answers());
    assert.deepEqual([seen.code, seen.calls], [2, []], seen.text);
    assert.match(seen.text, /usage: npm run deploy/);
  });
});

test("a step that fails ends the deployment with 1, and so does the test of what runs", async () => {
  const refused = { err: "no", code: 1 };
  const migration = await checkout.run("deploy.mjs", ["--env", "staging"], but({ to: "d1 migrations apply", ...refused }));
  assert.deepEqual([migration.code, acts(migration)], [1, ["d1 migrations apply DB --remote --env staging"]], migration.text);
  const worker = await checkout.run("deploy.mjs", ["--env", "staging"], but({ to: "deploy --env", ...refused }));
  assert.deepEqual([worker.code, acts(worker).length, /ended early/.test(worker.text)], [1, 2, true], worker.text);
  const tested = await checkout.run("deploy.mjs", ["--env", "staging", "--verify", "https://a.example"], answers({ applied: FILES }), {
    verify: 1,
  });
  assert.deepEqual([tested.code, acts(tested)], [1, ["deploy --env staging", "verify https://a.example"]], tested.text);
  assert.match(tested.text, /the test of https:\/\/a\.example has failed/);
});

test("a gradual deployment uploads the build and gives it a share, the new one named first", async () => {
  const seen = await checkout.run("deploy.mjs", ["--env", "staging", "--gradual", "10"], answers({ applied: FILES }));
  assert.equal(seen.code, 0, seen.text);
  assert.deepEqual(acts(seen), ["versions upload --env staging", `versions deploy ${NEW}@10 ${OLD}@90 --env staging -y`]);
  assert.match(seen.text, new RegExp(`on: +npx wrangler versions deploy ${NEW}@50 ${OLD}@50 --env staging -y`));
  assert.match(seen.text, new RegExp(`back: npx wrangler rollback ${OLD} --env staging`));
});

test("no gradual deployment where a class is added, where nothing runs, and where one is under way", async () => {
  await inTwos(
    /** @type {[any[], RegExp][]} */ ([
      [answers({ tag: "v4" }), /it adds to the classes of objects \(Meter\)/],
      [[...FIRST, ...answers()], /ADMIN_KEY is not set/],
      [[FIRST[1], FIRST[2], ...answers()], /a first deployment has no build beside it/],
      [
        answers({
          versions: [
            [NEW, 10],
            [OLD, 90],
          ],
        }),
        /under way \(aaaaaaaa-.*@10 11111111-.*@90\)/,
      ],
    ]),
    async ([given, wanted]) => {
      const seen = await checkout.run("deploy.mjs", ["--env", "staging", "--gradual", "10"], given);
      assert.deepEqual([seen.code, acts(seen)], [1, []], seen.text);
      assert.match(seen.text, wanted);
    },
  );
  // The whole of it goes out, and says that it is a floor.
  const whole = await checkout.run("deploy.mjs", ["--env", "staging"], answers({ tag: "v4", applied: FILES }));
  assert.deepEqual([whole.code, acts(whole)], [0, ["deploy --env staging"]], whole.text);
  assert.match(whole.text, /this deployment adds v5 of objects: Cloudflare rolls nothing back beyond it/);
  const first = await checkout.run("deploy.mjs", ["--env", "staging"], [FIRST[1], FIRST[2], ...answers()]);
  assert.deepEqual([first.code, acts(first)], [0, ["d1 migrations apply DB --remote --env staging", "deploy --env staging"]], first.text);
  assert.match(first.text, /first deployment: nothing can be rolled back to/);
});

test("a dry run asks Cloudflare nothing and changes nothing", async () => {
  checkout.configure((text) =>
    text.replace(
      "[env.staging.vars]",
      '[env.staging.vars]\nPUBLIC_URL = "https://s.example"\nMAIL_BACKEND = "resend"\nMAIL_FROM = "a@b.example"',
    ),
  );
  const seen = await checkout.run("deploy.mjs", ["--env", "staging", "--dry-run"], []);
  checkout.configure();
  assert.deepEqual([seen.code, lines(seen.calls)], [0, ["deploy --env staging --dry-run"]], seen.text);
});

test("the doctor of an environment checks what a deployment checks, and changes nothing", async () => {
  const good = await checkout.run("doctor.mjs", ["--env", "staging"], answers());
  assert.deepEqual([good.code, acts(good)], [0, []], good.text);
  assert.match(good.text, /staging: 1 migrations to apply, 0 of objects; a deployment may begin/);
  const bad = await checkout.run("doctor.mjs", ["--env", "staging"], answers({ secrets: ["ADMIN_KEY"] }));
  assert.deepEqual([bad.code, acts(bad)], [1, []], bad.text);
  assert.match(bad.text, /mistake: staging: KEY_PEPPERS is not set/);
});

test("the build exports its classes, and serves with a specimen of each secret", async () => {
  const exported = await exportsOf(join(ROOT, "build"));
  for (const name of CLASSES) assert.ok(exported.includes(name), name);
  const config = await configuration("production");
  const secrets = settings().filter(({ isSecret }) => isSecret);
  assert.ok(secrets.length > 10 && settingsOf("").length === 0);
  const names = secrets.map(({ name }) => name.replace("<CHAIN>", "BASE"));
  const vars = { ...config.vars, PUBLIC_URL: "https://a.example", MAIL_BACKEND: "resend", MAIL_FROM: "a@b.example", GITHUB_CLIENT_ID: "1" };
  assert.deepEqual(await trial(join(ROOT, "build"), { ...config, vars }, names), []);
  const [wrong] = await trial(join(ROOT, "build"), config, ["ADMIN_KEY"]);
  assert.match(wrong, /^KEY_PEPPERS must be/);
});

test("wrangler takes each command line of the scripts, and then wants to be logged in", async () => {
  const folder = mkdtempSync(join(tmpdir(), "x402-wrangler-"));
  const config = ["--config", join(ROOT, "wrangler.toml")];
  const { CLOUDFLARE_API_TOKEN: _, ...own } = process.env;
  const env = { ...own, HOME: folder, XDG_CONFIG_HOME: folder, CI: "1", NO_COLOR: "1", WRANGLER_SEND_METRICS: "false" };
  const program = join(ROOT, "node_modules", "wrangler", "bin", "wrangler.js");
  const outcome = (line) =>
    new Promise((resolve) => {
      execFile(process.execPath, [program, ...line.split(" "), ...config], { env, cwd: ROOT, timeout: 120_000 }, (_error, out, err) =>
        resolve(out + err),
      );
    });
  const commands = [
    "secret list --format json --env staging",
    "d1 execute DB --remote --json --command SELECT --env staging",
    "deployments status --json --env staging",
    `versions view ${OLD} --json --env staging`,
    "d1 time-travel info DB --json --env staging",
    "r2 bucket lifecycle list archive",
    "r2 bucket lock list archive",
    "d1 migrations apply DB --remote --env staging",
    "deploy --env staging --message text",
    "versions upload --env staging --message text",
    `versions deploy ${NEW}@10 ${OLD}@90 --env staging -y --message text`,
    `rollback ${OLD} --env staging`,
    "triggers deploy --env staging",
    "d1 export DB --remote --output out.sql --env staging -y",
    "d1 execute DB --remote --env staging --file README.md -y",
  ];
  try {
    assert.match(await outcome("secret list --no-such-option"), /Unknown argument/);
    await inTwos(commands, async (line) => assert.match(await outcome(line), /CLOUDFLARE_API_TOKEN/, line));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

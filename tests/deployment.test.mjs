// What a deployment is stopped by, and the rule that a class of objects ships empty one release before it is used.
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ahead, checkBindings, checkBucket, checkMigrations, checkObjects, checkSettings, settingsOf } from "../scripts/lib/checks.mjs";
import { breaches, changes, floor, objects, releases } from "../scripts/lib/releases.mjs";
import { configuration } from "../scripts/lib/wrangler.mjs";

const ROOT = join(import.meta.dirname, "..");
const WRANGLER = readFileSync(join(ROOT, "wrangler.toml"), "utf8");
const SETTINGS = readFileSync(join(ROOT, "docs", "reference", "settings.md"), "utf8");

/** The texts of findings, each with its level in front. */
const textsOf = (findings) => findings.map(({ level, text }) => `${level}: ${text}`);
/** Holds findings against patterns, one for each. */
function expect(findings, patterns, what = "") {
  const texts = textsOf(findings);
  assert.equal(texts.length, patterns.length, `${what} ${JSON.stringify(texts)}`);
  for (const [at, pattern] of patterns.entries()) assert.match(texts[at], pattern, what);
}

test("this tree's objects follow those of the last release", () => {
  const all = releases(ROOT);
  assert.deepEqual(breaches(objects(WRANGLER), all.at(-1)), []);
  // Each release followed the one before it, too.
  for (const [at, release] of all.entries()) assert.deepEqual(breaches(release, all[at - 1]), [], release.version);
});

test("wrangler.toml is read as wrangler reads it", async () => {
  const { migrations, bound } = objects(WRANGLER);
  const [top, ...others] = await Promise.all([undefined, "staging", "production"].map((name) => configuration(name)));
  assert.deepEqual(migrations, top.migrations.map(changes));
  assert.ok(migrations.length >= 5);
  const classes = [top, ...others].flatMap((config) => config.durable_objects.bindings.map((one) => one.class_name));
  assert.deepEqual([...bound].sort(), [...new Set(classes)].sort());
});

/** A wrangler.toml with bindings of classes, and migrations as lines of TOML. */
const toml = (bound, ...migrations) =>
  [
    'name = "shop"',
    ...bound.map((name) => `[[durable_objects.bindings]]\nname = "${name.toUpperCase()}S"\nclass_name = "${name}"`),
    ...migrations.map((lines, at) => `[[migrations]]\ntag = "v${at + 1}"\n${lines}`),
    '[triggers]\ncrons = ["* * * * *"]',
  ].join("\n\n");
const adds = (...names) => `new_sqlite_classes = ${JSON.stringify(names)}`;
const FIRST = { version: "0.2.0", ...objects(toml(["Till"], adds("Till"))) };

test("a class ships empty one release before it is used", () => {
  const check = (text, last) => breaches(objects(text), last);
  // The first release is a floor by itself.
  assert.deepEqual(check(toml(["Till", "Safe"], adds("Till"), adds("Safe")), undefined), []);
  for (const [text, wanted] of /** @type {[string, RegExp[]][]} */ ([
    [toml(["Till"], adds("Till")), []],
    // Empty: it is there, and nothing binds it.
    [toml(["Till"], adds("Till"), adds("Safe")), []],
    [toml([], adds("Till")), []],
    [toml(["Till", "Safe"], adds("Till"), adds("Safe")), [/^Safe is bound, and release 0\.2\.0 did not ship it/]],
    [
      `${toml(["Till"], adds("Till"), adds("Safe"))}\n[[env.live.durable_objects.bindings]]\nname = "SAFES"\nclass_name = "Safe"\n`,
      [/^Safe is bound/],
    ],
    [toml(["Till", "Safe"], adds("Till", "Safe")), [/migration v1 is not as release 0\.2\.0 shipped it/, /^Safe is bound/]],
    [toml(["Till", "Safe"], adds("Till")), [/^Safe is bound, and no migration makes it/]],
    [toml(["Till"], adds("Safe"), adds("Till")), [/migration v1 is not as/]],
    [toml([], adds("Till"), 'deleted_classes = ["Till"]'), [/^Till goes, and release 0\.2\.0 still binds it/]],
    [
      toml(["Drawer"], adds("Till"), 'renamed_classes = [{from = "Till", to = "Drawer"}]'),
      [/^Drawer is bound, and release/, /^Till goes, and release/],
    ],
    [toml(["Till"], adds("Till"), '# one more\nnew_sqlite_classes = [\n  "Safe",\n] # later'), []],
  ])) {
    const found = check(text, FIRST);
    assert.equal(found.length, wanted.length, `${text}\n${found.join("\n")}`);
    for (const [at, pattern] of wanted.entries()) assert.match(found[at], pattern);
  }
  // What was shipped empty is used, and what was unbound goes.
  const empty = { version: "0.3.0", ...objects(toml(["Till"], adds("Till"), adds("Safe"))) };
  assert.deepEqual(check(toml(["Till", "Safe"], adds("Till"), adds("Safe")), empty), []);
  assert.deepEqual(check(toml(["Till"], adds("Till"), adds("Safe"), 'deleted_classes = ["Safe"]'), empty), []);
  assert.throws(() => objects(toml([], "new_sqlite_classes = Till")), /v1 cannot be read/);
});

test("the floor is the last release that brought a migration of objects", () => {
  const release = (version, ...migrations) => ({ version, ...objects(toml([], ...migrations)) });
  const [first, empty] = [release("0.2.0", adds("A")), release("0.3.0", adds("A"), adds("B"))];
  assert.equal(floor([]), undefined);
  assert.equal(floor([first, release("0.2.1", adds("A"))]), "0.2.0");
  assert.equal(floor([first, empty, release("0.4.0", adds("A"), adds("B"))]), "0.3.0");
});

test("secrets are required, and settings known, by the table of settings", () => {
  const table = settingsOf(SETTINGS);
  assert.equal(table.length, SETTINGS.split("\n").filter((line) => line.startsWith("| `")).length);
  const required = table.filter(({ isRequired }) => isRequired).map(({ name }) => name);
  assert.deepEqual(required, ["ADMIN_KEY", "KEY_PEPPERS"]);
  const check = (vars, secrets) => checkSettings({ table, vars, secrets, name: "staging" });
  expect(check({ QUORUM_USDC: "5" }, [...required, "RPC_BASE", "STRIPE_SECRET_KEY"]), []);
  expect(check({}, ["KEY_PEPPERS"]), [/^mistake: ADMIN_KEY is not set.*wrangler secret put ADMIN_KEY --env staging/]);
  expect(check({}, []), [/ADMIN_KEY/, /KEY_PEPPERS/]);
  expect(check({ KEY_PEPPERS: "01" }, undefined), [/^mistake: KEY_PEPPERS is a secret, and stands in wrangler\.toml/]);
  expect(check({ RPC_BASE: "https://a" }, required), [/^mistake: RPC_BASE is a secret/]);
  expect(check({ QUORUM_USD: "5" }, required), [/^mistake: QUORUM_USD in wrangler\.toml is no setting/]);
  expect(check({ PUBLIC_URL: "https://a" }, [...required, "PUBLIC_URL"]), [/^mistake: PUBLIC_URL is both/]);
  expect(check({}, [...required, "OLD_TOKEN"]), [/^warning: the secret OLD_TOKEN is no setting/]);
});

test("each environment of wrangler.toml has all bindings, with resources of its own, and lacks only its database", async () => {
  const top = await configuration();
  const all = Object.fromEntries(await Promise.all(top.definedEnvironments.map(async (name) => [name, await configuration(name)])));
  assert.deepEqual(Object.keys(all), ["staging", "production"]);
  for (const [name, config] of Object.entries(all)) {
    const others = Object.fromEntries(Object.entries(all).filter(([other]) => other !== name));
    const lacks = /^mistake: \[env\.\w+\] has no database_id for DB/;
    expect(checkBindings({ name, config, top, others }), config.d1_databases[0].database_id.startsWith("0000") ? [lacks] : []);
    assert.deepEqual(checkSettings({ table: settingsOf(SETTINGS), vars: config.vars, secrets: undefined, name }), []);
  }
});

test("a binding that is missing, shared or half is a mistake", () => {
  const config = (name, id) => ({
    d1_databases: [{ binding: "DB", database_name: `shop-${name}`, database_id: id }],
    durable_objects: { bindings: [{ name: "TILLS", class_name: "Till" }] },
    r2_buckets: [{ binding: "ARCHIVE", bucket_name: `archive-${name}` }],
    queues: { producers: [{ binding: "MAILS", queue: `mails-${name}` }], consumers: [{ queue: `mails-${name}` }] },
    send_email: [{ name: "EMAIL" }],
    ratelimits: [{ name: "GUARD", namespace_id: name }],
  });
  const [top, staging] = [config("top", "0000-0000"), config("staging", "aa-1")];
  const check = (change = {}) =>
    checkBindings({ name: "live", config: { ...config("live", "bb-2"), ...change }, top, others: { "[env.staging]": staging } });
  expect(check(), []);
  for (const [change, wanted] of /** @type {[Record<string, any>, RegExp[]][]} */ ([
    [{ d1_databases: [] }, [/lacks the binding DB/]],
    [{ durable_objects: { bindings: [] } }, [/lacks the binding TILLS/]],
    [{ r2_buckets: undefined }, [/lacks the binding ARCHIVE/]],
    [{ send_email: [] }, [/lacks the binding EMAIL/]],
    [{ ratelimits: [] }, [/lacks the binding GUARD/]],
    [{ r2_buckets: staging.r2_buckets }, [/shares ARCHIVE \(bucket_name archive-staging\) with \[env\.staging\]/]],
    [{ ratelimits: top.ratelimits }, [/shares GUARD .* with the top/]],
    [{ d1_databases: config("live", "00000000-0000").d1_databases }, [/no database_id for DB/]],
    [{ d1_databases: config("live", "").d1_databases }, [/no database_id for DB/]],
    [{ d1_databases: config("live", "aa-1").d1_databases }, [/has the database_id of \[env\.staging\]/]],
    [{ queues: { ...config("live").queues, consumers: [] } }, [/no consumer of the queue mails-live/]],
    [{ queues: { producers: [], consumers: [] } }, [/lacks the binding MAILS/]],
  ])) {
    expect(check(change), wanted, JSON.stringify(change));
  }
});

test("migrations have no gap, and those that are applied are a prefix of them", () => {
  const files = ["0001_a.sql", "0002_b.sql", "0003_c_2.sql"];
  for (const [own, applied, wanted] of /** @type {[string[], string[] | undefined, RegExp[]][]} */ ([
    [files, undefined, []],
    [[...files].reverse(), [], []],
    [files, files.slice(0, 2), []],
    [files, files, []],
    [["0001_a.sql", "0003_c.sql"], [], [/0003_c\.sql is not number 0002/]],
    [["0001_a.sql", "0001_b.sql"], [], [/0001_b\.sql is not number 0002/]],
    [["0002_a.sql"], undefined, [/is not number 0001/]],
    [["0001-a.sql"], undefined, [/is not number 0001/]],
    [files, ["0001_a.sql", "0003_c_2.sql"], [/applied 0003_c_2\.sql as number 2, before 0002_b\.sql/]],
    [files, [...files, "0004_d.sql"], [/applied 0004_d\.sql, which this checkout lacks/]],
    [files, ["0001_z.sql"], [/applied 0001_z\.sql, which this checkout lacks/]],
  ])) {
    expect(checkMigrations(own, applied), wanted, `${own} ${applied}`);
  }
  const own = readdirSync(join(ROOT, "migrations")).filter((name) => name.endsWith(".sql"));
  assert.deepEqual(checkMigrations(own, undefined), []);
});

test("classes are made by migrations, exported by the build, and no older than what is deployed", () => {
  const config = {
    migrations: [
      { tag: "v1", new_sqlite_classes: ["Till"] },
      { tag: "v2", new_sqlite_classes: ["Safe"] },
    ],
    durable_objects: { bindings: [{ class_name: "Till" }] },
  };
  const running = (tag, ...bound) => ({ versions: [{ id: "a", percentage: 100 }], tag, bound });
  const all = ["Till", "Safe", "default"];
  const both = { bindings: [{ class_name: "Till" }, { class_name: "Safe" }] };
  for (const [given, wanted] of /** @type {[any, RegExp[]][]} */ ([
    [{}, []],
    [{ exported: all, deployed: running("v2", "Till") }, []],
    [{ deployed: running("v1", "Till") }, []],
    [{ deployed: { versions: [], tag: undefined, bound: [] } }, []],
    // A draft that `wrangler secret put` has made.
    [{ config: { ...config, durable_objects: both }, deployed: running(undefined) }, []],
    [{ exported: ["Till", "default"] }, [/makes the class Safe, and the build does not export it/]],
    [{ config: { ...config, migrations: [] } }, [/Till is bound, and no migration makes it/]],
    [{ deployed: running("v9", "Till") }, [/^mistake: what is deployed has the migration v9 of objects, which this checkout lacks/]],
    [{ config: { ...config, durable_objects: both }, deployed: running("v1", "Till") }, [/^warning: Safe is added and used by the same/]],
    [{ deployed: running("v2", "Till", "Drawer") }, [/^mistake: what is deployed binds Drawer, which a migration takes away/]],
  ])) {
    expect(checkObjects({ config, ...given }), wanted, JSON.stringify(given));
  }
  const migrations = config.migrations.map(changes);
  assert.deepEqual(ahead(migrations, running("v1")).fresh, [migrations[1]]);
  assert.deepEqual(ahead(migrations, running(undefined)).fresh, migrations);
});

test("rules of the archive's bucket that delete or lock records are warned of", () => {
  const abort =
    "name:     Default Multipart Abort Rule\nenabled:  Yes\nprefix:   (all prefixes)\naction:   Abort incomplete multipart uploads after 7 days";
  const none = { lifecycle: abort, lock: "Listing lock rules for bucket 'a'...\nThere are no lock rules for bucket 'a'." };
  expect(checkBucket("a", none), []);
  expect(checkBucket("a", { ...none, lifecycle: abort.replace("Abort incomplete multipart uploads", "Expire objects") }), [
    /deletes records/,
  ]);
  const lock = "Listing lock rules for bucket 'a'...\nname:      all\nenabled:   Yes\nprefix:    (all prefixes)\ncondition: after 30 days";
  expect(checkBucket("a", { ...none, lock }), [/^warning: a lock rule of a keeps records/]);
});

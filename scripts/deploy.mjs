// npm run deploy -- --env NAME [--dry-run] [--gradual PERCENT] [--verify URL | --no-verify] [--message TEXT]: what `npm run doctor`
// checks, the build, the directory's migrations, the Worker, and a test of what runs then. docs/operate/deploy.md says it in full.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { ROOT, say, setUp, underNewNode } from "./lib/tools.mjs";
import { build, compile, size } from "./lib/build.mjs";

const USAGE = "npm run deploy -- --env NAME [--dry-run] [--gradual PERCENT] [--verify URL | --no-verify] [--message TEXT]";
const OPTIONS = /** @type {const} */ ({
  "dry-run": { type: "boolean" },
  gradual: { type: "string" },
  verify: { type: "string" },
  "no-verify": { type: "boolean" },
  message: { type: "string" },
});

await setUp();
if (!(await underNewNode(import.meta.url))) process.exitCode = await main();

/** Stops before anything is changed. */
function stop(why) {
  say(`\nNothing is deployed: ${why}`);
  return 1;
}

async function main() {
  const { read, refuse } = await import("./lib/arguments.mjs");
  const values = await read(process.argv.slice(2), OPTIONS, USAGE);
  const { env: name, "dry-run": isTried = false, message } = values;
  const gradual = values.gradual === undefined ? undefined : Number(values.gradual);
  if (gradual !== undefined && !(Number.isInteger(gradual) && gradual >= 1 && gradual <= 99)) {
    refuse("--gradual wants a percentage from 1 to 99", USAGE);
  }
  const { inspect, report } = await import("./lib/inspect.mjs");
  const seen = await inspect(name, { asks: !isTried });
  if (!report(name, seen.findings)) return stop("the mistakes above come first");
  const why = gradual === undefined || isTried ? undefined : againstGradual(seen);
  if (why) return stop(why);
  const wrong = await buildAndTry(seen);
  if (wrong) return stop(wrong);
  const { act } = await import("./lib/wrangler.mjs");
  if (isTried) {
    await act(gradual === undefined ? ["deploy", "--env", name, "--dry-run"] : ["versions", "upload", "--env", name, "--dry-run"]);
    return 0;
  }
  const tags = message === undefined ? [] : ["--message", message];
  try {
    await migrate(seen);
    if (gradual === undefined) await deployWhole(seen, tags);
    else await deployGradually(seen, gradual, tags);
  } catch (error) {
    say(`\nThe deployment ended early: ${error.message.split("\n")[0]}`);
    return 1;
  }
  return verify(seen, values);
}

/** Why a deployment cannot be gradual, where it cannot. */
function againstGradual({ name, deployed, fresh }) {
  if (deployed.versions.length === 0) return "a first deployment has no build beside it: leave --gradual out";
  if (deployed.versions.length > 1) {
    const [one, other] = deployed.versions.map(({ id, percentage }) => `${id}@${percentage}`);
    return (
      `a gradual deployment is under way (${one} ${other}). Go on with \`npx wrangler versions deploy ID@PERCENT ID@PERCENT ` +
      `--env ${name} -y\`, or back with \`npx wrangler rollback --env ${name}\` (docs/operate/rollout.md)`
    );
  }
  if (fresh.length > 0) {
    const names = fresh.flatMap(({ tag, added }) => (added.length > 0 ? added : [tag])).join(", ");
    return `it adds to the classes of objects (${names}), which Cloudflare takes for all requests at once: leave --gradual out`;
  }
  return undefined;
}

/** Builds, and tries the build with the environment's settings; what is wrong with it. */
async function buildAndTry({ config, secrets }) {
  await compile();
  const folder = await build();
  say(size());
  const { checkObjects } = await import("./lib/checks.mjs");
  const { exportsOf, trial } = await import("./lib/trial.mjs");
  const { settings } = await import("./lib/inspect.mjs");
  const [lacking] = checkObjects({ config, exported: await exportsOf(folder) });
  if (lacking) return lacking.text;
  const table = settings().filter(({ isSecret }) => isSecret);
  const set = secrets ?? table.filter(({ isRequired }) => isRequired).map(({ name }) => name);
  const against = await trial(folder, config, set);
  // Where nobody was asked which secrets there are, nothing is said of them.
  const known = secrets ? against : against.filter((one) => !table.some(({ name }) => one.startsWith(`${name} `)));
  return known.length > 0 ? `the build does not serve with these settings: ${known.join("; ")}` : undefined;
}

/** Applies the directory's migrations, and notes how it was before. */
async function migrate({ name, pending }) {
  if (pending.length === 0) return;
  const { bookmarkOf } = await import("./lib/deployed.mjs");
  const { act } = await import("./lib/wrangler.mjs");
  const { known, unknown } = await bookmarkOf(name);
  say(`the directory before ${pending.join(", ")}: ${known ? `bookmark ${known} (docs/operate/backup.md)` : `no bookmark: ${unknown}`}`);
  await act(["d1", "migrations", "apply", "DB", "--remote", "--env", name]);
}

/** Where a way back leads, or that there is none. */
function sayFloor({ name, deployed, fresh }) {
  const before = deployed.versions.toSorted((one, other) => other.percentage - one.percentage)[0]?.id;
  if (deployed.tag === undefined) say("this is the first deployment: nothing can be rolled back to");
  else if (fresh.length > 0) {
    say(`this deployment adds ${fresh.map(({ tag }) => tag).join(", ")} of objects: Cloudflare rolls nothing back beyond it`);
  } else say(`back: npx wrangler rollback ${before} --env ${name}`);
}

async function deployWhole(seen, tags) {
  const { act } = await import("./lib/wrangler.mjs");
  await act(["deploy", "--env", seen.name, ...tags]);
  sayFloor(seen);
}

/** Uploads the build and gives it a share of the requests and of the objects. */
async function deployGradually({ name, deployed }, share, tags) {
  const { act } = await import("./lib/wrangler.mjs");
  const reports = await act(["versions", "upload", "--env", name, ...tags]);
  const uploaded = reports.find(({ type }) => type === "version-upload")?.version_id;
  if (!uploaded) throw new Error("wrangler does not say which version it has uploaded: `npx wrangler versions list`");
  const [{ id: before }] = deployed.versions;
  const at = (percent) => [`${uploaded}@${percent}`, `${before}@${100 - percent}`];
  await act(["versions", "deploy", ...at(share), "--env", name, "-y", ...tags]);
  // An object that has gone over stays, as long as the versions are named in this order.
  say(`on:   npx wrangler versions deploy ${at(50).join(" ")} --env ${name} -y`);
  say(`end:  npx wrangler versions deploy ${uploaded}@100 --env ${name} -y && npx wrangler triggers deploy --env ${name}`);
  say(`back: npx wrangler rollback ${before} --env ${name}`);
}

/**
 * Tests what runs, where its address is known.
 * @param {Record<string, any>} seen
 * @param {Record<string, any>} values the options of the command line
 */
async function verify({ name, config }, { verify: given, "no-verify": isLeftOut, gradual }) {
  const url = given ?? config.vars.PUBLIC_URL;
  if (isLeftOut || !url) {
    say(`not tested: scripts/verify-deployment.sh ${url ?? "https://…"}`);
    return 0;
  }
  const { status } = spawnSync("sh", [join(ROOT, "scripts", "verify-deployment.sh"), url], { stdio: "inherit" });
  if (status === 0) return 0;
  const share = gradual ? ` Requests go to both builds: it may be the one before.` : "";
  say(`\nDeployed to ${name}, and the test of ${url} has failed.${share} The way back stands above.`);
  return 1;
}

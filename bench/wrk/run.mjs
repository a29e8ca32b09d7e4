// npm run load [-- --seconds 60] [-- --connections 64] [-- --rate N] [-- --url URL] [-- --soak]: docs/operate/load.md.
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { setUp, underNewNode } from "../../scripts/lib/tools.mjs";

/** Before the measured run: parts of the connections, for so many seconds each. */
const RAMP = [
  [1 / 4, 5],
  [1 / 2, 5],
];
/** A soak asks for as much as a service with 1,000 requests a second does. */
const SOAK_RATE = 1_000;
const USAGE = `usage: npm run load -- [--seconds 60] [--connections 64] [--rate N] [--build FOLDER] [--url URL] [--soak [--minutes 10]]

  --seconds N      how long the measured run lasts; in a soak, how long a minute of it does
  --connections N  how many requests are under way at a time
  --rate N         so many requests a second, each of which counts from when it is due; 0: as many as are answered
  --build FOLDER   a built Worker; without it the release is built
  --url URL        a deployment, with X402_TEST_KEY (a key for test networks) in the environment; only reads and refusals
  --soak           minutes of the mix: memory must be flat, and storage grow as decision 10 states`;

/** @param {string} problem @returns {never} */
function refuse(problem) {
  console.error(`load: ${problem}\n\n${USAGE}`);
  process.exit(2);
}

/** What is sent to a deployment needs its key for test networks, and nothing of it goes over a line that others read. */
function checkDeployment(url, isSoak) {
  if (isSoak) refuse("a soak looks at the Worker's process: it takes no --url");
  if (!process.env.X402_TEST_KEY?.startsWith("x402_test_")) refuse("--url wants X402_TEST_KEY, a key for test networks (x402_test_…)");
  const { protocol, hostname } = URL.canParse(url) ? new URL(url) : refuse("--url is no URL");
  const isHere = protocol === "http:" && ["127.0.0.1", "localhost"].includes(hostname);
  if (protocol !== "https:" && !isHere) refuse("--url is https, or http on this machine");
}

function optionsOf() {
  const string = /** @type {const} */ ("string");
  const names = ["seconds", "connections", "rate", "minutes"];
  const options = Object.fromEntries([...names, "build", "url"].map((name) => [name, { type: string }]));
  let values;
  try {
    ({ values } = parseArgs({ options: { ...options, soak: { type: "boolean" } } }));
  } catch (error) {
    return refuse(error.message);
  }
  const whole = (name, otherwise, least = 1) => {
    const value = Number(values[name] ?? otherwise);
    return Number.isInteger(value) && value >= least ? value : refuse(`--${name} is no number from ${least} on`);
  };
  const isSoak = Boolean(values.soak);
  const url = /** @type {string | undefined} */ (values.url);
  if (url !== undefined) checkDeployment(url, isSoak);
  return {
    seconds: whole("seconds", 60),
    connections: whole("connections", 64),
    rate: whole("rate", isSoak ? SOAK_RATE : 0, 0),
    minutes: whole("minutes", 10),
    build: /** @type {string | undefined} */ (values.build),
    url,
    isSoak,
  };
}

const options = optionsOf();
if (options.url) await main();
else {
  await setUp();
  if (!(await underNewNode(import.meta.url))) await main();
}

/** A deployment that takes the key, or a Worker of this machine. */
async function target({ url, build, isSoak }) {
  const { deployment, startLocal } = await import("./world.mjs");
  if (!url) {
    if (!build) await (await import("../../scripts/lib/build.mjs")).build();
    return startLocal({ build, inspect: isSoak });
  }
  const key = process.env.X402_TEST_KEY ?? "";
  const { status } = await fetch(new URL("/v1/whoami", url), { headers: { authorization: `Bearer ${key}` } });
  if (status !== 200) throw new Error(`${url} answers the key with ${status}`);
  return { world: deployment(url, key), url, worker: undefined, stop: async () => {} };
}

/** Ramp-up and measured run; answers what is wrong. */
async function measure({ world, url, folder, say }) {
  const { figures, judgeLoad } = await import("./judge.mjs");
  const { prepare } = await import("./mix.mjs");
  const { HEADING, failuresOf, rowLines, stageLine } = await import("./report.mjs");
  const { runWrk, writeRequests } = await import("./wrk.mjs");
  const { seconds, connections, rate } = options;
  say(HEADING);
  const stage = async (name, part, length) => {
    const count = Math.max(1, Math.round(connections * part));
    const asked = Math.round(rate * part);
    writeRequests(folder, await prepare(world, length * (asked || 2_000)));
    const result = await runWrk({ url, folder, seconds: length, connections: count, rate: asked, isSweep: true });
    say(stageLine(`${name}, ${count} connections`, result));
    for (const line of failuresOf(result, world)) say(line);
    return result;
  };
  for (const [part, length] of RAMP) await stage("ramp-up", part, Math.min(length, seconds));
  const result = await stage(rate ? `${seconds} s at ${rate}` : `${seconds} s`, 1, seconds);
  say("");
  for (const line of rowLines(result, world)) say(line);
  return judgeLoad(figures(result), { rate });
}

async function main() {
  // In memory: a disk that waits for each transaction would be what is measured.
  process.env.TMPDIR = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "x402-load-"));
  const say = (line) => console.log(line);
  let own;
  try {
    own = await target(options);
    const folder = process.env.TMPDIR;
    const { seconds, connections, rate, minutes, isSoak } = options;
    const wrong =
      isSoak && own.worker
        ? await (await import("./soak.mjs")).soak({ ...own, worker: own.worker, folder, minutes, seconds, connections, rate, say })
        : await measure({ ...own, folder, say });
    say(wrong.length ? `\nFAIL: ${wrong.join("; ")}` : "\nPASS");
    process.exitCode = wrong.length ? 1 : 0;
  } catch (error) {
    console.error(error);
    process.exitCode = 1;
  } finally {
    await own?.stop();
    rmSync(process.env.TMPDIR, { recursive: true, force: true });
    process.exit();
  }
}

// Programs of Debian's packages, unpacked into the cache of tools: nothing is installed.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { step } from "./progress.mjs";
import { CACHE, run } from "./tools.mjs";

/** The names of the packages that one needs and this machine lacks. */
async function missingPackages(name) {
  const list = () => run("apt-get", ["install", "--print-uris", "--yes", "--no-install-recommends", name], { quiet: true });
  // A machine whose lists of packages were never read knows none.
  const printed = await list().catch(async () => {
    await run("apt-get", ["update"], { quiet: true });
    return list();
  });
  return [...printed.matchAll(/^'[^']+' ([^_ ]+)_/gm)].map(([, found]) => found);
}

/** Unpacks a package below a folder, with those that it needs unless it is `alone`. */
async function unpack(name, folder, alone) {
  const fresh = `${folder}.${process.pid}`;
  rmSync(fresh, { recursive: true, force: true });
  mkdirSync(fresh, { recursive: true });
  const needed = await missingPackages(name);
  await run("apt-get", ["download", ...(alone ? [name] : needed)], { quiet: true, cwd: fresh });
  for (const file of readdirSync(fresh).filter((each) => each.endsWith(".deb"))) {
    await run("dpkg-deb", ["--extract", join(fresh, file), fresh], { quiet: true });
    rmSync(join(fresh, file));
  }
  // Whoever came first has put the same there.
  if (existsSync(folder)) rmSync(fresh, { recursive: true, force: true });
  else renameSync(fresh, folder);
}

/**
 * The folder below which a package is unpacked, with what it needs and this machine lacks.
 * @param {string} name of the package
 * @param {string} advice what to do on a machine that is not Debian's
 * @param {boolean} [alone] whether it needs no other package to run
 */
export async function debianPackage(name, advice, alone = false) {
  const folder = join(CACHE, name);
  if (!existsSync(folder)) {
    try {
      execFileSync("apt-get", ["--version"], { stdio: "ignore" });
    } catch {
      throw new Error(advice);
    }
    await step(`Debian's ${name}`, () => unpack(name, folder, alone));
  }
  return folder;
}

/** Where a folder's shared libraries are. */
export function librariesOf(folder) {
  return join(folder, "usr", "lib", `${execFileSync("uname", ["-m"], { encoding: "utf8" }).trim()}-linux-gnu`);
}

/** The first program of this name on the path. */
function onPath(name) {
  const found = (process.env.PATH ?? "").split(":").map((folder) => join(folder, name));
  return found.find((path) => existsSync(path));
}

/**
 * A program of a package, and what it needs in its environment: the machine's own, or the package's, unpacked.
 * @param {string} name of the package
 * @param {string} program its name
 * @param {boolean} [alone] whether it needs no other package to run
 * @returns {Promise<{ path: string, env: Record<string, string> }>}
 */
export async function debianProgram(name, program, alone = false) {
  const own = onPath(program);
  if (own) return { path: own, env: {} };
  const folder = await debianPackage(name, `please install ${program}`, alone);
  return { path: join(folder, "usr", "bin", program), env: { LD_LIBRARY_PATH: librariesOf(folder) } };
}

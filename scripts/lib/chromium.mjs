// Chromium for the tests in a real browser: the system's, or Debian's packages, unpacked into the cache of tools.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { CACHE, run } from "./tools.mjs";
import { step } from "./progress.mjs";

const SYSTEM = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** The names of Debian's packages that Chromium needs and this machine lacks. */
async function missingPackages() {
  const list = () => run("apt-get", ["install", "--print-uris", "--yes", "--no-install-recommends", "chromium"], { quiet: true });
  // A machine whose lists of packages were never read knows no Chromium.
  const printed = await list().catch(async () => {
    await run("apt-get", ["update"], { quiet: true });
    return list();
  });
  return [...printed.matchAll(/^'[^']+' ([^_ ]+)_/gm)].map(([, name]) => name);
}

/** Unpacks Chromium and the libraries that are missing below a folder; nothing is installed. */
async function unpack(folder) {
  const fresh = `${folder}.${process.pid}`;
  rmSync(fresh, { recursive: true, force: true });
  mkdirSync(fresh, { recursive: true });
  await run("apt-get", ["download", ...(await missingPackages())], { quiet: true, cwd: fresh });
  for (const name of readdirSync(fresh).filter((file) => file.endsWith(".deb"))) {
    await run("dpkg-deb", ["--extract", join(fresh, name), fresh], { quiet: true });
    rmSync(join(fresh, name));
  }
  // Whoever came first has put the same there.
  if (existsSync(folder)) rmSync(fresh, { recursive: true, force: true });
  else renameSync(fresh, folder);
}

/**
 * Where Chromium's program is, and what it needs in its environment. `CHROMIUM` names another one. On a machine that is
 * not Debian's, Chromium must be installed.
 * @returns {Promise<{ executablePath: string, env: Record<string, string> }>}
 */
export async function chromium() {
  const system = [process.env.CHROMIUM, ...SYSTEM].find((path) => path && existsSync(path));
  if (system) return { executablePath: system, env: {} };
  const folder = join(CACHE, "chromium");
  if (!existsSync(folder)) {
    try {
      execFileSync("apt-get", ["--version"], { stdio: "ignore" });
    } catch {
      throw new Error("please install Chromium, or name its program in CHROMIUM");
    }
    await step("Chromium", () => unpack(folder));
  }
  const libraries = join(folder, "usr", "lib", `${execFileSync("uname", ["-m"], { encoding: "utf8" }).trim()}-linux-gnu`);
  return {
    executablePath: join(folder, "usr", "lib", "chromium", "chromium"),
    env: { LD_LIBRARY_PATH: [libraries, join(libraries, "pulseaudio")].join(":") },
  };
}

// Chromium for the tests in a real browser: the system's, or Debian's packages, unpacked into the cache of tools.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { debianPackage, librariesOf } from "./debian.mjs";

const SYSTEM = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/**
 * Where Chromium's program is, and what it needs in its environment. `CHROMIUM` names another one. On a machine that is
 * not Debian's, Chromium must be installed.
 * @returns {Promise<{ executablePath: string, env: Record<string, string> }>}
 */
export async function chromium() {
  const system = [process.env.CHROMIUM, ...SYSTEM].find((path) => path && existsSync(path));
  if (system) return { executablePath: system, env: {} };
  const folder = await debianPackage("chromium", "please install Chromium, or name its program in CHROMIUM");
  const libraries = librariesOf(folder);
  return {
    executablePath: join(folder, "usr", "lib", "chromium", "chromium"),
    env: { LD_LIBRARY_PATH: [libraries, join(libraries, "pulseaudio")].join(":") },
  };
}

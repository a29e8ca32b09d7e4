// Compiles contracts/*.sol by npm's solc; the artefact is kept by the sources' hash.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..");

/** The compiled contracts by name: `{ abi, runtime, creation }`. */
export async function contracts() {
  const folder = join(ROOT, "contracts");
  const sources = Object.fromEntries(
    readdirSync(folder)
      .sort()
      .map((name) => [name, { content: readFileSync(join(folder, name), "utf8") }]),
  );
  const hash = createHash("sha256").update(JSON.stringify(sources)).digest("hex").slice(0, 16);
  const kept = join(ROOT, ".local", `contracts-${hash}.json`);
  if (existsSync(kept)) return JSON.parse(readFileSync(kept, "utf8"));
  const { default: solc } = await import("solc");
  const input = {
    language: "Solidity",
    sources,
    settings: {
      optimizer: { enabled: true, runs: 200 },
      viaIR: true,
      evmVersion: "cancun",
      outputSelection: { "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"] } },
    },
  };
  const output = JSON.parse(solc.compile(JSON.stringify(input)));
  const errors = (output.errors ?? []).filter((error) => error.severity === "error");
  if (errors.length) throw new Error(errors.map((error) => error.formattedMessage).join("\n"));
  const compiled = {};
  for (const file of Object.values(output.contracts)) {
    for (const [name, contract] of Object.entries(file)) {
      compiled[name] = {
        abi: contract.abi,
        runtime: `0x${contract.evm.deployedBytecode.object}`,
        creation: `0x${contract.evm.bytecode.object}`,
      };
    }
  }
  mkdirSync(dirname(kept), { recursive: true });
  // Another process may read it at this moment: it sees all of it or nothing.
  const written = `${kept}.${process.pid}`;
  writeFileSync(written, JSON.stringify(compiled));
  renameSync(written, kept);
  return compiled;
}

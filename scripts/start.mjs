// npm start: everything on this machine. Sets up, builds, starts two local
// chains and the Worker, seeds a tenant, pays it once on each chain, and prints
// what to type.
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT, say, setUp, underNewNode } from "./lib/tools.mjs";

const MERCHANT_EVM = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C";
const STATE = join(ROOT, ".local");
const VARS = join(ROOT, ".dev.vars");

await setUp();
if (!(await underNewNode(import.meta.url))) {
  await main().catch((error) => {
    say(`\n${error.message}`);
    process.exit(1);
  });
}

async function main() {
  const parts = [];
  let stopping = false;
  const stop = async (code) => {
    if (stopping) return;
    stopping = true;
    for (const part of parts.reverse()) await part.stop();
    process.exit(code);
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => stop(0));
  process.once("uncaughtException", (error) => {
    say(error.stack);
    stop(1);
  });

  const { build } = await import("./lib/build.mjs");
  const { startEvm, ACCOUNTS } = await import("./lib/evm.mjs");
  const { startSolana, signer } = await import("./lib/solana.mjs");
  const { answering, migrate, startWorker } = await import("./lib/worker.mjs");
  const { freePort } = await import("./lib/ports.mjs");

  const secrets = settings();
  await build();
  say("starting the local chains and the Worker …");
  const wished = (name, usual) => Number(process.env[name] ?? usual);
  const [evm, solana, port] = await Promise.all([
    startEvm({ port: wished("EVM_PORT", 8545), blockTime: 1, say }),
    startSolana({ port: wished("SOLANA_PORT", 8899), say }),
    freePort(wished("PORT", 8787), "the Worker", say),
    migrate(),
  ]);
  parts.push(evm, solana);
  const worker = startWorker(
    ["--port", String(port), "--var", `RPC_LOCAL_EVM:${evm.url}`, "--var", `RPC_LOCAL_SOLANA:${solana.url}`, "--log-level", "warn"],
    { stdio: "ignore" },
  );
  parts.push(worker);
  worker.once("exit", (code) => {
    if (!stopping) {
      say(`the Worker ended with ${code}; \`npm run dev\` shows its log`);
      stop(1);
    }
  });
  const url = `http://127.0.0.1:${port}`;
  const [buyer, merchant] = await Promise.all([signer(5), signer(6)]);
  const paid = Promise.all([
    (async () => {
      const [, buyer] = ACCOUNTS;
      const minted = await evm.tokenCall(ACCOUNTS[0], "mint", [buyer.address, 1_000_000000n]);
      await evm.mined(minted);
      return evm.pay({ from: buyer, to: MERCHANT_EVM, amount: 1_500000n });
    })(),
    (async () => {
      await solana.fund(buyer.address, 1_000_000000n);
      return solana.pay({ from: buyer, to: merchant.address, amount: 1_500000n, memo: "order-1", version: 1 });
    })(),
  ]);
  await answering(url, worker);
  const key = await seed(url, secrets.ADMIN_KEY, { "local-evm": MERCHANT_EVM, "local-solana": merchant.address });
  const [evmHash, solanaSignature] = await paid;
  print(url, key, [["local-evm", evmHash], ["local-solana", solanaSignature]]);
}

/** The local settings; made once, with random secrets. */
function settings() {
  if (!existsSync(VARS)) {
    const made = { ADMIN_KEY: randomBytes(24).toString("base64url"), KEY_PEPPERS: randomBytes(32).toString("hex") };
    const text = Object.entries(made).map(([name, value]) => `${name}="${value}"\n`);
    writeFileSync(VARS, text.join(""), { mode: 0o600 });
    say("wrote .dev.vars with fresh secrets for this machine");
  }
  const lines = readFileSync(VARS, "utf8").matchAll(/^([A-Z_0-9]+)\s*=\s*"?([^"\n]*)"?\s*$/gm);
  return Object.fromEntries([...lines].map(([, name, value]) => [name, value]));
}

/** The seeded tenant's test key: the kept one if it still works. */
async function seed(url, adminKey, recipients) {
  mkdirSync(STATE, { recursive: true });
  const file = join(STATE, "seed.json");
  if (existsSync(file)) {
    const { key } = JSON.parse(readFileSync(file, "utf8"));
    const answer = await fetch(`${url}/v1/whoami`, { headers: { authorization: `Bearer ${key}` } });
    if (answer.status === 200) return key;
  }
  const make = (email, own) =>
    fetch(`${url}/v1/admin/tenants`, {
      method: "POST",
      headers: { "x-admin-key": adminKey, "content-type": "application/json" },
      body: JSON.stringify({ email, company_name: "Local Dev", tier: "enterprise", recipients: own }),
    });
  let answer = await make("dev@localhost.test", recipients);
  if (answer.status === 409) {
    throw new Error("the local directory has the seeded tenant and .local/seed.json is lost: remove .wrangler/state and start again");
  }
  if (answer.status !== 201) throw new Error(`the tenant could not be seeded: ${await answer.text()}`);
  const { api_keys: keys } = await answer.json();
  writeFileSync(file, JSON.stringify({ key: keys.test }), { mode: 0o600 });
  return keys.test;
}

function print(url, key, payments) {
  const curls = payments.map(([chain, hash], at) => {
    const body = JSON.stringify({ tx_hash: hash, chain, expected_amount: "1.50", reference: `order-${Date.now()}-${at}` });
    return `# ${chain}\ncurl -s -X POST ${url}/v1/verify -H 'Authorization: Bearer ${key}' -H 'Content-Type: application/json' -d '${body}'`;
  });
  process.stdout.write(`
x402-edge is running.

  URL      ${url}
  API key  ${key}   (test mode)
  docs     ${url}/v1/openapi.json

A fresh payment of 1.50 USDC waits on each local chain. Has it paid you?

${curls.join("\n\n")}

Ctrl-C stops everything.
`);
}

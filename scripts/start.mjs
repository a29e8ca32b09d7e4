// npm start: everything on this machine. Sets up, builds, starts two local
// chains and the Worker, seeds a tenant, pays it once on each chain, and prints
// what to type.
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { compile } from "./lib/build.mjs";
import { ROOT, say, setUp, underNewNode } from "./lib/tools.mjs";

const STATE = join(ROOT, ".local");
const SEED = join(STATE, "seed.json");
/** Where `npm run pay` finds what runs. */
const RUNNING = join(STATE, "running.json");
const VARS = join(ROOT, ".dev.vars");

/** What runs, to be stopped in reverse. */
const parts = [];
let stopping = false;

async function stop(code) {
  if (stopping) return;
  stopping = true;
  for (const part of parts.reverse()) await part.stop();
  process.exit(code);
}

await setUp({ beside: () => compile({ local: true }) });
if (!(await underNewNode(import.meta.url))) {
  await main().catch((error) => {
    say(`\n${error.message}`);
    return stop(1);
  });
}

async function main() {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => stop(0));
  process.once("uncaughtException", (error) => {
    say(error.stack ?? error.message);
    void stop(1);
  });

  const { build } = await import("./lib/build.mjs");
  const { startEvm, ACCOUNTS, KEYS, randomAccount } = await import("./lib/evm.mjs");
  const { DEVNET_MINT, keyPairText, randomSigner, signer, startSolana } = await import("./lib/solana.mjs");
  const { answering, migrate, startWorker } = await import("./lib/worker.mjs");
  const { freePort } = await import("./lib/ports.mjs");

  const secrets = settings();
  const folder = await build({ local: true });
  say("starting the local chains and the Worker …");
  const wished = (name, usual) => Number(process.env[name] ?? usual);
  const running = async (starting) => {
    const part = await starting;
    parts.push(part);
    return part;
  };
  const [evm, solana, port] = await Promise.all([
    running(startEvm({ port: wished("EVM_PORT", 8545), blockTime: 1, say })),
    running(startSolana({ port: wished("SOLANA_PORT", 8899), say })),
    freePort(wished("PORT", 8787), "the Worker", say),
    migrate(),
  ]);
  // The keys that pay for transactions are the local chains' own. Stock clients
  // know no Solana but the public ones: the local one stands for devnet too.
  const vars = {
    RPC_LOCAL_EVM: evm.url,
    RPC_LOCAL_SOLANA: solana.url,
    RPC_SOLANA_DEVNET: solana.url,
    EVM_SIGNERS_TEST: KEYS.at(-1),
    MAIL_BACKEND: "mailbox",
    SOLANA_SIGNERS_TEST: await keyPairText(new Uint8Array(32).fill(0x21)),
  };
  solana.airdrop((await signer(0x21)).address, 1_000_000_000n);
  const worker = startWorker(
    ["--port", String(port), ...Object.entries(vars).flatMap(([name, value]) => ["--var", `${name}:${value}`]), "--log-level", "warn"],
    { folder, stdio: "ignore" },
  );
  parts.push(worker);
  worker.once("exit", (code) => {
    if (!stopping) {
      say(`the Worker ended with ${code}; \`npm run dev\` shows its log`);
      void stop(1);
    }
  });
  const url = `http://127.0.0.1:${port}`;
  const kept = seeded();
  const merchants = kept?.merchants ?? {
    "local-evm": randomAccount().address,
    "local-solana": (await randomSigner()).address,
  };
  // The chains start anew and the ledgers do not: with the same buyer a payment
  // would have the hash of one that was claimed before.
  const [evmBuyer, solanaBuyer] = [randomAccount(), await randomSigner()];
  const paid = Promise.all([
    (async () => {
      await evm.rpc("anvil_setBalance", [evmBuyer.address, "0xde0b6b3a7640000"]);
      const minted = await evm.tokenCall(ACCOUNTS[0], "mint", [evmBuyer.address, 1_000_000000n]);
      await evm.mined(minted);
      return evm.pay({ from: evmBuyer, to: merchants["local-evm"], amount: 1_500000n });
    })(),
    (async () => {
      await solana.fund(solanaBuyer.address, 1_000_000000n);
      await solana.fund(merchants["local-solana"], 0n, DEVNET_MINT);
      return solana.pay({ from: solanaBuyer, to: merchants["local-solana"], amount: 1_500000n, memo: "order-1", version: 1 });
    })(),
  ]);
  await answering(url, worker);
  const { key, email } = await seed(url, secrets.ADMIN_KEY, kept, merchants);
  const mail = email && (await signInMail(url, secrets.ADMIN_KEY, email));
  const [evmHash, solanaSignature] = await paid;
  writeFileSync(RUNNING, JSON.stringify({ url, key, evm: evm.url, solana: solana.url, merchants }), { mode: 0o600 });
  const payments = [
    ["local-evm", evmHash],
    ["local-solana", solanaSignature],
  ];
  print(url, key, payments, { email, mail, adminKey: secrets.ADMIN_KEY });
}

/** The local settings; made once, with random secrets. */
function settings() {
  if (!existsSync(VARS)) {
    const made = { ADMIN_KEY: randomBytes(24).toString("base64url"), KEY_PEPPERS: randomBytes(32).toString("hex") };
    const text = Object.entries(made).map(([name, value]) => `${name}="${value}"\n`);
    writeFileSync(VARS, text.join(""), { mode: 0o600 });
    // A key of before holds under none of them, and its tenant has the addresses.
    rmSync(SEED, { force: true });
    say("wrote .dev.vars with fresh secrets for this machine");
  }
  const lines = readFileSync(VARS, "utf8").matchAll(/^([A-Z_0-9]+)\s*=\s*"?([^"\n]*)"?\s*$/gm);
  return Object.fromEntries([...lines].map(([, name, value]) => [name, value]));
}

/** The tenant that an earlier start has seeded: its test key and its addresses. */
function seeded() {
  return existsSync(SEED) ? JSON.parse(readFileSync(SEED, "utf8")) : undefined;
}

/** The seeded tenant's test key and address: the kept ones if the key still works, else a new tenant's. */
async function seed(url, adminKey, kept, merchants) {
  if (kept) {
    const answer = await fetch(`${url}/v1/whoami`, { headers: { authorization: `Bearer ${kept.key}` } });
    if (answer.status === 200) return kept;
  }
  const email = `dev-${randomBytes(4).toString("hex")}@localhost.test`;
  const answer = await fetch(`${url}/v1/admin/tenants`, {
    method: "POST",
    headers: { "x-admin-key": adminKey, "content-type": "application/json" },
    body: JSON.stringify({ email, company_name: "Local Dev", tier: "enterprise", recipients: merchants }),
  });
  if (answer.status !== 201) throw new Error(`the tenant could not be seeded: ${await answer.text()}`);
  const { api_keys: keys } = await answer.json();
  mkdirSync(STATE, { recursive: true });
  const made = { key: keys.test, email, merchants };
  writeFileSync(SEED, JSON.stringify(made), { mode: 0o600 });
  return made;
}

/** Asks for a mail that signs in to the seeded tenant, and reads it; none if too many were asked for. */
async function signInMail(url, adminKey, email) {
  const asked = Date.now();
  const headers = { "content-type": "application/json" };
  const answer = await fetch(`${url}/v1/login`, { method: "POST", headers, body: JSON.stringify({ email }) });
  if (answer.status !== 202) return undefined;
  for (let tries = 0; tries < 100; tries++) {
    const mailbox = await fetch(`${url}/v1/admin/mailbox`, { headers: { "x-admin-key": adminKey } });
    const { data } = await mailbox.json();
    const mail = data.find(({ to, sent_at: at }) => to === email && Date.parse(at) >= asked);
    if (mail) return mail;
    await setTimeout(100);
  }
  return undefined;
}

function print(url, key, payments, { email, mail, adminKey }) {
  const curls = payments.map(([chain, hash], at) => {
    const body = JSON.stringify({ tx_hash: hash, chain, expected_amount: "1.50", reference: `order-${Date.now()}-${at}` });
    return `# ${chain}\ncurl -s -X POST ${url}/v1/verify -H 'Authorization: Bearer ${key}' -H 'Content-Type: application/json' -d '${body}'`;
  });
  const token = mail?.text.match(/#token=([0-9a-f]+)/)?.[1];
  const json = "-H 'Content-Type: application/json'";
  const signIn = token
    ? `
No mail leaves this machine. The newest of ${email} is "${mail.subject}"; this signs in by its link, for 15 minutes:

curl -s -i -X POST ${url}/v1/session ${json} -d '{"token":"${token}"}'

All mails: curl -s ${url}/v1/admin/mailbox -H 'X-Admin-Key: ${adminKey}'
`
    : "";
  process.stdout.write(`
x402-edge is running.

  URL      ${url}
  API key  ${key}   (test mode)
  docs     ${url}/v1/openapi.json

A fresh payment of 1.50 USDC waits on each local chain. Has it paid you?

${curls.join("\n\n")}

A stock x402 shop and a stock x402 buyer, with this as their facilitator, on both chains:

npm run pay
${signIn}
Ctrl-C stops everything.
`);
}

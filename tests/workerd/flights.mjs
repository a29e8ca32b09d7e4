// Orders for a Settler, without the Worker and the ledger in front: what no
// verification would let through reaches it all the same.
import { test } from "node:test";
import { parseTransaction } from "viem";
import { KEYS, TOKEN, randomAccount, startEvm } from "../../scripts/lib/evm.mjs";
import { authorizationCall, nonceOf, random, sign } from "./payment.mjs";
import { startProxy } from "./proxy.mjs";
import { SIGNER, sent } from "./settling.mjs";
import { startWorker, until } from "./worker.mjs";

const DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const settlement = () => `stl_01${[...crypto.getRandomValues(new Uint8Array(24))].map((byte) => DIGITS[byte % 32]).join("")}`;

/**
 * A chain, a proxy in front of it, a Worker that knows only the proxy, and its one signer's Settler.
 * @param {{ vars?: Record<string, string | undefined>, evm?: Parameters<typeof startEvm>[0] }} [options]
 */
export async function startSettler({ evm: options, vars = {} } = {}) {
  const evm = await startEvm(options);
  const proxy = await startProxy(evm.url);
  const worker = await startWorker({ vars: { RPC_LOCAL_EVM: proxy.url, EVM_SIGNERS_TEST: KEYS.at(-1), ...vars } });
  const { id: tenant } = await worker.tenant();
  const stop = async () => {
    await worker.stop();
    proxy.stop();
    evm.stop();
  };
  return { evm, proxy, worker, tenant, stop, sent: (tag) => sent(evm, tag), order: (body) => order(worker, body) };
}

/**
 * A test of a Settler that has a chain of its own.
 * @param {string} name
 * @param {Parameters<typeof startSettler>[0]} options
 * @param {(at: Awaited<ReturnType<typeof startSettler>>) => Promise<void>} run
 */
export const settling = (name, options, run) =>
  test(name, async () => {
    const at = await startSettler(options);
    try {
      await run(at);
    } finally {
      await at.stop();
    }
  });

/** Asks the Settler of the local chain's signer. */
export async function order(worker, body) {
  const settlers = await worker.mf.getDurableObjectNamespace("SETTLERS");
  const stub = settlers.get(settlers.idFromName(`local-evm:${SIGNER}`));
  const answer = await stub.fetch("https://settler/", { method: "POST", body: JSON.stringify(body) });
  const text = await answer.text();
  if (answer.status !== 200) throw new Error(`${answer.status} ${text}`);
  return JSON.parse(text);
}

/** Orders until the flight has ended: a caller waits 18 s only. */
export const ended = async (at, settle, first) => {
  const report = await first;
  if (report && report.status !== "pending") return report;
  return until(async () => {
    const next = await at.order({ settle });
    return next.status !== "pending" && next;
  }, "the end of a flight");
};

/**
 * A flight of a payment that `buyer` has signed; `lasts` seconds. Further wishes are members of the order.
 * @param {{ tenant: string }} at
 * @param {{
 *   buyer?: import("viem").LocalAccount, to?: string, amount?: bigint, lasts?: number, change?: object, [member: string]: any,
 * }} [wishes]
 */
export async function flight(
  { tenant },
  { buyer = randomAccount(), to = random(20), amount = 10_000n, lasts = 600, change = {}, ...more } = {},
) {
  const before = BigInt(Math.floor(Date.now() / 1000) + lasts);
  const body = await sign({ buyer, to, amount, change: { validBefore: before, ...change } });
  const data = await authorizationCall(body);
  const settle = {
    settlement: settlement(),
    attempt: 0,
    tenant,
    environment: "test",
    network: "local-evm",
    signer: SIGNER,
    held: null,
    cargo: { Evm: { to: TOKEN, data, gas_limit: 200_000 } },
    payer: buyer.address,
    pay_to: to,
    amount: String(amount),
    nonce: nonceOf(body),
    valid_before: Number(before),
    free: false,
    ...more,
  };
  return { settle, buyer, to, data };
}

/** The same, with a buyer who holds its amount. */
export async function paying(at, wishes) {
  const made = await flight(at, wishes);
  await at.evm.mint(made.buyer.address, 10_000n);
  return made;
}

/**
 * A signed transaction's members. A Settler signs EIP-1559 alone, whose fees are always there.
 * @param {`0x${string}` | undefined} raw
 * @returns {import("viem").TransactionSerializableEIP1559 & { gas: bigint, maxFeePerGas: bigint, maxPriorityFeePerGas: bigint }}
 */
export const parsed = (raw) => /** @type {any} */ (parseTransaction(/** @type {any} */ (raw)));

/** Whether signed bytes move nothing: they only take a nonce. */
export const isCancel = (raw) => parsed(raw).to?.toLowerCase() === SIGNER.toLowerCase();

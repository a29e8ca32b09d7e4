// A Settler and its nonces: gaps that hold later payments up are filled, and nonces
// that somebody else has used end what waits for them.
import assert from "node:assert/strict";
import { createWalletClient, http, keccak256, parseGwei } from "viem";
import { ACCOUNTS } from "../../scripts/lib/evm.mjs";
import { ended, isCancel, parsed, paying, settling } from "./flights.mjs";
import { refusing } from "./proxy.mjs";
import { SIGNER } from "./settling.mjs";
import { until } from "./worker.mjs";

const GWEI = 1_000_000_000;

/** Two flights: the first gives its nonce back while the second is in the pool behind it. */
async function gap(at) {
  const { evm, proxy, order } = at;
  const [{ settle: poor }, { settle, to }] = [await paying(at), await paying(at)];
  await evm.rpc("evm_setAutomine", [false]);
  let refuse;
  const refused = new Promise((resolve) => (refuse = resolve));
  let first;
  proxy.answer = ({ method, params }) => {
    if (method !== "eth_sendRawTransaction") return undefined;
    first ??= params[0];
    return params[0] === first ? refused : undefined;
  };
  const early = order({ settle: poor });
  await until(() => first, "the first");
  const late = order({ settle });
  await until(() => new Set(proxy.raw).size === 2, "the second");
  refuse({ error: { code: -32000, message: "insufficient funds for gas * price + value" } });
  assert.equal((await early).poor, true);
  await until(() => proxy.raw.some(isCancel), "the filler");
  return { settle, to, late };
}

settling("a flight whose nonce somebody else has used ends once its time is over", {}, async (at) => {
  const { evm, proxy, sent, order } = at;
  const { settle } = await paying(at, { lasts: 6 });
  await evm.rpc("evm_setAutomine", [false]);
  const waiting = order({ settle });
  await until(() => proxy.raw.some(isCancel), "the cancel");
  const wallet = createWalletClient({ account: ACCOUNTS[ACCOUNTS.length - 1], chain: evm.definition, transport: http(evm.url) });
  const dear = { maxFeePerGas: parseGwei("900"), maxPriorityFeePerGas: parseGwei("800") };
  await wallet.sendTransaction({ to: SIGNER, nonce: 0, gas: 21_000n, ...dear });
  await evm.rpc("evm_mine");
  await waiting;
  const report = await until(
    async () => {
      const next = await order({ settle });
      return next.status !== "pending" && next;
    },
    "the end",
    120_000,
  );
  assert.deepEqual([report.status, report.reason], ["failed", "invalid_exact_evm_payload_authorization_valid_before"]);
  await evm.rpc("evm_setAutomine", [true]);
  assert.equal((await order({ settle: (await paying(at)).settle })).status, "completed");
  assert.deepEqual([await sent("latest"), await sent("pending")], [2, 2]);
});

settling("a filler that a pool drops is sent again", {}, async (at) => {
  const { evm, proxy, sent } = at;
  const { settle, to, late } = await gap(at);
  await until(async () => (await sent("pending")) === 2, "both in the pool");
  // The chain tells that the filler waits.
  const priced = () => proxy.calls.filter((method) => method === "eth_gasPrice").length;
  const before = priced();
  await until(() => priced() >= before + 2, "another turn");
  const filler = proxy.raw.find(isCancel);
  await evm.rpc("anvil_dropTransaction", [keccak256(filler)]);
  assert.equal(await sent("pending"), 0);
  await until(async () => (await sent("pending")) === 2, "the filler again");
  await evm.rpc("evm_mine");
  assert.equal((await ended(at, settle, late)).status, "completed");
  assert.deepEqual([await evm.balance(to), await sent("latest")], [10_000n, 2]);
});

settling("a filler that the market has left behind is offered more", {}, async (at) => {
  const { evm, proxy, sent } = at;
  const { settle, to, late } = await gap(at);
  await until(async () => (await sent("pending")) === 2, "both in the pool");
  // As most nodes: what is in the pool is known, whatever it offers.
  const known = new Set(proxy.raw);
  proxy.answer = ({ method, params }) =>
    method === "eth_sendRawTransaction" && known.has(params[0]) ? { error: { code: -32000, message: "already known" } } : undefined;
  const base = parsed(proxy.raw.find(isCancel)).maxFeePerGas * 3n;
  await evm.rpc("anvil_setNextBlockBaseFeePerGas", [`0x${base.toString(16)}`]);
  await evm.rpc("evm_mine");
  assert.equal(await sent("latest"), 0);
  const enough = (raw) => isCancel(raw) && parsed(raw).maxFeePerGas > base;
  await until(() => proxy.raw.some(enough), "a dearer filler", 30_000);
  await until(
    async () => {
      await evm.rpc("evm_mine");
      return (await sent("latest")) === 2;
    },
    "both in blocks",
    60_000,
  );
  assert.equal((await ended(at, settle, late)).status, "completed");
  assert.equal(await evm.balance(to), 10_000n);
});

settling("a nonce that the chain waits for and no flight holds any more is filled", {}, async (at) => {
  const { evm, proxy, sent, order } = at;
  const [{ settle, to }, { settle: lost }] = [await paying(at), await paying(at, { lasts: 6 })];
  await evm.rpc("evm_setAutomine", [false]);
  const first = (raw) => parsed(raw).nonce === 0 || parsed(raw).nonce === undefined;
  // A node takes the first flight's transaction and forgets it, and says later that its nonce is used.
  proxy.answer = ({ method, params }) => {
    if (method !== "eth_sendRawTransaction" || !first(params[0])) return undefined;
    return isCancel(params[0]) ? { error: { code: -32000, message: "nonce too low" } } : { result: keccak256(params[0]) };
  };
  const gone = order({ settle: lost });
  await until(() => proxy.raw.length > 0, "the first");
  const late = order({ settle });
  await until(() => proxy.raw.some((raw) => !first(raw)), "the second");
  // Blocks come: by one after its time the first can never be settled.
  const blocks = setInterval(() => void evm.rpc("evm_mine").catch(() => {}), 1_000);
  try {
    await gone;
    const report = await until(
      async () => {
        const next = await order({ settle: lost });
        return next.status !== "pending" && next;
      },
      "the end of the first",
      120_000,
    );
    assert.equal(report.reason, "invalid_exact_evm_payload_authorization_valid_before");
    proxy.answer = () => undefined;
    await until(async () => (await sent("latest")) === 2, "both nonces in blocks", 90_000);
  } finally {
    clearInterval(blocks);
  }
  assert.equal((await ended(at, settle, late)).status, "completed");
  assert.equal(await evm.balance(to), 10_000n);
});

settling("a chain that asks more than 21,000 gas for a transfer of nothing gets it", {}, async (at) => {
  const { proxy, evm, order } = at;
  const { settle } = await paying(at, { lasts: 6 });
  await evm.rpc("evm_setAutomine", [false]);
  const isShort = (raw) => isCancel(raw) && parsed(raw).gas < 25_000n;
  proxy.answer = refusing("intrinsic gas too low: gas 21000, minimum needed 21432", -32000, isShort);
  const waiting = order({ settle });
  await until(() => proxy.raw.some((raw) => isCancel(raw) && !isShort(raw)), "a cancel with more gas");
  await evm.rpc("evm_mine");
  assert.equal((await ended(at, settle, waiting)).reason, "invalid_exact_evm_payload_authorization_valid_before");
});

settling("a filler that no node takes costs nothing of the day", { vars: { SETTLE_DAILY_SIGNER_USD: "0.0009" } }, async (at) => {
  const { proxy, evm, order } = at;
  // The day holds two payments at their worst and two fillers, and no more.
  const capped = { price: { max_wei: 2 * GWEI, tip_wei: GWEI / 1000 }, max_fee_wei: 2 * GWEI };
  const [first, second, third] = [await paying(at, capped), await paying(at, capped), await paying(at, capped)];
  await evm.rpc("evm_setAutomine", [false]);
  let fillers = 0;
  const isLater = (raw) => Number(parsed(raw).nonce) > 0;
  proxy.answer = async ({ method, params: [raw] }) => {
    if (method !== "eth_sendRawTransaction" || isLater(raw) || fillers === 4) return undefined;
    if (isCancel(raw)) {
      fillers += 1;
      return { error: { code: -32000, message: "transaction underpriced" } };
    }
    // The first gives its nonce back once a later one is on its way.
    await until(() => proxy.raw.some(isLater), "the later nonce");
    return { error: { code: -32000, message: "insufficient funds for gas * price + value" } };
  };
  const failing = order({ settle: first.settle });
  await until(() => proxy.raw.length === 1, "the first nonce");
  const waiting = order({ settle: second.settle });
  assert.equal((await failing).status, "failed");
  await until(() => fillers === 4, "four fillers that were refused", 60_000);
  await evm.rpc("evm_setAutomine", [true]);
  const report = await order({ settle: third.settle });
  assert.deepEqual([report.status, report.reason], ["completed", null]);
  assert.equal((await ended(at, second.settle, waiting)).status, "completed");
});

// A Settler and time, prices and money: what is signed when, at which price, and
// what a node's refusal does to a flight.
import assert from "node:assert/strict";
import { createWalletClient, http, keccak256, parseGwei, parseTransaction } from "viem";
import { ACCOUNTS } from "../../scripts/lib/evm.mjs";
import { ended, flight, settling } from "./flights.mjs";
import { refusing } from "./proxy.mjs";
import { SIGNER } from "./settling.mjs";
import { until } from "./worker.mjs";

const GWEI = 1_000_000_000;
const isCancel = (raw) => parseTransaction(raw).to?.toLowerCase() === SIGNER.toLowerCase();

async function paying(at, wishes) {
  const made = await flight(at, wishes);
  await at.evm.mint(made.buyer.address, 10_000n);
  return made;
}

settling("nothing is signed past an authorization's time, and its nonce is taken", {}, async (at) => {
  const { evm, proxy, sent, order } = at;
  const { settle, to } = await paying(at, { lasts: 6 });
  await evm.rpc("evm_setAutomine", [false]);
  const waiting = order({ settle });
  await until(() => proxy.raw.length === 1, "the transfer");
  await until(() => proxy.raw.some(isCancel), "the cancel");
  const [first, cancel, ...rest] = [...new Set(proxy.raw)];
  assert.deepEqual([rest, isCancel(first)], [[], false]);
  const [one, two] = [first, cancel].map((raw) => parseTransaction(raw));
  assert.deepEqual([two.nonce, two.value, two.data, two.gas], [one.nonce, undefined, undefined, 21_000n]);
  assert.ok(two.maxFeePerGas >= (one.maxFeePerGas * 9n) / 8n && two.maxPriorityFeePerGas > one.maxPriorityFeePerGas);
  await evm.rpc("evm_mine");
  const report = await ended(at, settle, waiting);
  assert.deepEqual([report.status, report.reason], ["failed", "invalid_exact_evm_payload_authorization_valid_before"]);
  assert.deepEqual([report.handed, report.transaction, report.attempts.length], [true, keccak256(first), 2]);
  assert.ok(report.spent.total > 0);
  assert.deepEqual([await evm.balance(to), await sent("latest"), await sent("pending")], [0n, 1, 1]);
  // Only an authorization that has reverted counts against its payer.
  assert.deepEqual(await order("held"), []);
});

settling("a transfer that is mined before its cancel is judged by what it moved", {}, async (at) => {
  const { evm, proxy, order } = at;
  const { settle, to } = await paying(at, { lasts: 6 });
  await evm.rpc("evm_setAutomine", [false]);
  // The chain never sees the cancel.
  proxy.answer = ({ method, params }) =>
    method === "eth_sendRawTransaction" && isCancel(params[0]) ? { result: keccak256(params[0]) } : undefined;
  const waiting = order({ settle });
  await until(() => proxy.raw.some(isCancel), "the cancel");
  // The chain's clock is behind ours.
  await evm.rpc("evm_setNextBlockTimestamp", [settle.valid_before - 1]);
  await evm.rpc("evm_mine");
  const report = await ended(at, settle, waiting);
  assert.deepEqual([report.status, report.units, await evm.balance(to)], ["completed", [1], 10_000n], JSON.stringify(report));
});

settling("a transfer that a block takes too late is held against nobody", {}, async (at) => {
  const { evm, proxy, order } = at;
  const { settle, to } = await paying(at, { lasts: 6 });
  await evm.rpc("evm_setAutomine", [false]);
  proxy.answer = ({ method, params }) =>
    method === "eth_sendRawTransaction" && isCancel(params[0]) ? { result: keccak256(params[0]) } : undefined;
  const waiting = order({ settle });
  await until(() => proxy.raw.some(isCancel), "the cancel");
  await evm.rpc("evm_mine");
  const report = await ended(at, settle, waiting);
  assert.deepEqual([report.status, report.reason], ["failed", "invalid_exact_evm_payload_authorization_valid_before"]);
  assert.ok(report.spent.total > 0);
  assert.deepEqual([report.transaction, await evm.balance(to)], [keccak256(proxy.raw[0]), 0n]);
  assert.deepEqual(await order("held"), []);
});

settling("a flight whose nonce somebody else has used ends once its time is over", {}, async (at) => {
  const { evm, proxy, sent, order } = at;
  const { settle } = await paying(at, { lasts: 6 });
  await evm.rpc("evm_setAutomine", [false]);
  const waiting = order({ settle });
  await until(() => proxy.raw.some(isCancel), "the cancel");
  const wallet = createWalletClient({ account: ACCOUNTS.at(-1), chain: evm.definition, transport: http(evm.url) });
  const dear = { maxFeePerGas: parseGwei("900"), maxPriorityFeePerGas: parseGwei("800") };
  await wallet.sendTransaction({ to: SIGNER, nonce: 0, gas: 21_000n, ...dear });
  await evm.rpc("evm_mine");
  await waiting;
  const report = await until(async () => {
    const next = await order({ settle });
    return next.status !== "pending" && next;
  }, "the end", 120_000);
  assert.deepEqual([report.status, report.reason], ["failed", "invalid_exact_evm_payload_authorization_valid_before"]);
  await evm.rpc("evm_setAutomine", [true]);
  assert.equal((await order({ settle: (await paying(at)).settle })).status, "completed");
  assert.deepEqual([await sent("latest"), await sent("pending")], [2, 2]);
});

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

settling("a filler that a pool drops is sent again", {}, async (at) => {
  const { evm, proxy, sent } = at;
  const { settle, to, late } = await gap(at);
  await until(async () => (await sent("pending")) === 2, "both in the pool");
  // The chain tells that the filler waits.
  const quoted = () => proxy.calls.filter((method) => method === "eth_gasPrice").length;
  const before = quoted();
  await until(() => quoted() >= before + 2, "another turn");
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
  const base = parseTransaction(proxy.raw.find(isCancel)).maxFeePerGas * 3n;
  await evm.rpc("anvil_setNextBlockBaseFeePerGas", [`0x${base.toString(16)}`]);
  await evm.rpc("evm_mine");
  assert.equal(await sent("latest"), 0);
  const enough = (raw) => isCancel(raw) && parseTransaction(raw).maxFeePerGas > base;
  await until(() => proxy.raw.some(enough), "a dearer filler", 30_000);
  await until(async () => {
    await evm.rpc("evm_mine");
    return (await sent("latest")) === 2;
  }, "both in blocks", 60_000);
  assert.equal((await ended(at, settle, late)).status, "completed");
  assert.equal(await evm.balance(to), 10_000n);
});

settling("a nonce that the chain waits for and no flight holds any more is filled", {}, async (at) => {
  const { evm, proxy, sent, order } = at;
  const [{ settle, to }, { settle: lost }] = [await paying(at), await paying(at, { lasts: 6 })];
  await evm.rpc("evm_setAutomine", [false]);
  const first = (raw) => parseTransaction(raw).nonce === 0 || parseTransaction(raw).nonce === undefined;
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
    const report = await until(async () => {
      const next = await order({ settle: lost });
      return next.status !== "pending" && next;
    }, "the end of the first", 120_000);
    assert.equal(report.reason, "invalid_exact_evm_payload_authorization_valid_before");
    proxy.answer = () => undefined;
    await until(async () => (await sent("latest")) === 2, "both nonces in blocks", 90_000);
  } finally {
    clearInterval(blocks);
  }
  assert.equal((await ended(at, settle, late)).status, "completed");
  assert.equal(await evm.balance(to), 10_000n);
});

settling("an authorization that no node has got ends at once, and its nonce is given back", {}, async (at) => {
  const { proxy, sent, order } = at;
  const { settle } = await paying(at, { lasts: 3 });
  proxy.answer = refusing("the method eth_sendRawTransaction does not exist", -32601);
  const report = await order({ settle });
  assert.deepEqual([report.status, report.reason, report.handed], ["failed", "invalid_exact_evm_payload_authorization_valid_before", false]);
  assert.equal(new Set(proxy.raw).size, 1);
  const late = await order({ settle: (await paying(at, { lasts: 0 })).settle });
  assert.deepEqual([late.status, late.reason, late.attempts], ["failed", report.reason, []]);
  proxy.answer = () => undefined;
  const next = await paying(at);
  assert.equal((await order({ settle: next.settle })).status, "completed");
  assert.deepEqual([await sent("latest"), await sent("pending")], [1, 1]);
});

settling("a node that takes no transactions is passed over for the next", { second: true }, async (at) => {
  const { proxy, evm, order } = at;
  for (const [message, code] of [["the method does not exist", -32601], ["node is unhealthy", -32005], ["internal error", -32603]]) {
    proxy.answer = refusing(message, code);
    const { settle, to } = await paying(at);
    const report = await order({ settle });
    assert.deepEqual([report.status, report.attempts.length, await evm.balance(to)], ["completed", 1, 10_000n], message);
  }
});

settling("a base fee that has tripled is followed at once, under the same nonce", {}, async (at) => {
  const { evm, proxy, sent, order } = at;
  const { settle, to } = await paying(at, { price: { max_wei: 2 * GWEI, tip_wei: GWEI / 1000 } });
  await evm.rpc("evm_setAutomine", [false]);
  await evm.rpc("anvil_setNextBlockBaseFeePerGas", [`0x${(6 * GWEI).toString(16)}`]);
  await evm.rpc("evm_mine");
  const waiting = order({ settle });
  await until(async () => (await sent("pending")) === 1, "the pool");
  const [first, second, ...rest] = proxy.raw.map((raw) => parseTransaction(raw));
  assert.deepEqual([rest, first.maxFeePerGas, second.nonce, first.nonce], [[], parseGwei("2"), 0, 0]);
  assert.ok(second.maxFeePerGas >= parseGwei("10"), String(second.maxFeePerGas));
  await evm.rpc("evm_mine");
  const report = await ended(at, settle, waiting);
  assert.deepEqual([report.status, report.attempts.length, await evm.balance(to)], ["completed", 2, 10_000n]);
});

settling("a price that the market has left behind is raised before it has waited long", {}, async (at) => {
  const { evm, proxy, order } = at;
  const { settle } = await paying(at);
  await evm.rpc("evm_setAutomine", [false]);
  const waiting = order({ settle });
  await until(() => proxy.raw.length === 1, "the transfer");
  const [first] = proxy.raw.map((raw) => parseTransaction(raw));
  // The pool has taken it: no node says that it is too cheap.
  const base = first.maxFeePerGas * 3n;
  await evm.rpc("anvil_setNextBlockBaseFeePerGas", [`0x${base.toString(16)}`]);
  await evm.rpc("evm_mine");
  await until(() => new Set(proxy.raw).size > 1, "the higher price");
  const dearer = parseTransaction(proxy.raw.at(-1));
  assert.deepEqual([dearer.nonce, isCancel(proxy.raw.at(-1))], [0, false]);
  assert.ok(dearer.maxFeePerGas > base, String(dearer.maxFeePerGas));
  const id = keccak256(proxy.raw.at(-1));
  await until(() => evm.rpc("eth_getTransactionByHash", [id]), "the higher price in the pool");
  await evm.rpc("evm_mine");
  assert.equal((await ended(at, settle, waiting)).status, "completed");
});

settling("a price above what was set aside is never offered", {}, async (at) => {
  const { evm, proxy, sent, order } = at;
  const price = { max_wei: 2 * GWEI, tip_wei: GWEI / 1000 };
  const { settle } = await paying(at, { price, max_fee_wei: 2 * GWEI });
  await evm.rpc("anvil_setNextBlockBaseFeePerGas", [`0x${(6 * GWEI).toString(16)}`]);
  await evm.rpc("evm_mine");
  const report = await order({ settle });
  assert.deepEqual([report.status, report.reason, report.handed, report.poor], ["failed", "unexpected_settle_error", false, false]);
  assert.ok(proxy.raw.every((raw) => parseTransaction(raw).maxFeePerGas <= parseGwei("2")));
  const next = await paying(at);
  assert.equal((await order({ settle: next.settle })).status, "completed");
  assert.deepEqual([await sent("latest"), await sent("pending")], [1, 1]);
});

settling("a signer that cannot pay ends a launch, and leaves no gap", {}, async (at) => {
  const { proxy, evm, sent, order } = at;
  proxy.answer = refusing("insufficient funds for gas * price + value: have 1 want 2");
  const { settle, to } = await paying(at);
  const report = await order({ settle });
  assert.deepEqual([report.status, report.reason, report.poor, report.handed], ["failed", "invalid_exact_evm_relayer_insufficient_funds", true, false]);
  assert.equal(report.told, "the facilitator cannot pay for gas on this network now");
  proxy.answer = () => undefined;
  const again = await order({ settle: { ...settle, attempt: 1 } });
  assert.deepEqual([again.status, await evm.balance(to)], ["completed", 10_000n]);
  assert.deepEqual([await sent("latest"), await sent("pending")], [1, 1]);
});

settling("a signer that cannot pay for a higher price leaves the first in the air", {}, async (at) => {
  const { proxy, evm, order } = at;
  const { settle, to } = await paying(at);
  await evm.rpc("evm_setAutomine", [false]);
  proxy.answer = refusing("insufficient funds for gas * price + value", -32000, (raw) => raw !== proxy.raw[0]);
  const pending = await order({ settle });
  assert.deepEqual([pending.status, pending.handed], ["pending", true]);
  await until(() => new Set(proxy.raw).size > 1, "the higher price", 40_000);
  const from = proxy.calls.length;
  const still = order({ settle });
  await until(() => proxy.calls.slice(from).includes("eth_getTransactionReceipt"), "the look for the first");
  await evm.rpc("evm_mine");
  const report = await ended(at, settle, still);
  assert.deepEqual([report.status, report.transaction, await evm.balance(to)], ["completed", keccak256(proxy.raw[0]), 10_000n]);
});

settling("a chain that asks more than 21,000 gas for a transfer of nothing gets it", {}, async (at) => {
  const { proxy, evm, order } = at;
  const { settle } = await paying(at, { lasts: 6 });
  await evm.rpc("evm_setAutomine", [false]);
  const isShort = (raw) => isCancel(raw) && parseTransaction(raw).gas < 25_000n;
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
  const isLater = (raw) => parseTransaction(raw).nonce > 0;
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

settling("a block that leaves the chain and comes back is charged once", {}, async (at) => {
  const { evm, order } = at;
  const { settle, to } = await paying(at);
  const first = await order({ settle });
  assert.deepEqual([first.status, first.reorged], ["completed", false]);
  await evm.rpc("anvil_reorg", [1, []]);
  assert.equal(await evm.balance(to), 0n);
  const again = await until(async () => {
    const report = await order({ settle });
    return report.status === "completed" && report.reorged && report;
  }, "the same bytes in another block", 60_000);
  assert.equal(again.transaction, first.transaction);
  assert.ok((again.spent?.total ?? 0) < first.spent.total, JSON.stringify([first.spent, again.spent]));
});

// A Settler and time, prices and money: what is signed when, at which price, and
// what a node's refusal does to a flight.
import assert from "node:assert/strict";
import { keccak256, parseGwei } from "viem";
import { ended, isCancel, parsed, paying, settling } from "./flights.mjs";
import { refusing } from "./proxy.mjs";
import { until } from "./worker.mjs";

const GWEI = 1_000_000_000;

/** A node that takes a cancel and keeps it from the chain. */
const swallowsCancels = ({ method, params }) =>
  method === "eth_sendRawTransaction" && isCancel(params[0]) ? { result: keccak256(params[0]) } : undefined;

settling("nothing is signed past an authorization's time, and its nonce is taken", {}, async (at) => {
  const { evm, proxy, sent, order } = at;
  const { settle, to } = await paying(at, { lasts: 6 });
  await evm.rpc("evm_setAutomine", [false]);
  const waiting = order({ settle });
  await until(() => proxy.raw.length === 1, "the transfer");
  await until(() => proxy.raw.some(isCancel), "the cancel");
  const [first, cancel, ...rest] = [...new Set(proxy.raw)];
  assert.deepEqual([rest, isCancel(first)], [[], false]);
  const [one, two] = [first, cancel].map((raw) => parsed(raw));
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
  proxy.answer = swallowsCancels;
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
  proxy.answer = swallowsCancels;
  const waiting = order({ settle });
  await until(() => proxy.raw.some(isCancel), "the cancel");
  await evm.rpc("evm_mine");
  const report = await ended(at, settle, waiting);
  assert.deepEqual([report.status, report.reason], ["failed", "invalid_exact_evm_payload_authorization_valid_before"]);
  assert.ok(report.spent.total > 0);
  assert.deepEqual([report.transaction, await evm.balance(to)], [keccak256(proxy.raw[0]), 0n]);
  assert.deepEqual(await order("held"), []);
});

settling("an authorization that no node has got ends at once, and its nonce is given back", {}, async (at) => {
  const { proxy, sent, order } = at;
  const { settle } = await paying(at, { lasts: 3 });
  proxy.answer = refusing("the method eth_sendRawTransaction does not exist", -32601);
  const report = await order({ settle });
  assert.deepEqual(
    [report.status, report.reason, report.handed],
    ["failed", "invalid_exact_evm_payload_authorization_valid_before", false],
  );
  assert.equal(new Set(proxy.raw).size, 1);
  const late = await order({ settle: (await paying(at, { lasts: 0 })).settle });
  assert.deepEqual([late.status, late.reason, late.attempts], ["failed", report.reason, []]);
  proxy.answer = () => undefined;
  const next = await paying(at);
  assert.equal((await order({ settle: next.settle })).status, "completed");
  assert.deepEqual([await sent("latest"), await sent("pending")], [1, 1]);
});

settling("a base fee that has tripled is followed at once, under the same nonce", {}, async (at) => {
  const { evm, proxy, sent, order } = at;
  const { settle, to } = await paying(at, { price: { max_wei: 2 * GWEI, tip_wei: GWEI / 1000 } });
  await evm.rpc("evm_setAutomine", [false]);
  await evm.rpc("anvil_setNextBlockBaseFeePerGas", [`0x${(6 * GWEI).toString(16)}`]);
  await evm.rpc("evm_mine");
  const waiting = order({ settle });
  await until(async () => (await sent("pending")) === 1, "the pool");
  const [first, second, ...rest] = proxy.raw.map((raw) => parsed(raw));
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
  const [first] = proxy.raw.map((raw) => parsed(raw));
  // The pool has taken it: no node says that it is too cheap.
  const base = first.maxFeePerGas * 3n;
  await evm.rpc("anvil_setNextBlockBaseFeePerGas", [`0x${base.toString(16)}`]);
  await evm.rpc("evm_mine");
  await until(() => new Set(proxy.raw).size > 1, "the higher price");
  const dearer = parsed(proxy.raw.at(-1));
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
  assert.ok(proxy.raw.every((raw) => parsed(raw).maxFeePerGas <= parseGwei("2")));
  const next = await paying(at);
  assert.equal((await order({ settle: next.settle })).status, "completed");
  assert.deepEqual([await sent("latest"), await sent("pending")], [1, 1]);
});

settling("a signer that cannot pay ends a launch, and leaves no gap", {}, async (at) => {
  const { proxy, evm, sent, order } = at;
  proxy.answer = refusing("insufficient funds for gas * price + value: have 1 want 2");
  const { settle, to } = await paying(at);
  const report = await order({ settle });
  assert.deepEqual(
    [report.status, report.reason, report.poor, report.handed],
    ["failed", "invalid_exact_evm_relayer_insufficient_funds", true, false],
  );
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

settling("a block that leaves the chain and comes back is charged once", {}, async (at) => {
  const { evm, order } = at;
  const { settle, to } = await paying(at);
  const first = await order({ settle });
  assert.deepEqual([first.status, first.reorged], ["completed", false]);
  await evm.rpc("anvil_reorg", [1, []]);
  assert.equal(await evm.balance(to), 0n);
  const again = await until(
    async () => {
      const report = await order({ settle });
      return report.status === "completed" && report.reorged && report;
    },
    "the same bytes in another block",
    60_000,
  );
  assert.equal(again.transaction, first.transaction);
  assert.ok((again.spent?.total ?? 0) < first.spent.total, JSON.stringify([first.spent, again.spent]));
});

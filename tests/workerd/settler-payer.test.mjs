// A Settler and who pays: payers whose payments fail, payers who promise more
// than they hold, payments that others have sent, attempts that were given up.
import assert from "node:assert/strict";
import { ACCOUNTS, TOKEN, randomAccount } from "../../scripts/lib/evm.mjs";
import { ended, flight, settling } from "./flights.mjs";
import { moveAway, overtake } from "./settling.mjs";
import { until } from "./worker.mjs";

settling("a payer whose payment has reverted is not launched again, for no tenant", {}, async (at) => {
  const { evm, proxy, worker, sent, order } = at;
  const buyer = randomAccount();
  await evm.mint(buyer.address, 30_000n);
  await evm.rpc("evm_setAutomine", [false]);
  const { settle: made } = await flight(at, { buyer });
  const waiting = order({ settle: made });
  await until(async () => (await sent("pending")) === 1, "the pool");
  await moveAway(evm, buyer, 30_000n);
  await evm.rpc("evm_mine");
  const failed = await ended(at, made, waiting);
  assert.deepEqual([failed.status, failed.reason], ["failed", "invalid_exact_evm_transaction_failed"], JSON.stringify(failed));
  assert.ok(failed.spent.total > 0);
  await evm.rpc("evm_setAutomine", [true]);
  await evm.mint(buyer.address, 30_000n);
  const [known, ...others] = await order("held");
  assert.deepEqual([known.payer.toLowerCase(), others], [buyer.address.toLowerCase(), []]);
  const minutes = (known.until - Date.now()) / 60_000;
  assert.ok(minutes > 9 && minutes <= 10, String(minutes));
  const raws = proxy.raw.length;
  const { id: tenant } = await worker.tenant();
  const held = await order({ settle: (await flight({ tenant }, { buyer })).settle });
  assert.deepEqual([held.status, held.reason, held.held_until, held.attempts], ["failed", "unexpected_settle_error", known.until, []]);
  assert.match(held.told, /no other is sent before 20/);
  assert.deepEqual([proxy.raw.length, await sent("pending")], [raws, 1]);
  const other = await flight(at);
  await evm.mint(other.buyer.address, 10_000n);
  assert.equal((await order({ settle: other.settle })).status, "completed");
});

settling("what completes beside payments that revert leaves their payer one short wait", {}, async (at) => {
  const { evm, sent, order } = at;
  const buyer = randomAccount();
  await evm.mint(buyer.address, 45_000n);
  await evm.rpc("evm_setAutomine", [false]);
  const amounts = [20_000n, 20_000n, 5_000n];
  const waiting = [];
  for (const [index, amount] of amounts.entries()) {
    const { settle } = await flight(at, { buyer, amount });
    waiting.push([settle, order({ settle })]);
    await until(async () => (await sent("pending")) === index + 1, "the pool");
  }
  await moveAway(evm, buyer, 40_000n);
  await evm.rpc("evm_mine");
  const reports = await Promise.all(waiting.map(([settle, first]) => ended(at, settle, first)));
  assert.deepEqual(
    reports.map(({ status }) => status),
    ["failed", "failed", "completed"],
  );
  // Two have cost us gas: the third does not make them good, and begins no longer wait.
  const [held, ...others] = await order("held");
  assert.deepEqual([held?.payer.toLowerCase(), others], [buyer.address.toLowerCase(), []]);
  const minutes = (held.until - Date.now()) / 60_000;
  assert.ok(minutes > 9 && minutes <= 10, String(minutes));
});

settling("a payer's flights never add up to more than he holds", {}, async (at) => {
  const { evm, sent, order } = at;
  const buyer = randomAccount();
  await evm.mint(buyer.address, 15_000n);
  await evm.rpc("evm_setAutomine", [false]);
  const [one, two] = await Promise.all([flight(at, { buyer }), flight(at, { buyer })]);
  const both = [one, two].map(async ({ settle }) => {
    const report = await order({ settle });
    return [report.status, report.reason, report.attempts.length];
  });
  const refused = await Promise.race(both);
  assert.deepEqual(refused, ["failed", "invalid_exact_evm_insufficient_balance", 0]);
  assert.equal(await sent("pending"), 1);
  await evm.rpc("evm_mine");
  const reports = await Promise.all(both);
  assert.deepEqual(reports.map(([status]) => status).sort(), ["completed", "failed"]);
  // What is mined is no longer owed.
  await evm.rpc("evm_setAutomine", [true]);
  const third = await flight(at, { buyer, amount: 5_000n });
  assert.equal((await order({ settle: third.settle })).status, "completed");
  assert.deepEqual([await evm.balance(buyer.address), await sent("latest")], [0n, 2]);
});

settling("an authorization's use is looked for until a node answers who used it", {}, async (at) => {
  const { evm, proxy, sent, order } = at;
  const { settle, buyer, to, data } = await flight(at);
  await evm.mint(buyer.address, 20_000n);
  await evm.rpc("evm_setAutomine", [false]);
  proxy.answer = ({ method }) => (method === "eth_getLogs" ? { error: { code: -32005, message: "query limit exceeded" } } : undefined);
  const waiting = order({ settle });
  await until(async () => (await sent("pending")) === 1, "the pool");
  const quicker = await overtake(evm, ACCOUNTS[2], TOKEN, data);
  await evm.rpc("evm_mine");
  const pending = await waiting;
  assert.deepEqual([pending.status, pending.handed], ["pending", true]);
  assert.equal(await evm.balance(to), 10_000n);
  assert.ok(proxy.calls.includes("eth_getLogs"));
  proxy.answer = () => undefined;
  const report = await order({ settle });
  assert.deepEqual([report.status, report.external, report.transaction, report.units], ["completed", true, quicker, [1]]);
  // Our transaction has reverted and cost us gas; the payer has paid.
  assert.ok(report.spent.total > 0);
  assert.deepEqual(await order("held"), []);
});

settling("who has used an authorization is found where it was used, however long ago", {}, async (at) => {
  const { evm, proxy, sent, order } = at;
  const { settle, buyer, to, data } = await flight(at, { lasts: 7_200 });
  await evm.mint(buyer.address, 20_000n);
  await evm.rpc("evm_setAutomine", [false]);
  const waiting = order({ settle });
  await until(async () => (await sent("pending")) === 1, "the pool");
  // Nobody sees a receipt for a while; the event is then older than what is searched of the newest blocks.
  proxy.answer = ({ method }) => (method === "eth_getTransactionReceipt" ? { result: null } : undefined);
  const quicker = await overtake(evm, ACCOUNTS[2], TOKEN, data);
  await evm.rpc("evm_mine");
  await evm.rpc("anvil_mine", ["0x3e8", "0x1"]);
  proxy.answer = () => undefined;
  const report = await ended(at, settle, waiting);
  assert.deepEqual([report.status, report.external, report.transaction, await evm.balance(to)], ["completed", true, quicker, 10_000n]);
  assert.deepEqual(await order("held"), []);
});

settling("what somebody else has settled is sent by us once its block has left the chain", {}, async (at) => {
  const { evm, sent, order } = at;
  const { settle, buyer, to, data } = await flight(at);
  await evm.mint(buyer.address, 10_000n);
  await evm.rpc("evm_setAutomine", [false]);
  const waiting = order({ settle });
  await until(async () => (await sent("pending")) === 1, "the pool");
  await overtake(evm, ACCOUNTS[2], TOKEN, data);
  await evm.rpc("evm_mine");
  const first = await ended(at, settle, waiting);
  assert.deepEqual([first.status, first.external], ["completed", true], JSON.stringify(first));
  await evm.rpc("evm_setAutomine", [true]);
  await evm.rpc("anvil_reorg", [1, []]);
  assert.equal(await evm.balance(to), 0n);
  await until(async () => (await evm.balance(to)) === 10_000n, "our own transaction", 60_000);
  const report = await ended(at, settle, order({ settle }));
  assert.deepEqual([report.status, report.external, report.reorged], ["completed", false, true], JSON.stringify(report));
});

settling("a block whose state every node has forgotten is judged by a later one", {}, async (at) => {
  const { evm, proxy, sent, order } = at;
  const { settle, buyer } = await flight(at);
  await evm.mint(buyer.address, 10_000n);
  await evm.rpc("evm_setAutomine", [false]);
  const waiting = order({ settle });
  await until(async () => (await sent("pending")) === 1, "the pool");
  await moveAway(evm, buyer, 10_000n);
  const block = `0x${(Number(await evm.rpc("eth_blockNumber")) + 1).toString(16)}`;
  proxy.answer = ({ method, params }) =>
    method === "eth_call" && params[1] === block ? { error: { code: -32000, message: "missing trie node" } } : undefined;
  await evm.rpc("evm_mine");
  await evm.rpc("evm_mine");
  const report = await ended(at, settle, waiting);
  assert.deepEqual([report.status, report.reason], ["failed", "invalid_exact_evm_transaction_failed"], JSON.stringify(report));
});

settling("an earlier version of ours that settles after all is not reported as external", {}, async (at) => {
  const { evm, proxy, sent, order } = at;
  const { settle, buyer, to } = await flight(at);
  await evm.mint(buyer.address, 20_000n);
  // The first is mined, and the node says neither that it has it nor, when all are asked for, its receipt.
  let first;
  proxy.answer = async ({ method, params }, calls) => {
    if (method === "eth_sendRawTransaction" && !first) {
      first = await evm.rpc(method, params);
      return { error: { code: -32000, message: "nonce too low" } };
    }
    const isLook = method === "eth_getTransactionReceipt" && !calls.some((call) => call.method === "eth_chainId");
    return isLook && params[0] === first ? { result: null } : undefined;
  };
  const report = await order({ settle });
  assert.deepEqual([report.status, report.external, report.transaction, report.units], ["completed", false, first, [1]]);
  assert.deepEqual([report.attempts.length, await evm.balance(to), await sent("latest")], [2, 10_000n, 2]);
  assert.deepEqual(await order("held"), []);
});

settling("an attempt that was given up is never launched", {}, async (at) => {
  const { evm, proxy, order } = at;
  const { settle, buyer } = await flight(at);
  await evm.mint(buyer.address, 20_000n);
  const { settlement, attempt } = settle;
  assert.equal(await order({ refuse: { settlement, attempt } }), "refused");
  assert.equal(await order({ refuse: { settlement, attempt } }), "refused");
  const report = await order({ settle });
  assert.deepEqual([report.status, report.reason, report.attempts], ["failed", "unexpected_settle_error", []]);
  assert.deepEqual(proxy.raw, []);
  const next = { ...settle, attempt: 1 };
  await evm.rpc("evm_setAutomine", [false]);
  const waiting = order({ settle: next });
  await until(() => proxy.raw.length > 0, "the launch");
  assert.equal(await order({ refuse: { settlement, attempt: 1 } }), "known");
  await evm.rpc("evm_mine");
  assert.equal((await waiting).status, "completed");
  assert.equal(await order({ refuse: { settlement, attempt: 1 } }), "known");
});

settling("two callers of one attempt share its launch, and neither can end it", {}, async (at) => {
  const { evm, proxy, sent, order } = at;
  const { settle, buyer } = await flight(at);
  await evm.mint(buyer.address, 20_000n);
  let open;
  const hanging = new Promise((resolve) => (open = resolve));
  proxy.answer = ({ method }) => (method === "eth_getTransactionCount" ? hanging : undefined);
  const first = order({ settle });
  await until(() => proxy.calls.includes("eth_getTransactionCount"), "the question");
  const held = order({ settle: { ...settle, held: ["invalid_exact_evm_payload_authorization_valid_before", "it has expired"] } });
  const third = order({ settle });
  assert.equal(await order({ refuse: { settlement: settle.settlement, attempt: 0 } }), "known");
  // That none of them ends has no sign to wait for: one that wrongly ends gets the time to.
  await new Promise((resolve) => setTimeout(resolve, 500));
  open(undefined);
  const reports = await Promise.all([first, held, third]);
  assert.deepEqual(
    reports.map(({ status }) => status),
    ["completed", "completed", "completed"],
  );
  assert.deepEqual([new Set(proxy.raw).size, await sent("latest")], [1, 1]);
});

settling("the free tier's daily budget refuses its launches and no others", { vars: { SETTLE_DAILY_FREE_USD: "0" } }, async (at) => {
  const { evm, proxy, order } = at;
  const buyer = randomAccount();
  await evm.mint(buyer.address, 20_000n);
  const refused = await order({ settle: (await flight(at, { buyer, free: true })).settle });
  assert.deepEqual([refused.status, refused.reason, refused.attempts], ["failed", "quota_exceeded", []]);
  assert.equal(refused.told, "this service's daily budget for transactions on this network is used up");
  assert.deepEqual(proxy.raw, []);
  assert.equal((await order({ settle: (await flight(at, { buyer })).settle })).status, "completed");
});

settling("a signer whose daily budget is used up launches nothing", { vars: { SETTLE_DAILY_SIGNER_USD: "0" } }, async (at) => {
  const { evm, proxy, order } = at;
  const { settle, buyer } = await flight(at);
  await evm.mint(buyer.address, 20_000n);
  assert.equal((await order({ settle })).reason, "quota_exceeded");
  assert.deepEqual(proxy.raw, []);
});

// What one provider's word is not enough for: authorizations of a large payment,
// and the end of a payment on Solana; and who is asked what is final.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { KEYS, TOKEN, startEvm } from "../../scripts/lib/evm.mjs";
import { keyPairText, signer, startSolana } from "../../scripts/lib/solana.mjs";
import { startMock } from "./mock-rpc.mjs";
import { authorizationCall, isExternal, random, signedPayment, signedSvmPayment } from "./payment.mjs";
import { startProxy } from "./proxy.mjs";
import { startWorker, until } from "./worker.mjs";

const AUTHORIZATION_USED = "0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5";
const BUYER = random(20);
let one, two, evm, evms, solana, solanas, worker;

before(async () => {
  [one, two] = [await startMock(), await startMock()];
  [evm, solana] = await Promise.all([startEvm(), startSolana()]);
  evms = [await startProxy(evm.url), await startProxy(evm.url)];
  solanas = [await startProxy(solana.url), await startProxy(solana.url)];
  solana.airdrop((await signer(0x21)).address, 1_000_000_000n);
  const urls = (all) => all.map(({ url }) => url).join();
  worker = await startWorker({
    vars: {
      RPC_BASE: urls([one, two]),
      RPC_LOCAL_EVM: urls(evms),
      RPC_LOCAL_SOLANA: urls(solanas),
      EVM_SIGNERS_TEST: KEYS.at(-1),
      SOLANA_SIGNERS_TEST: await keyPairText(new Uint8Array(32).fill(0x21)),
    },
  });
});
after(async () => {
  await worker?.stop();
  for (const each of [one, two, evm, solana, ...(evms ?? []), ...(solanas ?? [])]) each?.stop();
});

const asIs = () => undefined;
const isTag = ({ method, params }) => method === "eth_getBlockByNumber" && params[0] === "finalized";

/** A payment on Base that both mocks know. */
async function paid({ amount = 1_000000, block = 995, chain = "base" } = {}) {
  for (const mock of [one, two]) mock.reset();
  const to = random(20);
  const tenant = await worker.tenant({ recipients: { [chain]: to } });
  const hash = one.addTransfer({ from: BUYER, to, amount, block });
  two.receipts.set(hash, one.receipts.get(hash));
  const ask = async (more) => (await worker.verify(tenant.live, { tx_hash: hash, chain, ...more })).body;
  return { ...tenant, hash, ask };
}

test("a large payment is bound to its nonce only where two agree on whose authorization was used", async () => {
  const nonce = random(32);
  const bind = (mock, hash, used) => {
    const receipt = mock.receipts.get(hash);
    const [transfer] = receipt.logs;
    const topics = [AUTHORIZATION_USED, transfer.topics[1], used];
    mock.receipts.set(hash, { ...receipt, logs: [...receipt.logs, { ...transfer, topics, data: "0x", logIndex: "0x1" }] });
  };
  /** @type {[number, string[], string][]} */
  const cases = [
    [100_000000, [nonce], "authorization"],
    [100_000000, [], "CHAIN_UNAVAILABLE"],
    [100_000000, [random(32)], "CHAIN_UNAVAILABLE"],
    // A small one is believed to one.
    [99_999999, [], "authorization"],
  ];
  for (const [amount, others, wanted] of cases) {
    const { hash, ask } = await paid({ amount });
    bind(one, hash, nonce);
    for (const used of others) bind(two, hash, used);
    const body = await ask({ authorization_nonce: nonce });
    assert.equal(body.error_code ?? body.binding, wanted, JSON.stringify(body));
  }
});

for (const [name, answer] of [
  ["refuses", { error: { code: -32000, message: "finalized block not found" } }],
  ["has no block for", { result: null }],
]) {
  const vague = (mock) => {
    mock.script = (method, params) => (isTag({ method, params }) ? answer : undefined);
  };

  test(`where the first provider ${name} the finality tag, the next says what is final`, async () => {
    const { ask } = await paid({ block: 900 });
    vague(one);
    // Who asks for less costs no second provider.
    const less = await ask({ claim: false });
    assert.deepEqual([less.status, two.requests], ["confirmed", 0]);
    const body = await ask({ finality: "finalized" });
    assert.deepEqual([body.success, body.status, two.requests], [true, "finalized", 2], JSON.stringify(body));
    const early = await paid({ block: 995 });
    vague(one);
    assert.equal((await early.ask({ finality: "finalized" })).error_code, "NOT_FINAL");
  });

  test(`where every provider ${name} it, no payment is called not final`, async () => {
    const { ask, live } = await paid({ block: 900 });
    for (const mock of [one, two]) vague(mock);
    const body = await ask({ finality: "finalized" });
    assert.deepEqual([body.error_code, body.retry], ["CHAIN_UNAVAILABLE", "later"]);
    assert.match(body.detail, /final/);
    assert.equal((await worker.call("GET", "/v1/usage", { key: live })).body.verifications_used, 0);
    // What else is wrong is said all the same.
    assert.equal((await ask({ finality: "finalized", expected_amount: "2" })).error_code, "AMOUNT_TOO_LOW");
  });

  test(`a payment is followed to its end though the first provider ${name} the tag`, async () => {
    const { ask, live } = await paid({ block: 995 });
    vague(one);
    const { id, status } = await ask({ reference: "a" });
    assert.equal(status, "confirmed");
    two.finalized = 996;
    try {
      const read = async () => (await worker.call("GET", `/v1/verifications/${id}`, { key: live })).body;
      await until(async () => (await read()).status === "finalized", "finality");
    } finally {
      two.finalized = 990;
    }
  });
}

test("finality is not asked for where the chain establishes none", async () => {
  const { live } = await worker.tenant({ recipients: { sonic: random(20) } });
  const ask = (finality) => worker.verify(live, { tx_hash: random(32), chain: "sonic", finality });
  const { status, body } = await ask("finalized");
  assert.deepEqual([status, body.error_code, body.param, body.retry], [422, "INVALID_REQUEST", "finality", "never"]);
  assert.match(body.detail, /sonic/);
  // Nobody listens there: it would be asked.
  assert.equal((await ask("confirmed")).body.error_code, "CHAIN_UNAVAILABLE");
});

test("a settlement is followed to its end though the first provider does not say what is final", async () => {
  evms[0].answer = (call) => (isTag(call) ? { error: { code: -32601, message: "no such tag" } } : undefined);
  try {
    const { settle } = await signedPayment(worker, evm);
    assert.equal((await settle()).body.success, true);
    await evm.rpc("anvil_mine", ["0x50"]);
    const asked = () => evms[1].calls.filter((method) => method === "eth_getTransactionReceipt").length;
    const before = asked();
    // A settlement as such costs no second provider.
    assert.equal((await (await signedPayment(worker, evm)).settle()).body.success, true);
    assert.equal(asked(), before);
    // The first look comes after 15 s of the Worker's clock.
    await worker.advance(16_000);
    await until(async () => {
      await worker.call("GET", "/v1/health");
      const next = await signedPayment(worker, evm);
      await next.settle();
      return asked() > before;
    }, "a look at the second provider");
  } finally {
    evms[0].answer = asIs;
  }
});

/** Sends a payment's authorization as anybody may. */
async function sendElsewhere({ body }) {
  const [sender] = await evm.rpc("eth_accounts", []);
  const hash = await evm.rpc("eth_sendTransaction", [{ from: sender, to: TOKEN, data: await authorizationCall(body) }]);
  await evm.mined(hash);
  return hash;
}

test("that nobody has settled a large payment is believed to two providers only", async () => {
  const forgets = ({ method }) => (method === "eth_getLogs" ? { result: [] } : undefined);
  evms[0].answer = forgets;
  try {
    const small = await signedPayment(worker, evm);
    await sendElsewhere(small);
    assert.equal((await small.settle()).body.errorReason, "invalid_exact_evm_nonce_already_used");
    const large = await signedPayment(worker, evm, { amount: 100_000000n, holds: 100_000000n });
    const hash = await sendElsewhere(large);
    const settled = await large.settle();
    assert.deepEqual([settled.body.success, settled.body.transaction, isExternal(settled)], [true, hash, true], settled.text);
    const forgotten = await signedPayment(worker, evm, { amount: 100_000000n, holds: 100_000000n });
    await sendElsewhere(forgotten);
    evms[1].answer = ({ method }) => (method === "eth_getLogs" ? { error: { code: -32000, message: "no" } } : undefined);
    assert.equal((await forgotten.settle()).body.errorReason, "unexpected_settle_error");
    evms[1].answer = forgets;
    assert.equal((await forgotten.settle()).body.errorReason, "invalid_exact_evm_nonce_already_used");
  } finally {
    for (const proxy of evms) proxy.answer = asIs;
  }
});

test("a Solana signature without a status is as final as the node that has its transaction says", async () => {
  const buyer = await signer(0x31);
  await solana.fund(buyer.address, 9_000000n);
  const wallet = await signer(0x32);
  const { test: key } = await worker.tenant({ recipients: { "local-solana": wallet.address } });
  const signature = await solana.pay({ from: buyer, to: wallet.address, amount: 1_000000n });
  const ask = async () =>
    (await worker.verify(key, { tx_hash: signature, chain: "local-solana", finality: "finalized", claim: false })).body;
  const isFinalized = ({ method, params }) => method === "getTransaction" && params[1].commitment === "finalized";
  const without = (answer) => (call) => {
    if (call.method === "getSignatureStatuses") return { result: { context: { slot: solana.slot }, value: [null] } };
    return isFinalized(call) ? answer : undefined;
  };
  const all = (answer) => {
    for (const proxy of solanas) proxy.answer = answer;
  };
  try {
    all(without({ result: null }));
    assert.equal((await ask()).error_code, "NOT_FINAL");
    all(without({ error: { code: -32011, message: "no history" } }));
    assert.equal((await ask()).error_code, "CHAIN_UNAVAILABLE");
    solanas[1].answer = without(undefined);
    const body = await ask();
    assert.deepEqual([body.success, body.status], [true, "finalized"], JSON.stringify(body));
  } finally {
    all(asIs);
  }
});

test("a payment on Solana fails for good on two providers' word", async () => {
  const { settle, test: key } = await signedSvmPayment(worker, solana);
  await solana.answer("local_drop", [1_000_000]);
  try {
    const waiting = (await settle()).body;
    assert.equal(waiting.errorReason, "settlement_pending", JSON.stringify(waiting));
    const read = async () => (await worker.call("GET", `/v1/settlements/${waiting.extra.settlementId}`, { key })).body;
    // The first alone is past the last block; the second does not say.
    solanas[1].answer = ({ method }) => (method === "getBlockHeight" ? { error: { code: -32005, message: "behind" } } : undefined);
    await solana.answer("local_skip", [200]);
    const looks = () => solanas[1].calls.filter((method) => method === "getBlockHeight").length;
    const before = looks();
    await until(() => looks() >= before + 2, "two looks at both");
    assert.equal((await read()).status, "pending");
    // It says that it knows the transaction.
    solanas[1].answer = ({ method, params }) =>
      method === "getSignatureStatuses"
        ? { result: { context: { slot: 1 }, value: params[0].map(() => ({ slot: 1, confirmationStatus: "processed", err: null })) } }
        : undefined;
    const later = looks();
    await until(() => looks() >= later + 2, "two more");
    assert.equal((await read()).status, "pending");
    solanas[1].answer = asIs;
    await until(async () => (await read()).status === "failed", "the end");
    assert.equal((await read()).reason, "invalid_exact_svm_transaction_failed");
  } finally {
    solanas[1].answer = asIs;
    await solana.answer("local_drop", [0]);
  }
});

test("that a transaction failed on Solana is believed to two providers only", async () => {
  const { settle, paid, test: key } = await signedSvmPayment(worker, solana);
  const failed = { slot: 1, confirmationStatus: "confirmed", err: { InstructionError: [0, "Custom"] } };
  // A node that errs, or lies, about what it has just taken.
  solanas[0].answer = ({ method, params }) =>
    method === "getSignatureStatuses" ? { result: { context: { slot: 1 }, value: params[0].map(() => failed) } } : undefined;
  try {
    const asked = settle();
    await until(async () => (await paid()) === 10_000n, "the money");
    const { body } = await asked;
    assert.notEqual(body.errorReason, "invalid_exact_svm_transaction_failed", JSON.stringify(body));
    const [{ id, status }] = (await worker.call("GET", "/v1/settlements", { key })).body.data;
    assert.notEqual(status, "failed");
    solanas[0].answer = asIs;
    const read = async () => (await worker.call("GET", `/v1/settlements/${id}`, { key })).body;
    await until(async () => (await read()).status === "completed", "the end");
  } finally {
    solanas[0].answer = asIs;
  }
});

// What a refusal says: what was found, in words that name who can mend it.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { KEYS, TOKEN, startEvm } from "../../scripts/lib/evm.mjs";
import { keyPairText, randomSigner, signer, startSolana } from "../../scripts/lib/solana.mjs";
import { sign, signSvm, signedPayment } from "./payment.mjs";
import { startProxy } from "./proxy.mjs";
import { startWorker } from "./worker.mjs";

/** Circle's gateway on EVM: what another party's requirements name. */
const GATEWAY = "0x77777777Dcc4d5A8B6E418Fd04D8997ef11000eE";
let evm, chain, proxy, worker;
before(async () => {
  [evm, chain] = await Promise.all([startEvm(), startSolana()]);
  proxy = await startProxy(evm.url);
  const seed = new Uint8Array(32).fill(0x23);
  chain.airdrop((await signer(0x23)).address, 1_000_000_000n);
  const vars = {
    RPC_LOCAL_EVM: proxy.url,
    EVM_SIGNERS_TEST: KEYS.at(-1),
    RPC_LOCAL_SOLANA: chain.url,
    SOLANA_SIGNERS_TEST: await keyPairText(seed),
  };
  worker = await startWorker({ vars });
});
after(async () => {
  await worker?.stop();
  proxy?.stop();
  chain?.stop();
  evm?.stop();
});

test("an authorization that was used is said to be used", async () => {
  const { settle, body, to } = await signedPayment(worker, evm);
  assert.equal((await settle()).body.success, true);
  // Another service on the same chain has no record of it.
  const other = await startWorker({ vars: { RPC_LOCAL_EVM: evm.url, EVM_SIGNERS_TEST: KEYS.at(-2) } });
  try {
    const { test: key } = await other.tenant({ recipients: { "local-evm": to } });
    const { body: verified } = await other.call("POST", "/facilitator/verify", { key, body });
    assert.deepEqual([verified.isValid, verified.invalidReason], [false, "invalid_exact_evm_nonce_already_used"]);
    assert.equal(verified.invalidMessage, "the authorization was used or cancelled before");
    assert.deepEqual(verified.extra.checks.at(-1), { name: "authorization_unused", passed: false, detail: verified.invalidMessage });
  } finally {
    await other.stop();
  }
});

test("requirements of another party's gateway are refused by name, those of the asset are not", async () => {
  const { buyer, to, verify, settle } = await signedPayment(worker, evm);
  const named = (verifyingContract, name = "USDC") =>
    sign({ buyer, to, requirements: { extra: { name, version: "2", verifyingContract } } });
  const foreign = await named(GATEWAY, "GatewayWalletBatched");
  const { body: verified } = await verify(foreign);
  assert.deepEqual([verified.isValid, verified.invalidReason], [false, "invalid_payment_requirements"], JSON.stringify(verified));
  assert.ok(
    verified.invalidMessage.startsWith(`extra.verifyingContract is '${GATEWAY}', another contract than the asset`),
    verified.invalidMessage,
  );
  const { body: settled } = await settle(foreign);
  assert.deepEqual([settled.errorReason, settled.errorMessage], ["invalid_payment_requirements", verified.invalidMessage]);
  assert.equal((await verify(await named(7))).body.invalidReason, "invalid_payment_requirements");
  assert.equal((await verify(await named(TOKEN.toLowerCase()))).body.isValid, true);
});

test("a payer whose code cannot be read is not called a forger", async () => {
  const { verify, settle, to, buyer } = await signedPayment(worker, evm);
  proxy.answer = ({ method, params }) =>
    method === "eth_getCode" && params[0].toLowerCase() === buyer.address.toLowerCase()
      ? { error: { code: -32000, message: "state is not available" } }
      : undefined;
  try {
    for (const [ask, reason] of /** @type {const} */ ([
      [verify, "invalidReason"],
      [settle, "errorReason"],
    ])) {
      const { status, body } = await ask();
      assert.deepEqual(
        [status, body[reason], body.extra.retry],
        [200, "invalid_exact_evm_failed_to_verify_signature", "later"],
        JSON.stringify(body),
      );
    }
  } finally {
    proxy.answer = () => undefined;
  }
  assert.deepEqual([(await verify()).body.isValid, (await settle()).body.success, await evm.balance(to)], [true, true, 10_000n]);
});

test("what is missing from a request is named", async () => {
  const { verify, body } = await signedPayment(worker, evm);
  const bare = structuredClone(body);
  delete bare.paymentRequirements.asset;
  delete bare.paymentRequirements.payTo;
  assert.match((await verify(bare)).body.invalidMessage, /^paymentRequirements lacks asset, payTo/);
  const wrong = structuredClone(body);
  wrong.paymentRequirements.network = wrong.paymentPayload.accepted.network = "eip155:31337";
  wrong.paymentRequirements.extra = wrong.paymentPayload.accepted.extra = { name: "USD Coin", version: "2" };
  assert.equal((await verify(wrong)).body.invalidMessage, "extra.name is 'USD Coin', the token's name is 'USDC'");
});

test("every failure to settle has a message, a fault's too", async () => {
  const { settle, body } = await signedPayment(worker, evm, { holds: 5_000n });
  const poor = (await settle()).body;
  assert.deepEqual(
    [poor.errorReason, poor.errorMessage],
    ["invalid_exact_evm_insufficient_balance", "the payer holds 5000, and 10000 are to be paid"],
  );
  const forged = await worker.call("POST", "/facilitator/settle", { key: "x402_test_forged", body });
  assert.deepEqual([forged.status, forged.body.errorReason, forged.body.errorMessage], [401, "unauthorized", forged.body.detail]);
  const other = await worker.tenant();
  const stolen = (await settle(body, other.test)).body;
  assert.deepEqual([stolen.errorReason, typeof stolen.errorMessage], ["pay_to_not_allowed", "string"]);
});

test("on Solana a seller without a token account is named as such", async () => {
  const [buyer, seller] = await Promise.all([randomSigner(), randomSigner()]);
  const { test: key } = await worker.tenant({ recipients: { "local-solana": seller.address } });
  await chain.fund(buyer.address, 1_000_000n);
  const { kinds } = (await worker.call("GET", "/facilitator/supported", { key })).body;
  const { feePayer } = kinds.find(({ network }) => network === "solana:local").extra;
  const body = await signSvm({ chain, buyer, to: seller.address, feePayer });
  const account = await chain.ata(seller.address, body.paymentRequirements.asset);
  const want = `payTo's token account ${account} does not exist: the seller must create it`;
  const reason = "invalid_exact_svm_transaction_simulation_failed";
  const { body: verified } = await worker.call("POST", "/facilitator/verify", { key, body });
  assert.deepEqual([verified.isValid, verified.invalidReason, verified.invalidMessage], [false, reason, want], JSON.stringify(verified));
  const { body: settled } = await worker.call("POST", "/facilitator/settle", { key, body });
  assert.deepEqual([settled.success, settled.errorReason, settled.errorMessage], [false, reason, want]);
  await chain.fund(seller.address, 0n);
  assert.equal((await worker.call("POST", "/facilitator/settle", { key, body })).body.success, true);
});

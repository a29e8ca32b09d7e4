// The addresses at which sellers are paid, registered by themselves: proofs of real wallets on the real Worker.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
  OffchainMessageContentFormat,
  getBase58Decoder,
  getOffchainMessageV0Encoder,
  getOffchainMessageV1Encoder,
  offchainMessageApplicationDomain,
  signBytes,
} from "@solana/kit";
import { serializeErc6492Signature } from "viem";
import { ACCOUNTS, randomAccount, startEvm } from "../../scripts/lib/evm.mjs";
import { startSolana } from "../../scripts/lib/solana.mjs";
import { randomSigner } from "../../scripts/lib/solana-accounts.mjs";
import { Browser, address as newEmail, mailTo, signedUp } from "./browser.mjs";
import { receivers } from "./receivers.mjs";
import { startWorker } from "./worker.mjs";

/** The account m/44'/60'/0' of "test test … junk". */
const XPUB = "xpub6Ce9NcJvTk36xtLSrJLZqE7wtgA5deCeYs7rSQtreh4cj6ByPtrg9sD7V2FNFLPnf8heNP3FGkeV9qwfzvZNSd54JoNXVsXFYSYwHsnJxqP";
/** On the list of the US Treasury. */
const LISTED = "0x098B716B8Aaf21512996dC57EB0615e2383E2f96";
const MINUTE = 60_000;
const base58 = getBase58Decoder();
let evm, solana, worker;

before(async () => {
  [evm, solana] = await Promise.all([startEvm(), startSolana()]);
  await evm.mint(ACCOUNTS[1].address, 1_000_000000n);
  worker = await startWorker({
    vars: { MAIL_BACKEND: "mailbox", EVM_XPUB: XPUB, RPC_LOCAL_EVM: evm.url, RPC_LOCAL_SOLANA: solana.url },
    outbound: receivers().outbound,
  });
});
after(async () => {
  await worker?.stop();
  evm?.stop();
  solana?.stop();
});

const refusal = ({ status, body }) => [status, body.error_code, body.param];
const ask = (by, chain, address) => by.browser.call("POST", "/v1/recipients/challenge", { chain, address });
const add = (by, body) => by.browser.call("POST", "/v1/recipients", body);
const list = async (by) => (await by.browser.call("GET", "/v1/recipients")).body.data;
const retire = (by, address) => by.browser.call("DELETE", `/v1/recipients/${address}`);
const setDefault = (by, address, chain) => by.browser.call("PATCH", `/v1/recipients/${address}`, { default_for: chain });

/** A seller who has signed up, with the tenant's first keys. */
async function seller(tier) {
  const owner = await signedUp(worker);
  const id = owner.session.tenant.id;
  if (tier) await operator("PATCH", `/v1/admin/tenants/${id}`, { tier });
  return { ...owner, id, live: owner.api_keys.live, test: owner.api_keys.test };
}

async function operator(method, path, body) {
  const answer = await worker.call(method, path, { admin: true, body });
  assert.ok(answer.status < 300, answer.text);
  return answer.body;
}

/** A challenge and the body that answers it, signed by an EVM account unless `signature` says otherwise. */
async function proof(by, chain, account, signature) {
  const asked = await ask(by, chain, account.address);
  assert.equal(asked.status, 201, JSON.stringify(asked.body));
  const { message, nonce } = asked.body;
  return { chain, address: account.address, nonce, signature: signature ?? (await account.signMessage({ message })) };
}

/** Whether the tenant's ledger takes an address as its own: then the chain is asked, which nobody answers here. */
async function isOwn(key, chain, recipient) {
  const { body } = await worker.verify(key, { tx_hash: `0x${"ab".repeat(32)}`, chain, recipient });
  assert.ok(["CHAIN_UNAVAILABLE", "RECIPIENT_NOT_REGISTERED"].includes(body.error_code), JSON.stringify(body));
  return body.error_code === "CHAIN_UNAVAILABLE";
}

test("a wallet's signature registers its address, and the very next request knows it", async () => {
  const [ann, account] = [await seller(), randomAccount()];
  assert.equal(await isOwn(ann.live, "base", account.address), false);
  const asked = await ask(ann, "eip155:8453", account.address.toLowerCase());
  assert.equal(asked.status, 201);
  const { message, nonce, expires_at } = asked.body;
  for (const line of [
    `Service: ${worker.url}`,
    `Tenant: ${ann.id}`,
    "Environment: live",
    "Chain: base (eip155:8453)",
    `Address: ${account.address}`,
    `Nonce: ${nonce}`,
    `Expires: ${expires_at}`,
  ])
    assert.ok(message.split("\n").includes(line), `${line} in ${message}`);
  const left = Date.parse(expires_at) - Date.now();
  assert.ok(left > 9 * MINUTE && left <= 10 * MINUTE, `${left} ms`);
  const added = await add(ann, { chain: "base", address: account.address, nonce, signature: await account.signMessage({ message }) });
  assert.equal(added.status, 201, JSON.stringify(added.body));
  const { recipient, token_account, warning } = added.body;
  assert.deepEqual([recipient.address, recipient.environment, recipient.proof], [account.address, "live", "eip191"]);
  assert.deepEqual([recipient.only_on, recipient.default_for, recipient.removed_at], [null, ["base"], null]);
  assert.deepEqual([token_account, warning], [null, null], "no token account is needed on EVM");
  assert.deepEqual(await list(ann), [recipient]);
  assert.equal(await isOwn(ann.live, "base", account.address), true);
  const entries = (await ann.browser.call("GET", "/v1/audit-log?action=recipient.added")).body.data;
  assert.deepEqual(
    entries.map(({ subject, detail }) => [subject, detail]),
    [[account.address, "base"]],
  );
  const [event] = await worker.sql("SELECT kind, environment FROM directory_outbox WHERE subject = ?", account.address);
  assert.deepEqual(event, { kind: "recipient.added", environment: "live" });
});

test("a signature counts for its tenant, chain, environment, address and nonce, once", async () => {
  const [ann, bob] = [await seller("pro"), await seller("pro")];
  const [account, other] = [randomAccount(), randomAccount()];
  const good = await proof(ann, "base", account);
  const nonce = [422, "INVALID_PROOF", "nonce"];
  assert.deepEqual(refusal(await add(bob, good)), nonce, "another tenant");
  for (const chain of ["polygon", "base-sepolia", "local-evm"])
    assert.deepEqual(refusal(await add(ann, { ...good, chain })), nonce, `another chain: ${chain}`);
  assert.deepEqual(refusal(await add(ann, { ...good, address: other.address })), nonce, "another address");
  for (const wrong of ["ab".repeat(16), "x", good.nonce.toUpperCase()])
    assert.deepEqual(refusal(await add(ann, { ...good, nonce: wrong })), nonce, "another nonce");
  assert.deepEqual(await list(ann), []);
  // Parallel repeats: one registers, once. One that comes later gets the same answer again.
  const all = await Promise.all([1, 2, 3, 4].map(() => add(ann, good)));
  const made = all.filter(({ status }) => status === 201);
  assert.ok(made.length > 0 && all.every(({ status }) => status === 201 || status === 422));
  const again = await add(ann, good);
  assert.deepEqual([again.status, again.body], [201, made[0].body], "a repeat");
  assert.deepEqual(refusal(await add(bob, good)), nonce, "a repeat by another tenant");
  const added = "SELECT 1 FROM directory_outbox WHERE subject = ? AND kind = 'recipient.added'";
  assert.equal((await worker.sql(added, account.address)).length, 1);
  assert.equal((await retire(ann, account.address)).status, 200);
  assert.deepEqual(refusal(await add(ann, good)), nonce, "a repeat does not bring it back");
});

test("an address is registered although a ledger was not reached, and the same request is answered alike", async () => {
  const ann = await seller("pro");
  const account = randomAccount();
  const good = await proof(ann, "base", account);
  await worker.fault({ names: `"reload"`, unsent: true, stays: true });
  const first = await add(ann, good);
  assert.deepEqual([first.status, first.body.in_force], [201, false]);
  const second = await add(ann, good);
  assert.deepEqual([second.status, second.body], [201, first.body]);
  await worker.fault(null);
  const last = await add(ann, good);
  assert.deepEqual([last.status, last.body], [201, { ...first.body, in_force: true }]);
});

test("a signature by another key or over another message is refused, five times at most", async () => {
  const [ann, account] = [await seller(), randomAccount()];
  const good = await proof(ann, "local-evm", account);
  const signature = [422, "INVALID_PROOF", "signature"];
  const strangers = await randomAccount().signMessage({ message: (await ask(ann, "local-evm", account.address)).body.message });
  for (const wrong of [
    strangers,
    await account.signMessage({ message: "another" }),
    await account.signMessage({ message: (await ask(ann, "local-evm", account.address)).body.message }),
    serializeErc6492Signature({ address: account.address, data: "0x", signature: good.signature }),
  ])
    assert.deepEqual(refusal(await add(ann, { ...good, signature: wrong })), signature, wrong);
  for (const form of ["", "0x1", "hello", `0x${"11".repeat(8_193)}`]) {
    const { status, body } = await add(ann, { ...good, signature: form });
    assert.deepEqual([status, body.param], [422, "signature"], "a text that is no signature costs no try");
  }
  assert.equal((await add(ann, good)).status, 201, "the fifth try");
  const next = await proof(ann, "local-evm", randomAccount());
  for (let tries = 0; tries < 5; tries++) await add(ann, { ...next, signature: strangers });
  assert.deepEqual(refusal(await add(ann, next)), [422, "INVALID_PROOF", "nonce"]);
});

test("a Solana wallet signs the bytes, or an off-chain message that holds them", async () => {
  const ann = await seller();
  for (const form of ["raw", "v0", "v1"]) {
    const wallet = await randomSigner();
    const signed = { address: wallet.address };
    const asked = await ask(ann, "local-solana", wallet.address);
    const { message, nonce } = asked.body;
    const bytes = {
      raw: () => new TextEncoder().encode(message),
      v0: () =>
        getOffchainMessageV0Encoder().encode({
          version: 0,
          applicationDomain: offchainMessageApplicationDomain("1".repeat(32)),
          content: /** @type {any} */ ({ format: OffchainMessageContentFormat.UTF8_1232_BYTES_MAX, text: message }),
          requiredSignatories: [signed],
        }),
      v1: () => getOffchainMessageV1Encoder().encode({ version: 1, content: message, requiredSignatories: [signed] }),
    }[form]();
    const of = async (given) => base58.decode(await signBytes(wallet.keyPair.privateKey, given));
    const body = { chain: "local-solana", address: wallet.address, nonce, signature: await of(bytes) };
    const other = await of(new TextEncoder().encode(`${message} `));
    assert.deepEqual(refusal(await add(ann, { ...body, signature: other })), [422, "INVALID_PROOF", "signature"]);
    const added = await add(ann, body);
    assert.deepEqual([added.status, added.body.recipient?.proof], [201, "ed25519"], `${form}: ${JSON.stringify(added.body)}`);
  }
  const off = await solana.ata((await randomSigner()).address);
  assert.deepEqual(refusal(await ask(ann, "local-solana", off)), [422, "INVALID_REQUEST", "address"], "a token account");
});

test("on Solana the answer says whether the wallet has a USDC account", async () => {
  const ann = await seller();
  const added = async (chain, wallet) => {
    const { message, nonce } = (await ask(ann, chain, wallet.address)).body;
    const signature = base58.decode(await signBytes(wallet.keyPair.privateKey, new TextEncoder().encode(message)));
    const answer = await add(ann, { chain, address: wallet.address, nonce, signature });
    assert.equal(answer.status, 201, JSON.stringify(answer.body));
    return answer.body;
  };
  const [poor, rich, unknown] = [await randomSigner(), await randomSigner(), await randomSigner()];
  const without = await added("local-solana", poor);
  assert.deepEqual(without.token_account, { address: await solana.ata(poor.address), exists: false });
  assert.match(without.warning, /no USDC account/);
  await solana.fund(rich.address, 1n);
  const funded = await added("local-solana", rich);
  assert.deepEqual([funded.token_account, funded.warning], [{ address: await solana.ata(rich.address), exists: true }, null]);
  // Nobody answers for the live chain: the address is registered all the same.
  const silent = await added("solana", unknown);
  assert.deepEqual([silent.token_account.exists, silent.recipient.environment], [null, "live"]);
  assert.match(silent.warning, /unknown/);
});

test("a contract answers for the chain on which it was asked, and for no other", async () => {
  const ann = await seller();
  const owner = randomAccount();
  const address = await evm.deploy("OwnedWallet", [owner.address]);
  const wallet = { ...owner, address };
  const strange = await proof(ann, "local-evm", { ...randomAccount(), address });
  assert.deepEqual(refusal(await add(ann, strange)), [422, "INVALID_PROOF", "signature"]);
  const added = await add(ann, await proof(ann, "local-evm", wallet));
  assert.equal(added.status, 201, JSON.stringify(added.body));
  const { proof: kind, only_on, default_for } = added.body.recipient;
  assert.deepEqual([kind, only_on, default_for], ["erc1271", ["local-evm"], ["local-evm"]]);
  const elsewhere = await worker.verify(ann.test, { tx_hash: `0x${"ab".repeat(32)}`, chain: "base-sepolia", recipient: address });
  assert.equal(elsewhere.body.error_code, "RECIPIENT_NOT_REGISTERED");
  assert.match(elsewhere.body.detail, /local-evm only/);
  assert.deepEqual(refusal(await setDefault(ann, address, "base-sepolia")), [422, "INVALID_REQUEST", "default_for"]);
  // The contract cannot be asked there; the signature is not held against the seller.
  const unread = await proof(ann, "base-sepolia", wallet);
  assert.deepEqual(refusal(await add(ann, unread)).slice(0, 2), [503, "CHAIN_UNAVAILABLE"]);
  const hash = await evm.pay({ to: address, amount: 1_000000n });
  assert.equal((await worker.verify(ann.test, { tx_hash: hash, chain: "local-evm" })).body.success, true);
  // The operator's word counts for all chains.
  await operator("POST", `/v1/admin/tenants/${ann.id}/recipients`, { chain: "base-sepolia", address });
  assert.equal(await isOwn(ann.test, "base-sepolia", address), true);
});

test("a signature of a wallet that is not deployed proves nothing", async () => {
  const ann = await seller();
  const account = randomAccount();
  const good = await proof(ann, "local-evm", account);
  const wrapped = serializeErc6492Signature({ address: account.address, data: "0x12", signature: good.signature });
  const { body } = await add(ann, { ...good, signature: wrapped });
  assert.equal(body.error_code, "INVALID_PROOF");
  assert.match(body.detail, /deploy it first/);
});

test("a challenge ends after ten minutes, and a tenant has a hundred at most", async () => {
  const own = await startWorker({ vars: { MAIL_BACKEND: "mailbox" } });
  try {
    const ann = await signedUp(own);
    const account = randomAccount();
    const late = await proof(ann, "base", account);
    const intime = await proof(ann, "base", account);
    await own.advance(10 * MINUTE - 5_000);
    assert.equal((await add(ann, intime)).status, 201);
    await own.advance(5_001);
    assert.deepEqual(refusal(await add(ann, late)), [422, "INVALID_PROOF", "nonce"]);
    for (let batch = 0; batch < 10; batch++) {
      const all = await Promise.all(Array.from({ length: 10 }, () => ask(ann, "base", account.address)));
      assert.ok(all.every(({ status }) => status === 201));
    }
    const many = await ask(ann, "base", account.address);
    assert.deepEqual(refusal(many).slice(0, 2), [429, "RATE_LIMITED"]);
    assert.equal(many.headers["retry-after"], "600");
    const bob = await signedUp(own);
    assert.equal((await ask(bob, "base", account.address)).status, 201, "another tenant has its own hundred");
    await own.advance(10 * MINUTE);
    assert.equal((await ask(ann, "base", account.address)).status, 201);
    await own.advance(2 * 24 * 60 * MINUTE);
    await own.cron("17 3 * * *");
    assert.deepEqual(await own.sql("SELECT nonce FROM recipient_challenges"), []);
  } finally {
    await own.stop();
  }
});

test("a tier's chains, the sanctions list and other tenants' addresses are refused", async () => {
  const [ann, bob] = [await seller(), await seller()];
  const account = randomAccount();
  for (const chain of ["polygon", "polygon-amoy"]) {
    const refused = await ask(ann, chain, account.address);
    assert.deepEqual(refusal(refused), [403, "CHAIN_NOT_ENABLED", "chain"]);
    assert.match(refused.body.upgrade_url, /\/docs\/tiers$/);
    assert.equal((await add(ann, { chain, address: "derive" })).body.error_code, "CHAIN_NOT_ENABLED");
  }
  assert.deepEqual(refusal(await ask(ann, "base", LISTED)), [403, "SANCTIONED_RECIPIENT", "address"]);
  assert.equal(
    (await add(ann, { chain: "base", address: LISTED, nonce: "ab".repeat(16), signature: "0x11" })).body.error_code,
    "SANCTIONED_RECIPIENT",
  );
  assert.deepEqual(refusal(await ask(ann, "doge", account.address)), [422, "INVALID_CHAIN", "chain"]);
  // Both hold the key; the address is the first tenant's, for good.
  const [hers, his] = [await proof(ann, "base", account), await proof(bob, "base", account)];
  assert.equal((await add(ann, hers)).status, 201);
  assert.deepEqual(refusal(await add(bob, his)), [409, "RECIPIENT_TAKEN", "address"]);
  assert.equal((await retire(ann, account.address)).status, 200);
  assert.deepEqual(refusal(await add(bob, await proof(bob, "base", account))), [409, "RECIPIENT_TAKEN", "address"]);
  assert.equal((await add(ann, await proof(ann, "base", account))).status, 201, "it comes back to its tenant");
  assert.equal(await isOwn(ann.live, "base", account.address), true);
  assert.deepEqual(await list(bob), []);
  // The default of a chain is never another tenant's address.
  assert.deepEqual(await worker.sql("SELECT * FROM default_recipients WHERE tenant_id = ?", bob.id), []);
});

test("an address is the tenant's by proof, although another has used it first in test", async () => {
  const [ann, bob] = [await seller(), await seller()];
  const account = randomAccount();
  assert.equal(await isOwn(bob.test, "base-sepolia", account.address), true, "its first use registers it");
  const added = await add(ann, await proof(ann, "base-sepolia", account));
  assert.equal(added.status, 201, JSON.stringify(added.body));
  assert.equal(await isOwn(ann.test, "base-sepolia", account.address), true);
  assert.equal(await isOwn(bob.test, "base-sepolia", account.address), false);
});

test("an address is derived, without a signature", async () => {
  const ann = await seller("starter");
  const [one, two] = [
    await add(ann, { chain: "base", address: "derive" }),
    await add(ann, { chain: "base", address: "derive", default: true }),
  ];
  assert.deepEqual([one.status, two.status], [201, 201], JSON.stringify(one.body));
  assert.notEqual(one.body.recipient.address, two.body.recipient.address);
  assert.deepEqual([one.body.recipient.proof, two.body.recipient.default_for], ["derived", ["base"]]);
  assert.deepEqual(refusal(await add(ann, { chain: "solana", address: "derive" })), [422, "INVALID_REQUEST", "address"]);
  assert.equal(await isOwn(ann.live, "base", one.body.recipient.address), true);
});

test("a default is chosen, and a retired address is refused at once", async () => {
  const ann = await seller();
  const [first, second] = [randomAccount(), randomAccount()];
  for (const account of [first, second]) assert.equal((await add(ann, await proof(ann, "base", account))).status, 201);
  const defaults = async () => Object.fromEntries((await list(ann)).map(({ address, default_for }) => [address, default_for]));
  assert.deepEqual(await defaults(), { [first.address]: ["base"], [second.address]: [] });
  const changed = await setDefault(ann, second.address.toLowerCase(), "base");
  assert.deepEqual([changed.status, changed.body.recipient.default_for], [200, ["base"]]);
  assert.equal((await setDefault(ann, second.address, "base")).status, 200, "a repeat");
  assert.deepEqual(await defaults(), { [first.address]: [], [second.address]: ["base"] });
  assert.deepEqual(refusal(await setDefault(ann, first.address, "base-sepolia")), [422, "INVALID_REQUEST", "default_for"]);
  assert.deepEqual(refusal(await setDefault(ann, first.address, "polygon")).slice(0, 2), [403, "CHAIN_NOT_ENABLED"]);
  assert.deepEqual(refusal(await setDefault(ann, randomAccount().address, "base")).slice(0, 2), [404, "NOT_FOUND"]);
  const gone = await retire(ann, second.address);
  assert.equal(gone.status, 200);
  assert.ok(gone.body.data.every(({ removed_at, default_for }) => removed_at !== null && default_for.length === 0));
  assert.equal(await isOwn(ann.live, "base", second.address), false);
  assert.equal(await isOwn(ann.live, "base", first.address), true);
  assert.deepEqual(refusal(await setDefault(ann, second.address, "base")), [422, "INVALID_REQUEST", "default_for"]);
  assert.equal((await retire(ann, second.address)).status, 200, "a repeat changes nothing");
  for (const nobody of [randomAccount().address, "x"]) assert.deepEqual(refusal(await retire(ann, nobody)).slice(0, 2), [404, "NOT_FOUND"]);
  const entries = (await ann.browser.call("GET", "/v1/audit-log")).body.data.filter(({ action }) => action.startsWith("recipient."));
  assert.deepEqual(
    entries.map(({ action, subject }) => [action, subject]),
    [
      ["recipient.retired", second.address],
      ["recipient.default", second.address],
      ["recipient.added", second.address],
      ["recipient.added", first.address],
    ],
  );
});

test("a retired address keeps the claims that were made on it", async () => {
  const ann = await seller();
  const account = randomAccount();
  assert.equal((await add(ann, await proof(ann, "local-evm", account))).status, 201);
  const hash = await evm.pay({ to: account.address, amount: 2_000000n });
  const ask = (reference) => worker.verify(ann.test, { tx_hash: hash, chain: "local-evm", reference });
  const claimed = (await ask("order-1")).body;
  assert.equal(claimed.success, true);
  assert.equal((await retire(ann, account.address)).status, 200);
  assert.equal((await ask("order-2")).body.error_code, "RECIPIENT_NOT_REGISTERED");
  const record = await worker.call("GET", `/v1/verifications/${claimed.id}`, { key: ann.test });
  assert.deepEqual([record.status, record.body.claimed, record.body.reference], [200, true, "order-1"]);
  assert.equal((await add(ann, await proof(ann, "local-evm", account))).status, 201);
  assert.equal((await ask("order-2")).body.error_code, "ALREADY_CLAIMED");
  assert.deepEqual([(await ask("order-1")).body.replayed, (await ask("order-1")).body.id], [true, claimed.id]);
});

test("a key with the scope manage acts in its own environment, and as itself", async () => {
  const ann = await seller();
  const account = randomAccount();
  const keyOf = async (environment, scopes) =>
    (await operator("POST", `/v1/admin/tenants/${ann.id}/api-keys`, { name: environment, environment, scopes })).key;
  const by = (key) => ({ browser: { call: (method, path, body) => worker.call(method, path, { key, body }) } });
  const [live, test, weak] = [
    by(await keyOf("live", ["manage"])),
    by(await keyOf("test", ["manage"])),
    by(await keyOf("live", ["verify"])),
  ];
  assert.deepEqual(refusal(await ask(live, "base-sepolia", account.address)), [403, "ENVIRONMENT_MISMATCH", "chain"]);
  assert.deepEqual(refusal(await ask(test, "base", account.address)), [403, "ENVIRONMENT_MISMATCH", "chain"]);
  assert.deepEqual(refusal(await ask(weak, "base", account.address)).slice(0, 2), [403, "INSUFFICIENT_SCOPE"]);
  assert.equal((await add(live, await proof(live, "base", account))).status, 201);
  assert.equal((await add(test, await proof(test, "base-sepolia", account))).status, 201);
  const seen = async (by) => (await list(by)).map(({ environment }) => environment);
  assert.deepEqual([await seen(live), await seen(test), await seen(ann)], [["live"], ["test"], ["live", "test"]]);
  // A signature that a session has asked for counts for a key of the same tenant.
  const other = randomAccount();
  assert.equal((await add(live, await proof(ann, "base", other))).status, 201);
  assert.equal((await retire(test, account.address)).status, 200);
  assert.deepEqual([await isOwn(ann.live, "base", account.address), await isOwn(ann.test, "base-sepolia", account.address)], [true, false]);
  assert.deepEqual(refusal(await retire(test, other.address)).slice(0, 2), [404, "NOT_FOUND"]);
  const entries = (await ann.browser.call("GET", "/v1/audit-log")).body.data;
  const retired = entries.find(({ action }) => action === "recipient.retired");
  assert.deepEqual([retired.actor_kind, retired.actor.slice(0, 4)], ["key", "key_"]);
  const [row] = await worker.sql("SELECT added_by FROM recipients WHERE address = ?", other.address);
  assert.match(row.added_by, /^key_/);
});

test("what the document shows as an example is taken", async () => {
  const ann = await seller("pro");
  const { body } = await worker.call("GET", "/v1/openapi.json");
  const example = (path, method) => body.paths[path][method].requestBody.content["application/json"].example;
  assert.equal((await ann.browser.call("POST", "/v1/recipients/challenge", example("/v1/recipients/challenge", "post"))).status, 201);
  const added = await add(ann, example("/v1/recipients", "post"));
  assert.equal(added.status, 201, JSON.stringify(added.body));
  const path = `/v1/recipients/${added.body.recipient.address}`;
  assert.equal((await ann.browser.call("PATCH", path, example("/v1/recipients/{address}", "patch"))).status, 200);
  assert.equal((await ann.browser.call("PATCH", "/v1/tenant", example("/v1/tenant", "patch"))).status, 200);
});

test("a viewer and a developer read, and an owner changes", async () => {
  const ann = await seller();
  const account = randomAccount();
  const good = await proof(ann, "base", account);
  for (const role of ["viewer", "developer"]) {
    const email = newEmail();
    await ann.browser.call("POST", "/v1/members/invitations", { email, role });
    const browser = new Browser(worker);
    const { token } = await mailTo(worker, email);
    assert.equal((await browser.call("POST", "/v1/members/join", { token })).status, 201);
    assert.deepEqual(await list({ browser }), []);
    for (const answer of [
      await ask({ browser }, "base", account.address),
      await add({ browser }, good),
      await setDefault({ browser }, account.address, "base"),
      await retire({ browser }, account.address),
    ])
      assert.deepEqual(refusal(answer).slice(0, 2), [403, "INSUFFICIENT_ROLE"], role);
  }
  assert.equal((await add(ann, good)).status, 201);
});

test("whoever was removed or revoked meanwhile changes no address and no setting by a request that is under way", async () => {
  const ann = await seller("starter");
  const { body: key } = await ann.browser.call("POST", "/v1/api-keys", { name: "m", environment: "live", scopes: ["manage"] });
  const byKey = (method, path, body) => worker.call(method, path, { key: key.key, body });
  const { address } = (await add(ann, { chain: "base", address: "derive" })).body.recipient;
  const { address: own } = (await add(ann, { chain: "base", address: "derive", default: false })).body.recipient;
  const email = newEmail();
  await ann.browser.call("POST", "/v1/members/invitations", { email, role: "owner" });
  const browser = new Browser(worker);
  const { token } = await mailTo(worker, email);
  const { person } = (await browser.call("POST", "/v1/members/join", { token })).body.session;
  const bySession = (method, path, body) => browser.call(method, path, body);
  const requests = /** @type {[string, string, object | undefined][]} */ ([
    ["PATCH", `/v1/recipients/${own}`, { default_for: "base" }],
    ["POST", "/v1/recipients", { chain: "base", address: "derive", default: true }],
    ["DELETE", `/v1/recipients/${address}`, undefined],
    ["PATCH", "/v1/tenant", { company_name: "Thief" }],
  ]);
  const state = async () => ({ addresses: await list(ann), tenant: (await ann.browser.call("GET", "/v1/tenant")).body });
  const before = await state();
  const role = (name) => `UPDATE members SET role = '${name}' WHERE person_id = ?`;
  const revoked = (at) => `UPDATE api_keys SET revoked_ms = ${at} WHERE id = ?`;
  for (const { by, away, back, ids } of [
    { by: bySession, away: role("viewer"), back: role("owner"), ids: [person.id] },
    { by: byKey, away: revoked(1), back: revoked("NULL"), ids: [key.api_key.id] },
  ])
    for (const [method, path, body] of requests) {
      const request = () => by(method, path, body);
      const answer = await worker.whileHeld("INSERT INTO audit_log", request, () => worker.sql(away, ...ids));
      assert.deepEqual(refusal(answer).slice(0, 2), [403, "INSUFFICIENT_ROLE"], `${method} ${path}`);
      assert.deepEqual(await state(), before);
      await worker.sql(back, ...ids);
    }
});

test("an address is answered as it was written, although the directory fails right after", async () => {
  const ann = await seller("starter");
  // Its reads before the write go through.
  await worker.dbFault(
    { names: "WHERE tenant_id = ? ORDER BY environment", skip: 1, stays: true },
    { names: "tier_by FROM tenants WHERE id", skip: 3, stays: true },
  );
  const derived = await add(ann, { chain: "base", address: "derive" });
  await worker.dbFault();
  assert.deepEqual([derived.status, derived.body.in_force], [201, false], JSON.stringify(derived.body));
  assert.deepEqual(await list(ann), [derived.body.recipient]);
  await worker.cron("* * * * *");
  const { address } = derived.body.recipient;
  assert.equal(await isOwn(ann.live, "base", address), true);
  assert.equal((await add(ann, { chain: "base", address: "derive", default: false })).status, 201);
  const other = (await list(ann)).find((each) => each.address !== address);
  for (const { act, skip } of [
    { act: () => setDefault(ann, other.address, "base"), skip: 2 },
    { act: () => retire(ann, other.address), skip: 1 },
  ]) {
    await worker.dbFault({ names: "tier_by FROM tenants WHERE id", skip, stays: true });
    assert.deepEqual(refusal(await act()).slice(0, 2), [503, "CHANGE_NOT_LOADED"]);
    await worker.dbFault();
    const { status, body } = await act();
    if (status === 200)
      assert.deepEqual(
        [body.recipient ?? body.data[0]],
        (await list(ann)).filter((each) => each.address === other.address),
      );
  }
  const found = (await list(ann)).find((each) => each.address === other.address);
  assert.deepEqual([found.default_for, found.removed_at !== null], [[], true]);
});

test("a managing key retires an address although its ledger is away", async () => {
  const ann = await seller("starter");
  const { body } = await ann.browser.call("POST", "/v1/api-keys", { name: "m", environment: "live", scopes: ["manage"] });
  const { recipient } = (await add(ann, { chain: "base", address: "derive" })).body;
  assert.equal(await isOwn(ann.live, "base", recipient.address), true);
  await worker.fault({ names: ann.id, unsent: true, stays: true });
  const call = (method, path, more) => worker.call(method, path, { key: body.key, body: more });
  const added = await call("POST", "/v1/recipients", { chain: "base", address: "derive" });
  assert.deepEqual(refusal(added).slice(0, 2), [503, "LEDGER_UNAVAILABLE"]);
  assert.deepEqual(refusal(await call("DELETE", `/v1/recipients/${recipient.address}`)).slice(0, 2), [503, "CHANGE_NOT_LOADED"]);
  await worker.fault(null);
  assert.notEqual((await list(ann))[0].removed_at, null);
  await worker.cron("* * * * *");
  assert.equal(await isOwn(ann.live, "base", recipient.address), false);
});

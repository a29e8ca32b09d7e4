// Who gets an address when nodes lie or two tenants can prove it, and how many addresses and challenges a tenant may have.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { randomAccount, startEvm } from "../../scripts/lib/evm.mjs";
import { signedUp } from "./browser.mjs";
import { startProxy } from "./proxy.mjs";
import { startWorker } from "./worker.mjs";

/** The account m/44'/60'/0' of "test test … junk". */
const XPUB = "xpub6Ce9NcJvTk36xtLSrJLZqE7wtgA5deCeYs7rSQtreh4cj6ByPtrg9sD7V2FNFLPnf8heNP3FGkeV9qwfzvZNSd54JoNXVsXFYSYwHsnJxqP";
const MINUTE = 60_000;
const CHAIN = "local-evm";
/** A contract's acceptance (ERC-1271). */
const MAGIC = `0x1626ba7e${"00".repeat(28)}`;
let evm, liar, worker;

before(async () => {
  evm = await startEvm();
  liar = await startProxy(evm.url);
  worker = await startWorker({ vars: { MAIL_BACKEND: "mailbox", EVM_XPUB: XPUB, RPC_LOCAL_EVM: liar.url } });
});
after(async () => {
  await worker?.stop();
  liar?.stop();
  evm?.stop();
});

const refusal = ({ status, body }) => [status, body.error_code];
const ask = (by, address, chain = CHAIN) => by.browser.call("POST", "/v1/recipients/challenge", { chain, address });
const add = (by, body) => by.browser.call("POST", "/v1/recipients", body);
const derive = (by, chain = "base-sepolia") => add(by, { chain, address: "derive" });
const list = async (by) => (await by.browser.call("GET", "/v1/recipients")).body.data;
const retire = (by, address) => by.browser.call("DELETE", `/v1/recipients/${address}`);
const log = async (by) => (await by.browser.call("GET", "/v1/audit-log")).body.data;

async function seller(at = worker, tier = "pro") {
  const owner = await signedUp(at);
  const { id } = owner.session.tenant;
  await at.call("PATCH", `/v1/admin/tenants/${id}`, { admin: true, body: { tier } });
  return { ...owner, id };
}

/** A challenge for an address and its answer, signed by an account. */
async function proof(by, address, account, chain = CHAIN) {
  const asked = await ask(by, address, chain);
  assert.equal(asked.status, 201, JSON.stringify(asked.body));
  const { message, nonce } = asked.body;
  return { chain, address, nonce, signature: await account.signMessage({ message }) };
}

/** Whether the ledger of a tenant takes an address as its own. */
async function isOwn(at, { api_keys }, recipient) {
  const { body } = await at.verify(api_keys.test, { tx_hash: `0x${"ab".repeat(32)}`, chain: CHAIN, recipient });
  return body.error_code !== "RECIPIENT_NOT_REGISTERED";
}

/** Has the node say that these addresses are contracts that accept every signature. */
function lieAbout(...addresses) {
  const named = (text) => addresses.some((address) => address.toLowerCase() === String(text).toLowerCase());
  liar.answer = ({ method, params }) => {
    if (method === "eth_getCode" && named(params[0])) return { result: "0x6001" };
    if (method === "eth_call" && named(params[0].to)) return { result: MAGIC };
    return undefined;
  };
}

test("a node alone gives nobody an address, where two are configured", async () => {
  const victim = randomAccount();
  const wallet = randomAccount();
  const contract = await evm.deploy("OwnedWallet", [wallet.address]);
  lieAbout(victim.address);
  const second = await startProxy(evm.url);
  try {
    for (const providers of [
      [liar.url, evm.url],
      [evm.url, liar.url],
    ]) {
      const own = await startWorker({ vars: { MAIL_BACKEND: "mailbox", RPC_LOCAL_EVM: providers.join() } });
      try {
        const [thief, ann] = [await seller(own), await seller(own)];
        const stolen = await add(thief, await proof(thief, victim.address, randomAccount()));
        assert.deepEqual(refusal(stolen), [503, "CHAIN_UNAVAILABLE"], JSON.stringify(stolen.body));
        assert.deepEqual(await list(thief), []);
        const good = await add(ann, await proof(ann, contract, wallet));
        assert.deepEqual([good.status, good.body.recipient?.only_on], [201, [CHAIN]], JSON.stringify(good.body));
        // A key's signature needs no node.
        assert.equal((await add(ann, await proof(ann, victim.address, victim))).status, 201);
      } finally {
        await own.stop();
      }
    }
    // Of three, two decide.
    const three = await startWorker({ vars: { MAIL_BACKEND: "mailbox", RPC_LOCAL_EVM: [liar.url, evm.url, second.url].join() } });
    try {
      const thief = await seller(three);
      const refused = await add(thief, await proof(thief, victim.address, randomAccount()));
      assert.deepEqual(refusal(refused), [422, "INVALID_PROOF"], JSON.stringify(refused.body));
      // One that is down leaves two.
      second.down = true;
      const good = await add(thief, await proof(thief, contract, wallet));
      assert.equal(good.status, 201, JSON.stringify(good.body));
    } finally {
      await three.stop();
    }
  } finally {
    second.stop();
    liar.answer = () => undefined;
  }
});

test("the holder of the key takes an address that another has proven by a contract alone", async () => {
  const [account, other] = [randomAccount(), randomAccount()];
  const [thief, ann, bob] = [await seller(), await seller(), await seller()];
  lieAbout(account.address);
  // The only provider is believed.
  const taken = await add(thief, await proof(thief, account.address, randomAccount()));
  assert.deepEqual([taken.status, taken.body.recipient?.proof], [201, "erc1271"], JSON.stringify(taken.body));
  assert.deepEqual(taken.body.recipient.default_for, [CHAIN]);
  assert.equal(await isOwn(worker, thief, account.address), true);
  // Another contract's word does not take it.
  assert.deepEqual(refusal(await add(bob, await proof(bob, account.address, randomAccount()))), [409, "RECIPIENT_TAKEN"]);
  liar.answer = () => undefined;
  const back = await add(ann, await proof(ann, account.address, account));
  assert.equal(back.status, 201, JSON.stringify(back.body));
  assert.deepEqual([back.body.recipient.proof, back.body.recipient.only_on, back.body.recipient.default_for], ["eip191", null, [CHAIN]]);
  assert.deepEqual([await isOwn(worker, thief, account.address), await isOwn(worker, ann, account.address)], [false, true]);
  assert.deepEqual(await list(thief), []);
  const [lost] = await log(thief);
  assert.deepEqual(
    [lost.action, lost.actor_kind, lost.subject, lost.environment ?? "test"],
    ["recipient.retired", "system", account.address, "test"],
  );
  assert.deepEqual(await worker.sql("SELECT * FROM default_recipients WHERE tenant_id = ?", thief.id), []);
  // The thief's next address is his default.
  const next = await add(thief, await proof(thief, other.address, other));
  assert.deepEqual(next.body.recipient.default_for, [CHAIN]);
  // It is never the other way round, also once it is retired; a second key's proof changes nothing either.
  lieAbout(account.address);
  const hers = await log(ann);
  for (const by of [thief, bob]) {
    assert.deepEqual(refusal(await add(by, await proof(by, account.address, randomAccount()))), [409, "RECIPIENT_TAKEN"]);
    assert.deepEqual(refusal(await add(by, await proof(by, account.address, account))), [409, "RECIPIENT_TAKEN"]);
  }
  assert.deepEqual(await log(ann), hers, "nothing happened to her");
  assert.deepEqual((await list(ann))[0].default_for, [CHAIN]);
  await retire(ann, account.address);
  assert.deepEqual(refusal(await add(thief, await proof(thief, account.address, randomAccount()))), [409, "RECIPIENT_TAKEN"]);
  liar.answer = () => undefined;
});

test("an operator's word stands above a contract's and a key's", async () => {
  const account = randomAccount();
  const [ann, bob] = [await seller(), await seller()];
  lieAbout(account.address);
  assert.equal((await add(ann, await proof(ann, account.address, randomAccount()))).status, 201);
  const body = { chain: CHAIN, address: account.address };
  assert.equal((await worker.call("POST", `/v1/admin/tenants/${ann.id}/recipients`, { admin: true, body })).status, 201);
  assert.deepEqual(refusal(await add(bob, await proof(bob, account.address, account))), [409, "RECIPIENT_TAKEN"]);
  liar.answer = () => undefined;
});

test("the smallest tier derives no address, and no index is lost", async () => {
  const free = await seller(worker, "free");
  const refused = await derive(free);
  assert.deepEqual([...refusal(refused), refused.body.param], [403, "NOT_IN_TIER", "address"]);
  assert.match(refused.body.upgrade_url, /\/docs\/tiers$/);
  const rows = () => worker.sql("SELECT id, tenant_id, open_ms FROM derived_recipients ORDER BY id");
  assert.deepEqual(await rows(), [], "nothing is used up");
  const ann = await seller();
  const first = await derive(ann);
  assert.equal(first.status, 201, JSON.stringify(first.body));
  assert.deepEqual(await rows(), [{ id: 1, tenant_id: ann.id, open_ms: null }]);
  await worker.sql("CREATE TRIGGER stop BEFORE INSERT ON recipients BEGIN SELECT RAISE(ABORT, 'stopped'); END");
  assert.equal((await derive(ann)).status, 503);
  await worker.sql("DROP TRIGGER stop");
  assert.equal((await rows()).length, 2);
  // Somebody else, and a request at the same time, gets another.
  const bob = await seller();
  const his = await derive(bob);
  assert.deepEqual(
    (await rows()).map(({ id, tenant_id }) => [id, tenant_id]),
    [
      [1, ann.id],
      [2, ann.id],
      [3, bob.id],
    ],
  );
  await worker.advance(MINUTE + 1_000);
  const again = await derive(ann);
  assert.equal(again.status, 201, JSON.stringify(again.body));
  assert.deepEqual(await rows(), [
    { id: 1, tenant_id: ann.id, open_ms: null },
    { id: 2, tenant_id: ann.id, open_ms: null },
    { id: 3, tenant_id: bob.id, open_ms: null },
  ]);
  const all = [first, his, again].map(({ body }) => body.recipient.address);
  assert.equal(new Set(all).size, 3);
});

test("the thousandth address is the last, counted in the statement that takes the index", async () => {
  const ann = await seller();
  const address = (at) => `0x${at.toString(16).padStart(40, "0")}`;
  const fill = (from, count, removed) =>
    worker.sql(
      `INSERT INTO recipients (environment, address, tenant_id, created_ms, removed_ms)
       SELECT 'test', printf('0x%040x', value), ?1, value, ?2 FROM json_each(?3)`,
      ann.id,
      removed,
      JSON.stringify(Array.from({ length: count }, (_, at) => from + at)),
    );
  // Retired addresses do not count.
  await fill(0, 1_000, 1);
  await fill(1_000, 998, null);
  const all = await Promise.all(Array.from({ length: 6 }, () => derive(ann)));
  assert.deepEqual(all.map(({ status }) => status).sort(), [201, 201, 422, 422, 422, 422], JSON.stringify(all.map(({ body }) => body)));
  const held = await worker.sql("SELECT COUNT(*) AS count FROM recipients WHERE tenant_id = ? AND removed_ms IS NULL", ann.id);
  assert.deepEqual(held, [{ count: 1_000 }]);
  const account = randomAccount();
  assert.deepEqual(refusal(await add(ann, await proof(ann, account.address, account))), [422, "INVALID_REQUEST"]);
  // One's own that was retired comes back when there is room, and the contract of one's own gets another chain.
  await retire(ann, address(1_000));
  assert.equal((await add(ann, await proof(ann, account.address, account))).status, 201);
  assert.equal((await retire(ann, account.address)).status, 200);
  assert.equal((await add(ann, await proof(ann, account.address, account))).status, 201, "at the most rows");
  assert.equal((await add(ann, await proof(ann, account.address, account))).status, 201, "what is in force is none more");
  // Retired ones have a bound of their own.
  await retire(ann, account.address);
  await fill(10_000, 4_000 - 2_001, 1);
  const other = randomAccount();
  assert.deepEqual(refusal(await add(ann, await proof(ann, other.address, other))), [422, "INVALID_REQUEST"]);
  assert.equal((await add(ann, await proof(ann, account.address, account))).status, 201);
});

test("challenges that are used or tried too often leave room for others, up to a thousand", async () => {
  const [ann, account] = [await seller(), randomAccount()];
  const good = await proof(ann, account.address, account, "base-sepolia");
  assert.equal((await add(ann, good)).status, 201);
  const open = (more) =>
    worker.sql(
      `INSERT INTO recipient_challenges (nonce, tenant_id, environment, chain, address, service, tries, uses, created_ms, expires_ms)
       SELECT lower(hex(randomblob(16))), ?1, 'test', 'base-sepolia', '0x', '', ?2, ?3, 1, 1e15 FROM json_each(?4)`,
      ann.id,
      more.tries ?? 0,
      more.uses ?? 0,
      JSON.stringify(Array.from({ length: more.count })),
    );
  await open({ count: 100, uses: 1 });
  await open({ count: 100, tries: 5 });
  assert.equal((await ask(ann, account.address)).status, 201);
  await open({ count: 99 });
  assert.deepEqual(refusal(await ask(ann, account.address)), [429, "RATE_LIMITED"]);
  await worker.sql("UPDATE recipient_challenges SET uses = 1 WHERE tenant_id = ?", ann.id);
  assert.equal((await ask(ann, account.address)).status, 201);
  await open({ count: 1_000 - 302, uses: 1 });
  assert.deepEqual(refusal(await ask(ann, account.address)), [429, "RATE_LIMITED"], "a thousand in ten minutes");
});

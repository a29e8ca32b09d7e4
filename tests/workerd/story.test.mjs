// A seller from the first mail to a business that runs, by HTTP alone: sign-up by a code, a recipient by a signature, a
// verified payment, a member, a key that is rotated while requests run, and the end.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ACCOUNTS, randomAccount, startEvm } from "../../scripts/lib/evm.mjs";
import { Browser, address, mailTo } from "./browser.mjs";
import { startWorker, until } from "./worker.mjs";

const CHAIN = "local-evm";
let evm, worker;
before(async () => {
  evm = await startEvm();
  await evm.mint(ACCOUNTS[1].address, 1_000_000000n);
  worker = await startWorker({ vars: { MAIL_BACKEND: "mailbox", RPC_LOCAL_EVM: evm.url } });
});
after(async () => {
  await worker?.stop();
  evm?.stop();
});

test("a seller stands on his own", async () => {
  const email = address();
  const seller = new Browser(worker);
  const ok = async (asked, wanted) => {
    const { status, body } = await asked;
    assert.equal(status, wanted, JSON.stringify(body));
    return body;
  };

  // Sign-up by the code of the mail.
  await ok(seller.signUp(email, { company_name: "Story Ltd" }), 202);
  const { code } = await mailTo(worker, email);
  const { session, api_keys: first } = await ok(seller.session({ code }), 201);
  assert.deepEqual([session.role, session.tenant.company_name, session.tenant.tier], ["owner", "Story Ltd", "free"]);

  // A recipient by a signature of its key.
  const wallet = randomAccount();
  const asked = await ok(seller.call("POST", "/v1/recipients/challenge", { chain: CHAIN, address: wallet.address }), 201);
  const signature = await wallet.signMessage({ message: asked.message });
  const proof = { chain: CHAIN, address: wallet.address, nonce: asked.nonce, signature };
  const { recipient } = await ok(seller.call("POST", "/v1/recipients", proof), 201);
  assert.deepEqual([recipient.address, recipient.default_for], [wallet.address, [CHAIN]]);

  // A payment that is verified, once.
  const tx_hash = await evm.pay({ to: wallet.address, amount: 1_500000n });
  const verify = (key, more) => worker.verify(key, { tx_hash, chain: CHAIN, ...more });
  const { body: paid } = await verify(first.test, { expected_amount: "1.5", reference: "order-1" });
  assert.deepEqual([paid.success, paid.amount_usdc, paid.claimed], [true, "1.500000", true], JSON.stringify(paid));
  const { body: again } = await verify(first.test, { reference: "order-2" });
  assert.equal(again.success, false);

  // A developer, who makes a key of the shop; the key reads what was verified.
  const colleague = address();
  await ok(seller.call("POST", "/v1/members/invitations", { email: colleague, role: "developer" }), 201);
  const developer = new Browser(worker);
  const joined = await ok(developer.call("POST", "/v1/members/join", { token: (await mailTo(worker, colleague)).token }), 201);
  assert.deepEqual([joined.session.tenant.id, joined.session.role], [session.tenant.id, "developer"]);
  const shop = { name: "shop", environment: "test", scopes: ["verify", "analytics"] };
  const shopKey = await ok(developer.call("POST", "/v1/api-keys", shop), 201);
  let { key } = shopKey;

  // The key is rotated while requests run: none is refused. The limits of the free tier are not those of a load.
  const limits = { per_minute: 100_000, per_hour: 100_000 };
  await ok(worker.call("PATCH", `/v1/admin/tenants/${session.tenant.id}`, { admin: true, body: { limits } }), 200);
  /** @type {string[]} */
  const refused = [];
  /** @type {Promise<void>[]} */
  const buyers = [];
  let [done, isOver] = [0, false];
  const buy = async () => {
    while (!isOver) {
      const { status, body } = await verify(key, { reference: "order-1" });
      if (status !== 200 || !body.success) refused.push(body.error_code);
      done++;
    }
  };
  for (let at = 0; at < 3; at++) buyers.push(buy());
  try {
    await until(() => done > 10, "requests with the old key");
    const rotated = await ok(developer.call("POST", `/v1/api-keys/${shopKey.api_key.id}/rotate`, { grace_seconds: 60 }), 201);
    const before = done;
    await until(() => done > before + 10, "requests with the old key after the rotation");
    const old = key;
    key = rotated.key;
    await until(() => done > before + 30, "requests with the new key");
    assert.equal((await verify(old, { reference: "order-1" })).status, 200, "both hold for the grace time");
  } finally {
    isOver = true;
    await Promise.all(buyers);
  }
  assert.deepEqual(refused, []);

  // What has happened is in the log, by whom.
  const log = await ok(seller.call("GET", "/v1/audit-log"), 200);
  const [owner, member] = [session.person.id, joined.session.person.id];
  const wanted = [
    ["tenant.created", owner],
    ["member.joined", owner],
    ["recipient.added", owner],
    ["member.invited", owner],
    ["member.joined", member],
    ["key.created", member],
    ["key.rotated", member],
  ];
  const made = log.data.map(({ action, actor }) => `${action} ${actor}`);
  for (const [action, actor] of wanted) assert.ok(made.includes(`${action} ${actor}`), `${action}: ${made}`);

  // The seller leaves: the keys are dead for the next request, and after a week what is personal is gone.
  await ok(seller.call("DELETE", "/v1/tenant", { confirm: session.tenant.id }), 202);
  const { token } = await mailTo(worker, email, 2);
  await ok(seller.call("POST", "/v1/tenant/deletion", { token }), 200);
  assert.equal((await verify(key, { reference: "order-1" })).body.error_code, "INVALID_API_KEY");
  await worker.advance(7 * 24 * 60 * 60_000 + 60_000);
  await worker.cron("* * * * *");
  const [left] = await worker.sql("SELECT status, email FROM tenants WHERE id = ?", session.tenant.id);
  assert.deepEqual(left, { status: "cancelled", email: `${session.tenant.id}@erased.invalid` });
  assert.deepEqual(await worker.sql("SELECT id FROM people WHERE email IN (?, ?)", email, colleague), []);
});

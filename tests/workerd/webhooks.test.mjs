// Webhooks on the real Worker: each event of a payment reaches the endpoints that want it, signed, at least once and in its
// order, whatever the endpoints do.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Webhook } from "standardwebhooks";
import { startMock } from "./mock-rpc.mjs";
import { random } from "./payment.mjs";
import { hearing, received, receivers } from "./receivers.mjs";
import { startWorker } from "./worker.mjs";

const PAGES = "https://pay.example";
const play = receivers();
let mock, worker;

before(async () => {
  mock = await startMock();
  const vars = { RPC_BASE: mock.url, MAIL_BACKEND: "mailbox", PUBLIC_URL: PAGES };
  worker = await startWorker({ vars, outbound: play.outbound });
});
after(async () => {
  await worker?.stop();
  mock?.stop();
});

let hosts = 0;
/** A host of its own, that takes what it gets. */
function host(act = 200) {
  const name = `shop-${hosts++}.example`;
  play.set(name, act);
  return name;
}

/** A seller on Base, and what is asked of the service. */
async function seller(more = {}) {
  const to = random(20);
  const tenant = await hearing(worker, { to, ...more });
  const verify = async (block = 900) => {
    const tx_hash = mock.addTransfer({ from: random(20), to, amount: 1_000_000, block });
    const answer = await worker.verify(tenant.key, { tx_hash, chain: "base", max_age_seconds: 315_360_000 });
    assert.equal(answer.body.success, true, answer.text);
    return answer;
  };
  const refuse = () => worker.verify(tenant.key, { tx_hash: random(32), chain: "base" });
  return { ...tenant, to, verify, refuse };
}

const eventOf = (verification) => verification.replace("ver_", "evt_");

test("a verification reaches an endpoint, signed", async () => {
  const { verify, endpoint, ship } = await seller();
  const shop = host();
  const { secret } = await endpoint(shop);
  const { body, text } = await verify();
  await ship();
  const [message] = await received(play, shop);
  assert.equal(message.id, eventOf(body.id));
  assert.equal(message.type, "verification.succeeded");
  const verified = new Webhook(secret).verify(message.text, message.headers);
  assert.equal(JSON.stringify(/** @type {any} */ (verified).data), text);
});

// 10,000 events to 50 endpoints of which 5 hang: how long the other 45 take. `npm run bench:webhooks [events of an endpoint]`.
import { startMock } from "../tests/workerd/mock-rpc.mjs";
import { random } from "../tests/workerd/payment.mjs";
import { hearing, receivers } from "../tests/workerd/receivers.mjs";
import { startWorker, until } from "../tests/workerd/worker.mjs";

const [TENANTS, ENDPOINTS, HANGING] = [5, 10, 1];
const EVENTS = Number(process.argv[2] ?? 200);
const play = receivers();
const mock = await startMock();
const vars = { MAIL_BACKEND: "mailbox", PUBLIC_URL: "https://pay.example", RPC_BASE: mock.url };
const worker = await startWorker({ vars, outbound: play.outbound });
try {
  const well = [];
  const keys = [];
  for (let at = 0; at < TENANTS; at++) {
    const tenant = await hearing(worker, { to: random(20) });
    keys.push(tenant.key);
    for (let own = 0; own < ENDPOINTS; own++) {
      const host = `shop-${at}-${own}.example`;
      play.set(host, own < HANGING ? () => new Promise(() => {}) : 200);
      if (own >= HANGING) well.push(host);
      await tenant.endpoint(host, { events: ["verification.*"] });
    }
  }
  const verified = Date.now();
  const make = async (key) => {
    for (let at = 0; at < EVENTS; at++) await worker.verify(key, { tx_hash: random(32), chain: "base" });
  };
  await Promise.all(keys.map(make));
  // Ledgers ship four seconds after a verification: most events are under way. From here on the rest is.
  const began = Date.now();
  await Promise.all(keys.map((key) => worker.call("GET", "/v1/events?limit=1", { key })));
  const have = () => well.reduce((sum, host) => sum + new Set(play.of(host).map(({ id }) => id)).size, 0);
  const atFirst = have();
  await until(() => have() === well.length * EVENTS, "all events at the endpoints that are well", 300_000);
  const took = (Date.now() - began) / 1_000;
  const twice = well.reduce((sum, host) => sum + play.of(host).length, 0) - well.length * EVENTS;
  console.log(
    `${TENANTS * ENDPOINTS * EVENTS} events to ${TENANTS * ENDPOINTS} endpoints, ${TENANTS * HANGING} of which hang: ` +
      `verified in ${(began - verified) / 1_000} s; then ${well.length * EVENTS - atFirst} messages in ${took} s, ${twice} twice; ` +
      `${play.asked} questions to the DNS`,
  );
} finally {
  await worker.stop();
  mock.stop();
}

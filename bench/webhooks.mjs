// 10,000 events to 50 endpoints of which 5 hang: how long the other 45 take. `npm run bench:webhooks [events of an endpoint]`.
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startMock } from "../tests/workerd/mock-rpc.mjs";
import { random } from "../tests/workerd/payment.mjs";
import { hearing, receivers } from "../tests/workerd/receivers.mjs";
import { startWorker, until } from "../tests/workerd/worker.mjs";

const [TENANTS, ENDPOINTS, HANGING] = [5, 10, 1];
const EVENTS = Number(process.argv[2] ?? 200);
const play = receivers();
// In memory: a disk that waits for each transaction would be what is measured.
const folder = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "x402-bench-"));
process.env.TMPDIR = folder;
const mock = await startMock();
const vars = { MAIL_BACKEND: "mailbox", PUBLIC_URL: "https://pay.example", RPC_BASE: mock.url };
const worker = await startWorker({ vars, outbound: play.outbound });
try {
  const well = [];
  const tenants = [];
  for (let at = 0; at < TENANTS; at++) {
    const tenant = await hearing(worker, { to: random(20) });
    const endpoints = [];
    for (let own = 0; own < ENDPOINTS; own++) {
      const host = `shop-${at}-${own}.example`;
      play.set(host, own < HANGING ? () => new Promise(() => {}) : 200);
      if (own >= HANGING) well.push(host);
      endpoints.push(await tenant.endpoint(host, { events: ["verification.*"] }));
    }
    tenants.push({ tenant, endpoints });
  }
  const all = tenants.flatMap(({ tenant, endpoints }) => endpoints.map((endpoint) => ({ tenant, endpoint })));
  const set = (status) => Promise.all(all.map(({ tenant, endpoint }) => tenant.call("PATCH", endpoint.path, { status })));
  // Paused endpoints keep what comes: so all of it is sent at once.
  await set("paused");
  await Promise.all(
    tenants.map(async ({ tenant }) => {
      for (let made = 0; made < EVENTS; ) {
        const { status } = await worker.verify(tenant.key, { tx_hash: random(32), chain: "base" });
        // A busy machine answers some with 503: these are no events.
        if (status === 200) made++;
      }
      await until(async () => (await tenant.ship()).status === 200, "what was answered to be shipped");
    }),
  );
  for (const { tenant, endpoint } of all) {
    const { length } = await tenant.deliveries(endpoint, "&status=waiting");
    if (length !== EVENTS) throw new Error(`${length} events of ${EVENTS} wait`);
  }
  const have = () => well.reduce((sum, host) => sum + new Set(play.of(host).map(({ id }) => id)).size, 0);
  if (have() !== 0) throw new Error("a paused endpoint got an event");
  const began = Date.now();
  await set("active");
  await until(() => have() === well.length * EVENTS, "all events at the endpoints that are well", 300_000);
  const took = (Date.now() - began) / 1_000;
  const twice = well.reduce((sum, host) => sum + play.of(host).length, 0) - well.length * EVENTS;
  console.log(
    `${all.length * EVENTS} events to ${all.length} endpoints, ${TENANTS * HANGING} of which hang: ` +
      `the others have all of theirs after ${took} s, ${twice} of them twice; ${play.asked} questions to the DNS`,
  );
} finally {
  await worker.stop();
  mock.stop();
  rmSync(folder, { recursive: true, force: true });
}

// The faults: each makes something go wrong while a load runs, shows that it does, and ends it. What it leaves behind is settled
// afterwards, without help.
import { ACCOUNTS, KEYS } from "../../../scripts/lib/evm.mjs";
import { archivedFrom, monthOf, stored } from "../months.mjs";
import { behind } from "../proxy.mjs";
import { sent } from "../settling.mjs";
import { PEPPERS, until } from "../worker.mjs";

/** @typedef {import("./world.mjs").World} World */

const DAY = 86_400_000;
/** A node answers that late: other nodes are asked meanwhile. */
const LATE_MS = 1_500;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
/** How long something is wrong. @param {World} world */
const span = (world) => pause(world.spanMs);

/** Waits until something of this kind is on its way and gets no further. @param {World} world */
const isHeldUp = (world, what) =>
  until(async () => (await world.unsettled()).some((one) => one.includes(what)), `${what} that wait`, 30_000);

/** SIGKILL with requests in flight, twice. @param {World} world */
async function kill(world) {
  for (let times = 0; times < 2; times++) {
    await until(() => world.inFlight >= 3, "requests in flight");
    await world.kill();
    await span(world);
  }
}

/** Every statement of D1 fails. @param {World} world */
async function directory(world) {
  await world.worker.dbFault({ names: "", stays: true });
  await isHeldUp(world, "usage");
  await span(world);
  await world.worker.dbFault();
}

/** The queue of mails takes nothing, and its consumer fails. @param {World} world */
async function queue(world) {
  await world.worker.away("MAILS");
  await isHeldUp(world, "mails");
  await span(world);
  await world.worker.away();
}

/** R2 fails while a month is archived, and as its records are read. @param {World} world */
async function archive(world) {
  await world.wake();
  await until(() => stored(world.worker).some(({ month }) => month === monthOf(world.now())), "records in the month");
  await world.worker.away("ARCHIVE");
  await world.travel(archivedFrom(monthOf(world.now())) + 1_000);
  const hasFailed = async () => {
    await world.wake().catch(() => {});
    return world.worker.log.lines.some((line) => line.includes("ARCHIVE is away"));
  };
  await until(hasFailed, "an archive that fails");
  await span(world);
  await world.worker.away();
}

/** The node of the real chain that is asked now: the Worker prefers one as long as it answers well. @param {World} world */
async function askedNode({ nodes }) {
  const before = nodes.map(({ calls }) => calls.length);
  return until(() => nodes.find(({ calls }, at) => calls.length > before[at] + 5), "questions to a node", 30_000);
}

/** Has a provider of each chain misbehave, once and while it is asked. @param {World} world */
async function misbehave(world, fault, answer) {
  const [mock, node] = [world.mocks[1], await askedNode(world)];
  const [requests, calls] = [mock.requests, node.calls.length];
  mock.fault = fault;
  node.answer = answer;
  // Large payments are asked of both providers, settlements of the node that is preferred.
  await until(() => mock.requests > requests && node.calls.length > calls, "questions to the providers", 30_000);
  await span(world);
  mock.fault = undefined;
  node.answer = () => undefined;
}

/** One provider of each chain answers late. @param {World} world */
const slow = (world) => misbehave(world, "slow", () => pause(LATE_MS).then(() => undefined));

/** One provider of each chain reports another chain than the other does: other blocks, and an older state. @param {World} world */
const disagree = (world) => misbehave(world, "lie", behind(world.evm, 2));

/** One provider of each chain is gone, then all are. @param {World} world */
async function vanish(world) {
  const { journal, mocks, nodes } = world;
  const refused = () => journal.verifications.filter(({ code }) => code === "CHAIN_UNAVAILABLE").length;
  const before = refused();
  for (const at of [0, 1]) {
    mocks[at].fault = "gone";
    nodes[at].down = true;
    await span(world);
  }
  await until(() => refused() > before, "requests that are refused for it", 30_000);
  for (const mock of mocks) mock.fault = undefined;
  for (const node of nodes) node.down = false;
}

/** The clock jumps over the end of a day, and stands a moment before the end of a month. @param {World} world */
async function monthEnd(world) {
  await world.travel(world.now() + DAY);
  await span(world);
  const [year, month] = monthOf(world.now()).split("-").map(Number);
  const end = Date.UTC(year, month, 1);
  await world.travel(end - Math.ceil(world.spanMs / 2));
  await until(() => world.now() > end, "the next month");
  await span(world);
}

/** Both chains lose blocks: payments that were verified are in no block any more, and settlements are not either. @param {World} world */
async function reorganise(world) {
  const { mocks, evm } = world;
  await until(() => world.young.length >= 4, "payments that are not final", 30_000);
  const [block, hashes] = [world.youngBlock, world.young.splice(0)];
  const gone = hashes.filter((_, at) => at % 2 === 0);
  world.journal.dropped.push(...gone);
  const fork = `0x${"ef".repeat(28)}${block.toString(16).padStart(8, "0")}`;
  for (const hash of hashes) for (const part of [mocks[0].receipts.get(hash), ...mocks[0].receipts.get(hash).logs]) part.blockHash = fork;
  for (const mock of mocks) {
    const { hashOf } = mock;
    mock.hashOf = (height) => (Number(height) === block ? fork : hashOf.call(mock, height));
    for (const hash of gone) mock.receipts.delete(hash);
  }
  const count = async () => Number(await evm.rpc("eth_blockNumber"));
  const before = await count();
  await until(async () => (await count()) > before + 3, "blocks with settlements", 30_000);
  await evm.rpc("anvil_reorg", [3, []]);
  await span(world);
}

/** Nothing is shipped while requests go on: neither months nor the directory take anything. @param {World} world */
async function outbox(world) {
  await world.worker.away("RECORDS");
  await world.worker.dbFault({ names: "", stays: true });
  await isHeldUp(world, "unshipped records");
  await span(world);
  await isHeldUp(world, "entries of an outbox");
  await world.worker.dbFault();
  await world.worker.away();
}

/** A second signer is set beside the first; then the first is taken away while its transactions are in no block. @param {World} world */
async function signers(world) {
  const [old] = world.signers.slice(-1);
  const [key, next] = old === ACCOUNTS[3].address ? [KEYS[2], ACCOUNTS[2].address] : [KEYS[3], ACCOUNTS[3].address];
  const before = await sent(world.evm, "latest", next);
  world.signers = [...world.signers.filter((one) => one !== next), next];
  await world.kill({ EVM_SIGNERS_TEST: `${key},${world.vars.EVM_SIGNERS_TEST}` });
  await until(async () => (await sent(world.evm, "latest", next)) > before, "the new signer to be used", 60_000);
  await world.evm.rpc("evm_setAutomine", [false]);
  const waits = async () => (await sent(world.evm, "pending", old)) > (await sent(world.evm, "latest", old));
  await until(waits, "a transaction of the old signer in the pool", 60_000);
  await world.kill({ EVM_SIGNERS_TEST: key });
  await world.evm.rpc("evm_setAutomine", [true]);
  await world.evm.rpc("evm_mine");
  await span(world);
}

/** A new pepper is set before the old ones: their keys still hold, and new keys are made by it. @param {World} world */
async function peppers(world) {
  const pepper = Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString("hex");
  await world.kill({ KEY_PEPPERS: `${pepper},${world.vars.KEY_PEPPERS ?? PEPPERS}` });
  await span(world);
  for (const own of world.accounts.filter((_, at) => at % 2 === 0)) {
    const { status, body, text } = await world.worker.call("POST", `/v1/admin/tenants/${own.id}/api-keys`, {
      admin: true,
      body: { name: "new", environment: own.environment, scopes: ["verify", "settle", "analytics", "manage"] },
    });
    if (status !== 201) throw new Error(text);
    own.key = body.key;
  }
  await span(world);
}

/** @type {Record<string, (world: World) => Promise<void>>} */
export const FAULTS = {
  "workerd is killed": kill,
  "D1 fails": directory,
  "the queue fails": queue,
  "providers are slow": slow,
  "providers disagree": disagree,
  "providers vanish": vanish,
  "the chains are reorganised": reorganise,
  "the outbox is filled": outbox,
  "signers are rotated": signers,
  "peppers are rotated": peppers,
  "the clock passes a month's end": monthEnd,
  "R2 fails": archive,
};

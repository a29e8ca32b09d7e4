// npm run bench:records [-- --records N] [-- --build FOLDER] [-- --only read|list|export|restore]: puts records (a million) through a Records object of a local
// Worker, as a ledger ships them; lists, reads and exports them, archives the month, and does the same from the archive. Prints rates,
// sizes, rows written, the most that the Worker's isolate held at a time (its WebAssembly memory and what lives in V8 after
// a collection of garbage), and how far workerd's memory grew above an idle one's (which holds SQLite's caches, Miniflare's
// own Workers and what V8 has not collected yet); fails where a count differs, or where the isolate held too much.
import { randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setUp, underNewNode } from "../scripts/lib/tools.mjs";
import { memory, workerdPid } from "./workerd.mjs";

/** What a ledger ships in one batch at most: rows, and bytes. */
const ROWS = 100;
const BYTES = 1_000_000;
const DAY = 86_400_000;
/** What an isolate may hold, in MiB. */
const ISOLATE_MAX = 128;
/** How often it is measured while a step runs. */
const SAMPLE_MS = 500;

await setUp();
if (!(await underNewNode(import.meta.url))) await main();

function bytesBelow(folder) {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return files.reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0);
}

/** A number for people. */
function round(number, digits = 0) {
  return Number(number).toLocaleString("en", { maximumFractionDigits: digits });
}

async function main() {
  const { option } = await import("./turns.mjs");
  const { startMock } = await import("../tests/workerd/mock-rpc.mjs");
  const { archivedFrom, ask, monthOf, rollups, ulid } = await import("../tests/workerd/months.mjs");
  const { startWorker, until } = await import("../tests/workerd/worker.mjs");
  const { build } = await import("../scripts/lib/build.mjs");
  process.env.TMPDIR = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "x402-bench-"));
  const count = Number(option("records", 1_000_000));
  const [folder, only] = [option("build"), option("only")];
  if (!folder) await build();
  const mock = await startMock();
  const worker = await startWorker({ vars: { RPC_BASE: mock.url }, inspect: true, ...(folder ? { build: folder } : {}) });
  const pid = workerdPid();
  try {
    const to = `0x${randomBytes(20).toString("hex")}`;
    const { id: tenant, live: key } = await worker.tenant({
      recipients: { base: to },
      limits: { per_minute: 1_000_000, per_hour: 10_000_000 },
    });
    const hash = mock.addTransfer({ from: `0x${randomBytes(20).toString("hex")}`, to, amount: 1_500_000, block: 900 });
    const { body: answer } = await worker.verify(key, { tx_hash: hash, chain: "base", reference: "order-17", expected_amount: "1.50" });
    if (!answer.success) throw new Error(`no record to copy: ${JSON.stringify(answer)}`);
    // Everything that differs between real records differs here: ids, hashes, payers, amounts, times.
    const template = JSON.stringify(answer);
    const month = monthOf(Date.now());
    const start = Date.parse(`${month}-01`);
    const step = (archivedFrom(month) - 90 * DAY - start - 1) / count;
    const owner = { tenant, month };
    let sum = 0n;
    const record = (n) => {
      const id = `ver_${ulid(Math.floor(start + n * step))}`;
      const amount = 1_000_000 + (n % 1_000_000);
      sum += BigInt(amount);
      const own = template
        .replaceAll(answer.id, id)
        .replaceAll(answer.tx_hash, `0x${randomBytes(32).toString("hex")}`)
        .replaceAll(answer.from_address, `0x${randomBytes(20).toString("hex")}`)
        .replaceAll(answer.block_hash, `0x${randomBytes(32).toString("hex")}`)
        .replaceAll(answer.request_id, `req_${ulid(Date.now())}`)
        .replaceAll('"1500000"', `"${amount}"`);
      return { id, text: `{"id":"${id}","revision":0,"record":${own}}` };
    };
    const objects = /** @type {any} */ (await worker.mf.getDurableObjectNamespace("RECORDS"));
    const stub = objects.get(objects.idFromName(`${tenant}:live:${month}`));
    const take = async (lines) => {
      const body = `{"tenant":"${tenant}","environment":"live","month":"${month}","message":{"take":{"records":[${lines.join(",")}],"events":[]}}}`;
      const reply = await (await stub.fetch("https://records/v2/", { method: "POST", body })).text();
      if (!reply.includes('"taken"')) throw new Error(reply);
    };
    const idle = memory(pid);
    let peak = idle.now;
    const timer = setInterval(() => {
      peak = Math.max(peak, memory(pid).now);
    }, 100);
    /** Runs a step; prints what it did a second, and the peak of memory above the idle Worker. */
    const measure = async (name, act) => {
      peak = memory(pid).now;
      const begun = performance.now();
      const held = { wasm: 0, live: 0 };
      const sample = async () => {
        held.wasm = Math.max(held.wasm, (await worker.memory()) / 2 ** 20);
        held.live = Math.max(held.live, (await worker.heap()) / 2 ** 20);
      };
      let isOver = false;
      const sampling = (async () => {
        while (!isOver) {
          await sample();
          await new Promise((resolve) => setTimeout(resolve, SAMPLE_MS));
        }
      })();
      const { done, more = "" } = await act().finally(() => {
        isOver = true;
      });
      const seconds = (performance.now() - begun) / 1_000;
      const growth = Math.max(0, peak - idle.now);
      await sampling;
      await sample();
      console.log(
        `${name.padEnd(22)} ${round(done).padStart(9)} in ${round(seconds, 1).padStart(6)} s, ${round(done / seconds).padStart(7)} a second, at most ${round(held.wasm)} MiB of WebAssembly and ${round(held.live)} MiB in V8, workerd +${round(growth)} MiB${more && `, ${more}`}`,
      );
      if (held.wasm + held.live > ISOLATE_MAX) throw new Error(`${name}: the isolate held ${round(held.wasm + held.live)} MiB`);
    };
    /** The same of a step that only reads, where it is wanted. */
    const reading = async (name, act) => {
      if (!only || name.startsWith(only)) await measure(name, act);
    };
    /** @type {string[]} */
    const ids = [];
    let bytes = 0;
    await worker.written();
    await measure("take", async () => {
      /** @type {string[]} */
      let lines = [];
      let size = 0;
      for (let n = 0; n < count; n++) {
        const { id, text } = record(n);
        if (lines.length === ROWS || size + text.length > BYTES) {
          await take(lines);
          [lines, size] = [[], 0];
        }
        lines.push(text);
        size += text.length;
        bytes += text.length;
        ids.push(id);
      }
      await take(lines);
      const { rows } = await worker.written();
      return { done: count, more: `${round((rows / count) * 1e6)} rows written a million, ${round(bytes / count)} bytes a record` };
    });
    const stored = bytesBelow(join(worker.state, "do", "-Records"));
    console.log(`stored: ${round(stored / 2 ** 20)} MiB, ${round(stored / count)} bytes a record`);
    const read = async (wanted) => {
      for (let n = 0; n < wanted; n++) {
        const id = ids[Math.floor(Math.random() * count)];
        const { status, body } = await worker.call("GET", `/v1/verifications/${id}`, { key });
        if (status !== 200 || body.id !== id) throw new Error(`${id} is answered by ${status}`);
      }
      return { done: wanted };
    };
    const list = async (pages) => {
      const expected = [...ids, answer.id].sort();
      let [cursor, found] = ["", 0];
      for (let page = 0; page < pages; page++) {
        const { status, body, text } = await worker.call("GET", `/v1/verifications?limit=100${cursor}`, { key });
        if (status !== 200) throw new Error(text);
        for (const { id } of body.data) {
          if (id !== expected.pop()) throw new Error(`${id} is listed out of turn`);
          found++;
        }
        if (!body.next_cursor) break;
        cursor = `&cursor=${body.next_cursor}`;
      }
      return { done: found };
    };
    /** Downloads an export; every record must come once, the newest first, and the end must say so. */
    const exported = async (format) => {
      const headers = { authorization: `Bearer ${key}` };
      const { status, body } = await fetch(`${worker.url}/v1/export?format=${format}`, { headers });
      if (status !== 200 || !body) throw new Error(`an export is answered by ${status}`);
      const expected = [...ids, answer.id].sort();
      const start = { csv: 1, ndjson: '{"id":"'.length }[format];
      let [found, size, rest, last] = [0, 0, "", ""];
      for await (const chunk of body.pipeThrough(new TextDecoderStream())) {
        size += chunk.length;
        const lines = (rest + chunk).split("\n");
        rest = lines.pop() ?? "";
        for (const line of lines) {
          const id = line.slice(start, start + answer.id.length);
          last = line;
          if (!id.startsWith("ver_")) continue;
          if (id !== expected.pop()) throw new Error(`${id} is exported out of turn`);
          found++;
        }
      }
      if (expected.length) throw new Error(`${expected.length} records are not exported`);
      if (format === "ndjson" && last !== `{"complete":true,"rows":${found}}`) throw new Error(`the last line is ${last}`);
      return { done: found, more: `${round(size / 2 ** 20)} MiB` };
    };
    await reading("export as NDJSON", () => exported("ndjson"));
    await reading("export as CSV", () => exported("csv"));
    await reading("read by id", () => read(Math.min(500, count)));
    await reading("list by 100", () => list(Math.ceil(count / 100) + 1));
    const total = async () => {
      const rows = [...(await rollups(worker, tenant))].filter(([name]) => name.startsWith("day "));
      return [rows.reduce((sum, [, [count]]) => sum + count, 0), rows.reduce((sum, [, [, amount]]) => sum + BigInt(amount), 0n)];
    };
    const wake = () => ask(worker, owner, { page: { before: null, rows: 1, bytes: 1 } });
    await wake();
    await measure("archive", async () => {
      await worker.advance(archivedFrom(month) - Date.now() + 1_000);
      await until(
        async () => {
          await worker.advance(1_000);
          return (await wake()).page?.records.length === 0;
        },
        "the archive",
        3_600_000,
      );
      return { done: count };
    });
    // The one that was verified is among them.
    const [records, amount] = await total();
    if (records !== count + 1 || amount !== sum + 1_500_000n) throw new Error(`the rollups count ${records} records of ${amount}`);
    const bucket = /** @type {any} */ (await worker.mf.getR2Bucket("ARCHIVE"));
    let [files, archivedBytes, cursor] = [0, 0, undefined];
    do {
      const listed = await bucket.list({ prefix: `${tenant}/live/`, cursor });
      files += listed.objects.length;
      archivedBytes += listed.objects.reduce((sum, { size }) => sum + size, 0);
      cursor = listed.truncated ? listed.cursor : undefined;
    } while (cursor);
    console.log(`archived: ${files} R2 objects, ${round(archivedBytes / 2 ** 20)} MiB, ${round(archivedBytes / count)} bytes a record`);
    // The ledger deletes its own after a week.
    await reading("read from the archive", () => read(Math.min(100, count)));
    await reading("list from the archive", () => list(20));
    await reading("export NDJSON, archive", () => exported("ndjson"));
    await reading("export CSV, archive", () => exported("csv"));
    await reading("restore", async () => {
      const { gunzipSync } = await import("node:zlib");
      const expected = new Set([...ids, answer.id]);
      let cursor;
      do {
        const listed = await bucket.list({ prefix: `${tenant}/live/`, cursor });
        for (const { key } of listed.objects) {
          const text = gunzipSync(Buffer.from(await (await bucket.get(key)).arrayBuffer())).toString();
          for (const line of text.trimEnd().split("\n")) {
            const { id, record } = JSON.parse(line);
            if (!expected.delete(id) || record.id !== id) throw new Error(`${id} is archived twice, or wrong`);
          }
        }
        cursor = listed.truncated ? listed.cursor : undefined;
      } while (cursor);
      if (expected.size) throw new Error(`${expected.size} records are not in the archive`);
      return { done: count + 1 };
    });
    clearInterval(timer);
    console.log(`workerd: ${round(idle.now)} MiB idle`);
  } finally {
    await worker.stop();
    mock.stop();
    rmSync(process.env.TMPDIR, { recursive: true, force: true });
  }
}

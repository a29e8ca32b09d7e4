// An export holds every row once, the newest first, from the months' objects, the archive and the directory; it goes on where
// it was cut, and a cut one is not taken for a complete one.
import assert from "node:assert/strict";
import { request as http } from "node:http";
import { after, before, test } from "node:test";
import { Browser, address, mailTo, signedUp } from "./browser.mjs";
import { checkDocumented } from "./documented.mjs";
import { archivedFrom, ask, monthOf, stored, ulid } from "./months.mjs";
import { startWorker, until } from "./worker.mjs";

const DAY = 86_400_000;
const RECORDS = 10_000;
/** What a buyer may write so that a spreadsheet computes it. */
const FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", '=cmd|"/c calc"!A0', "a,b;=1\r\nsecond line"];
/** The same as a cell shows it. */
const SHOWN = ["'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\tx", `'=cmd|"/c calc"!A0`, "a,b;'=1\r\nsecond line"];

let worker;
before(async () => (worker = await startWorker({ vars: { MAIL_BACKEND: "mailbox" } })));
after(() => worker.stop());

/**
 * Starts a download. `read` reads so many lines, or all, and ends it; `isWhole` where the body came to its end.
 * @returns {Promise<{ status: number, headers: any, read: (lines?: number) => Promise<{ text: string, isWhole: boolean }> }>}
 */
function download(query, headers) {
  const { hostname, port } = new URL(worker.url);
  return new Promise((resolve, reject) => {
    const asked = http({ hostname, port, path: `/v1/export?${query}`, agent: false, headers }, (response) => {
      const read = async (lines = Number.POSITIVE_INFINITY) => {
        let text = "";
        try {
          response.setEncoding("utf8");
          for await (const chunk of response) {
            text += chunk;
            const all = text.split("\n");
            if (all.length > lines) return { text: `${all.slice(0, lines).join("\n")}\n`, isWhole: false };
          }
          return { text, isWhole: response.complete };
        } catch {
          return { text, isWhole: false };
        } finally {
          asked.destroy();
        }
      };
      checkDocumented("GET", "/v1/export", Number(response.statusCode), undefined);
      resolve({ status: Number(response.statusCode), headers: response.headers, read });
    });
    asked.once("error", reject);
    asked.end();
  });
}

const bearer = (key) => ({ authorization: `Bearer ${key}` });

/** The rows of a file of CSV (RFC 4180), each with its cells by their columns; a row that is cut is left out. */
function rowsOfCsv(text) {
  const rows = [];
  let [row, cell, quoted] = [/** @type {string[]} */ ([]), "", false];
  for (let at = 0; at < text.length; at++) {
    const letter = text[at];
    if (quoted) {
      if (letter !== '"') cell += letter;
      else if (text[at + 1] === '"') cell += text[at++];
      else quoted = false;
    } else if (letter === '"') quoted = true;
    else if (letter === ",") [row, cell] = [[...row, cell], ""];
    else if (letter === "\n") {
      rows.push([...row, cell.slice(0, cell.endsWith("\r") ? -1 : undefined)]);
      [row, cell] = [[], ""];
    } else cell += letter;
  }
  const [head = [], ...lines] = rows;
  return lines.map((cells) => {
    assert.equal(cells.length, head.length);
    return Object.fromEntries(cells.map((text, at) => [head[at], text]));
  });
}

/** The rows of NDJSON without its last line where that says that it is complete; a line that is cut is left out. */
function rowsOfNdjson(text) {
  const lines = text.split("\n").slice(0, -1);
  const rows = lines.map((line) => JSON.parse(line));
  if (!rows.at(-1)?.complete) return { rows, isComplete: false };
  const end = rows.pop();
  assert.deepEqual(end, { complete: true, rows: rows.length });
  return { rows, isComplete: true };
}

const rowsOf = (format, text) => (format === "csv" ? rowsOfCsv(text) : rowsOfNdjson(text).rows);

/** Downloads in three parts, each cut somewhere and continued by the last id. */
async function inParts(format, query, headers, cut) {
  /** @type {any[]} */
  const all = [];
  for (const lines of [cut, cut, undefined]) {
    const cursor = all.length ? `&cursor=${all.at(-1).id}` : "";
    const { status, read } = await download(`${query}&format=${format}${cursor}`, headers);
    assert.equal(status, 200);
    const { text, isWhole } = await read(lines);
    assert.equal(isWhole, lines === undefined, `${query} ${format}`);
    if (format === "ndjson") assert.equal(rowsOfNdjson(text).isComplete, isWhole);
    all.push(...rowsOf(format, text));
  }
  return all;
}

const newestFirst = (ids) => [...ids].sort().reverse();

/** Records of a month, one a minute, and an event of every hundredth. */
async function fill(owner, start) {
  /** @type {{ records: any[], events: any[] }} */
  const all = { records: [], events: [] };
  const taken = [];
  for (let n = 0; n < RECORDS; n++) {
    const at = start + n * 60_000;
    const id = `ver_${ulid(at)}`;
    const reference = FORMULAS[n % FORMULAS.length];
    const error = "x".repeat(700);
    all.records.push({
      id,
      revision: 0,
      record: { id, chain: "base", status: "confirmed", error_code: null, amount: "1500000", reference, error },
    });
    if (n % 100 === 0)
      all.events.push({ id: `evt_${ulid(at + 1)}`, kind: "payment.finalized", subject: id, body: { id, reference }, at: at + 1 });
  }
  for (let n = 0; n < RECORDS; n += 100) {
    const [records, events] = [all.records.slice(n, n + 100), all.events.slice(n / 100, n / 100 + 1)];
    taken.push(await ask(worker, owner, { take: { records, events } }));
  }
  assert.ok(taken.every((reply) => reply === "taken"));
  return all;
}

/** A tenant with records and events of a month that is archived and of one that is not. */
const seeded = async () => {
  const { id: tenant, live: key, test: testKey } = await worker.tenant();
  const archived = monthOf(Date.now());
  const old = await fill({ tenant, month: archived }, Date.parse(`${archived}-01`) + 1_000);
  const due = archivedFrom(archived) + 5 * DAY;
  await worker.advance(due - Date.now());
  await until(
    async () => {
      await worker.advance(61_000);
      await ask(worker, { tenant, month: archived }, { page: { before: null, rows: 1, bytes: 1 } });
      return stored(worker, tenant).length === 0;
    },
    "the archive",
    120_000,
  );
  const month = monthOf(due);
  const fresh = await fill({ tenant, month }, Date.parse(`${month}-01`) + 1_000);
  const last = await worker.call("GET", "/v1/verifications?limit=1", { key });
  assert.equal(last.status, 200);
  return { tenant, key, testKey, archived, month, records: [...old.records, ...fresh.records], events: [...old.events, ...fresh.events] };
};
/** @type {Awaited<ReturnType<typeof seeded>> | undefined} */
let made;
const ours = async () => (made ??= await seeded());

test("every verification and event comes once, the newest first, however often the download is cut", async () => {
  const { key, records, events } = await ours();
  const ids = newestFirst(records.map(({ id }) => id));
  /** @type {Map<string, any>} */
  const byId = new Map(records.map(({ id, record }, n) => [id, { ...record, shown: SHOWN[(n % RECORDS) % SHOWN.length] }]));
  // The clock of the test is ahead: no month after the current one holds a record.
  for (const format of ["ndjson", "csv"]) {
    const rows = await inParts(format, "kind=verifications", bearer(key), 6_000);
    assert.deepEqual(
      rows.map(({ id }) => id),
      ids,
      format,
    );
    for (const row of rows) {
      const { shown, ...record } = byId.get(row.id);
      if (format === "csv") assert.equal(row.reference, shown);
      else assert.deepEqual(row, record);
    }
    assert.equal(rows[0].error_code, format === "csv" ? "" : null);
    const eventIds = newestFirst([...events.map(({ id }) => id), ...records.map(({ id }) => id.replace("ver_", "evt_"))]);
    const listed = await inParts(format, "kind=events", bearer(key), 6_000);
    // What has happened to the tenant itself is there too.
    const found = listed.filter(({ type }) => /^(verification|payment)/.test(type));
    assert.deepEqual(
      found.map(({ id }) => id),
      eventIds,
      format,
    );
    const { data } = found.find(({ type }) => type === "payment.finalized");
    const text = format === "csv" ? data : JSON.stringify(data);
    assert.equal(JSON.parse(text).reference, events.at(-1)?.body.reference);
  }
});

test("a range is exported, and of another environment nothing", async () => {
  const { key, testKey, records, archived } = await ours();
  const [from, to] = [Date.parse(`${archived}-01`) + 1_000 + 100 * 60_000, Date.parse(`${archived}-01`) + 1_000 + 2_100 * 60_000];
  const range = `from=${new Date(from).toISOString()}&to=${new Date(to).toISOString()}`;
  for (const kind of ["verifications", "events"]) {
    const { text, isWhole } = await (await download(`kind=${kind}&${range}`, bearer(key))).read();
    const { rows, isComplete } = rowsOfNdjson(text);
    assert.ok(isWhole && isComplete);
    const found = newestFirst(records.slice(100, 2_100).map(({ id }) => id.slice(4)));
    // On the month's first days the tenant's own events, of now, are in the range too.
    const isOfRecord = ({ type, subject = "ver_" }) => type !== "payment.finalized" && subject.startsWith("ver_");
    assert.deepEqual(
      rows.filter(isOfRecord).map(({ id }) => id.slice(4)),
      found,
      kind,
    );
  }
  const other = await download("kind=verifications&format=csv", bearer(testKey));
  assert.match(String(other.headers["content-type"]), /^text\/csv/);
  assert.match(String(other.headers["content-disposition"]), /filename="verifications.csv"/);
  assert.deepEqual(rowsOfCsv((await other.read()).text), []);
  const { text } = await (await download("", bearer(testKey))).read();
  assert.equal(text, '{"complete":true,"rows":0}\n');
  const wrong = await worker.call("GET", "/v1/export?environment=live", { key: testKey });
  assert.deepEqual([wrong.status, wrong.body.error_code], [422, "INVALID_REQUEST"]);
});

test("an export that a month cuts does not look complete, and goes on", async () => {
  const { key, records, archived, month } = await ours();
  const ids = newestFirst(records.map(({ id }) => id));
  for (const format of ["ndjson", "csv"]) {
    await worker.fault({ names: `"month":"${archived}"`, unsent: true, stays: true });
    const { status, read } = await download(`format=${format}`, bearer(key));
    assert.equal(status, 200);
    const { text, isWhole } = await read();
    assert.equal(isWhole, false, `${format} ended as if it were complete`);
    const rows = rowsOf(format, text);
    assert.ok(rows.length > 0 && rows.length <= RECORDS, `${rows.length} rows`);
    if (format === "ndjson") assert.equal(rowsOfNdjson(text).isComplete, false);
    await worker.fault(null);
    const rest = await (await download(`format=${format}&cursor=${rows.at(-1).id}`, bearer(key))).read();
    assert.equal(rest.isWhole, true);
    rows.push(...rowsOf(format, rest.text));
    assert.deepEqual(
      rows.map(({ id }) => id),
      ids,
    );
  }
  await worker.fault({ names: `"month":"${month}"`, unsent: true, stays: true });
  const away = await worker.call("GET", "/v1/export", { key });
  assert.deepEqual([away.status, away.body.error_code], [503, "LEDGER_UNAVAILABLE"]);
  await worker.fault(null);
});

test("a tenant has two exports at a time, and a place is free when one has ended", async () => {
  const { key } = await ours();
  const open = [await download("", bearer(key)), await download("format=csv", bearer(key))];
  assert.deepEqual(
    open.map(({ status }) => status),
    [200, 200],
  );
  const third = await worker.call("GET", "/v1/export", { key });
  assert.deepEqual([third.status, third.body.error_code, third.headers.get("retry-after")], [429, "RATE_LIMITED", "10"]);
  await open[0].read(1);
  const again = await until(async () => {
    const tried = await download("", bearer(key));
    return tried.status === 200 && tried;
  }, "a place");
  await Promise.all([again.read(1), open[1].read(1)]);
});

test("a HEAD request takes no place; sixty exports begin in a minute, and take nothing from payments", async () => {
  const { live } = await worker.tenant({ limits: { per_minute: 5, per_hour: 100 } });
  const used = async (key) => (await worker.call("GET", "/v1/usage", { key })).body.rate.minute.used;
  for (let n = 0; n < 6; n++) {
    const { status, headers, text } = await worker.call("HEAD", "/v1/export?format=csv", { key: live });
    assert.deepEqual([status, headers.get("content-disposition"), text], [200, 'attachment; filename="verifications.csv"', ""]);
  }
  const allowed = async (query, headers) => {
    const { status, read } = await download(query, headers);
    await read();
    return status === 200;
  };
  let begun = 0;
  while (begun < 60 && (await allowed("kind=settlements", bearer(live)))) begun++;
  assert.equal(begun, 60);
  const refused = await worker.call("GET", "/v1/export?kind=settlements", { key: live });
  assert.deepEqual([refused.status, refused.body.error_code], [429, "RATE_LIMITED"]);
  assert.ok(Number(refused.headers.get("retry-after")) >= 1);
  assert.equal(await used(live), 0);
  assert.equal((await worker.call("GET", "/v1/events", { key: live })).status, 200);
  await worker.advance(61_000);
  assert.ok(await allowed("kind=settlements", bearer(live)));
  // A session's are counted too, also those of the audit log, which no ledger holds.
  const { browser } = await signedUp(worker);
  await browser.call("POST", "/v1/api-keys", { name: "k", environment: "live", scopes: ["verify"] });
  const cookie = { cookie: [...browser.cookies].map((pair) => pair.join("=")).join("; ") };
  for (let n = 0; n < 60; n++) assert.ok(await allowed(n % 2 ? "kind=audit" : "kind=settlements", cookie), `export ${n}`);
  assert.equal((await browser.call("GET", "/v1/export?kind=audit")).body.error_code, "RATE_LIMITED");
});

test("what an export does not know is refused", async () => {
  const { live } = await worker.tenant();
  for (const [query, param] of [
    ["limit=3", "limit"],
    ["type=payment.*", "type"],
    ["kind=events&kind=audit", "kind"],
    [`cursor=evt_${ulid(1)}`, "cursor"],
    ["environment=test", "environment"],
    ["from=2026-11-02T00:00:00Z&to=2026-11-01T00:00:00Z", "to"],
  ]) {
    const { status, body } = await worker.call("GET", `/v1/export?${query}`, { key: live });
    assert.deepEqual([status, body.error_code, body.param], [422, "INVALID_REQUEST", param], query);
  }
});

/** A download that reads only what `some` asks for. */
function slowDownload(query, headers) {
  const { hostname, port } = new URL(worker.url);
  /** @type {{ status: number, bytes: number, room: number, text: string, whole?: boolean }} */
  const state = { status: 0, bytes: 0, room: 0, text: "" };
  const asked = http({ hostname, port, path: `/v1/export?${query}`, agent: false, headers }, async (response) => {
    state.status = Number(response.statusCode);
    try {
      response.setEncoding("utf8");
      for await (const chunk of response) {
        [state.bytes, state.text] = [state.bytes + chunk.length, (state.text + chunk).slice(-200)];
        while (state.bytes > state.room) await new Promise((resolve) => setTimeout(resolve, 20));
      }
    } catch {
      // Cut.
    }
    state.whole = response.complete;
  });
  asked.once("error", () => {});
  asked.end();
  const some = (bytes) => {
    state.room = state.bytes + bytes;
    return until(() => state.bytes > state.room || state.whole !== undefined, `${bytes} bytes`, 60_000);
  };
  return { state, some, begun: () => until(() => state.status, "an answer"), close: () => asked.destroy() };
}

test("an export ends with its key, however slowly it is read, and does not look complete", async () => {
  const { tenant, key } = await ours();
  const body = { name: "leaves", environment: "live", scopes: ["analytics"] };
  const made = await worker.call("POST", `/v1/admin/tenants/${tenant}/api-keys`, { admin: true, body });
  const held = slowDownload("kind=events", bearer(key));
  const revoked = slowDownload("kind=events", bearer(made.body.key));
  await Promise.all([held.begun(), revoked.begun()]);
  const path = `/v1/admin/tenants/${tenant}/api-keys/${made.body.api_key.id}`;
  assert.equal((await worker.call("DELETE", path, { admin: true })).status, 200);
  for (let n = 0; n < 4; n++) {
    await worker.advance(22_000);
    await Promise.all([held.some(1_200_000), revoked.some(1_200_000)]);
  }
  await until(() => worker.log.lines.some((line) => line.includes("the key does not hold any more")), "the end of an export", 40_000);
  for (const each of [held, revoked]) await each.some(Number.MAX_SAFE_INTEGER);
  await until(() => held.state.whole !== undefined && revoked.state.whole !== undefined, "both ends", 60_000);
  assert.deepEqual([held.state.whole, revoked.state.whole], [true, false]);
  assert.ok(held.state.text.includes('{"complete":true') && !revoked.state.text.includes('"complete"'));
});

test("an export of which nothing is read ends, and leaves its place", async () => {
  const { key } = await ours();
  const both = [slowDownload("kind=events", bearer(key)), slowDownload("", bearer(key))];
  for (const each of both) await each.begun();
  assert.equal((await worker.call("GET", "/v1/export", { key })).status, 429);
  // What the connections hold on their way is filled: nothing more is read.
  const asked = async () => JSON.stringify(await worker.asks());
  await until(async () => {
    const before = await asked();
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    return (await asked()) === before;
  }, "nothing that is read");
  const ended = () => worker.log.lines.filter((line) => line.includes("a client takes nothing")).length;
  const before = ended();
  await worker.advance(61_000);
  await until(() => ended() >= before + 2, "both ends", 40_000);
  for (const each of both) {
    await each.some(Number.MAX_SAFE_INTEGER);
    await until(() => each.state.whole !== undefined, "its end", 60_000);
    assert.equal(each.state.whole, false);
    each.close();
  }
});

test("settlements and the audit log come from the directory, each to whom it is open", async () => {
  const owner = await signedUp(worker);
  const tenant = owner.session.tenant.id;
  const cookie = (browser) => ({ cookie: [...browser.cookies].map((pair) => pair.join("=")).join("; ") });
  const start = Date.now() - 10 * DAY;
  const settlements = Array.from({ length: 2_500 }, (_, n) => ({
    id: `stl_${ulid(start + n)}`,
    status: "completed",
    payer: FORMULAS[n % FORMULAS.length],
  }));
  await worker.sql(
    `INSERT INTO settlements (id, tenant_id, environment, created_ms, network, status, body, revision)
      SELECT value ->> 'id', ?, 'live', 1, 'eip155:8453', 'completed', value, 1 FROM json_each(?)`,
    tenant,
    JSON.stringify(settlements),
  );
  const entries = Array.from({ length: 2_500 }, (_, n) => ({ id: `aud_${ulid(start + n)}`, agent: FORMULAS[n % FORMULAS.length] }));
  await worker.sql(
    `INSERT INTO audit_log (id, tenant_id, action, subject, detail, ip_prefix, user_agent, created_ms, actor_kind, actor_id)
      SELECT value ->> 'id', ?, 'key.created', 'key_1', NULL, 'unknown', value ->> 'agent', 1, 'system', 'system' FROM json_each(?)`,
    tenant,
    JSON.stringify(entries),
  );
  for (const [kind, seeded, column] of /** @type {[string, any[], string][]} */ ([
    ["settlements", settlements, "payer"],
    ["audit", entries, "user_agent"],
  ]))
    for (const format of ["ndjson", "csv"]) {
      const all = await inParts(format, `kind=${kind}`, cookie(owner.browser), 1_200);
      // What has happened to the tenant before is newer.
      const rows = all.slice(all.length - seeded.length);
      assert.deepEqual(
        all.map(({ id }) => id),
        newestFirst(new Set(all.map(({ id }) => id))),
      );
      assert.deepEqual(
        rows.map(({ id }) => id),
        newestFirst(seeded.map(({ id }) => id)),
        `${kind} ${format}`,
      );
      const shown = format === "csv" ? SHOWN : FORMULAS;
      assert.deepEqual(
        rows.map((row) => row[column]),
        seeded.map((_, n) => shown[n % shown.length]).reverse(),
      );
    }
  const keyOf = async (...scopes) =>
    (await owner.browser.call("POST", "/v1/api-keys", { name: scopes[0], environment: "live", scopes })).body.key;
  const [manage, analytics] = [await keyOf("manage"), await keyOf("analytics")];
  const codeOf = async (kind, key) => (await worker.call("GET", `/v1/export?kind=${kind}&format=csv`, { key })).body?.error_code;
  assert.deepEqual(
    [
      await codeOf("audit", manage),
      await codeOf("audit", analytics),
      await codeOf("settlements", manage),
      await codeOf("settlements", analytics),
    ],
    [undefined, "INSUFFICIENT_SCOPE", "INSUFFICIENT_SCOPE", undefined],
  );
  const email = address();
  await owner.browser.call("POST", "/v1/members/invitations", { email, role: "viewer" });
  const viewer = new Browser(worker);
  await viewer.call("POST", "/v1/members/join", { token: (await mailTo(worker, email)).token });
  assert.equal((await viewer.call("GET", "/v1/export?kind=audit")).body.error_code, "INSUFFICIENT_ROLE");
  assert.equal((await download("kind=settlements", cookie(viewer))).status, 200);
});

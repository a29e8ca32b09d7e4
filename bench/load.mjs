// Load over keep-alive connections: raw sockets, one request at a time each.
import { connect } from "node:net";

/**
 * Runs `connections` for `seconds`; `next(n)` gives the n-th request as text, or
 * undefined to stop. Answers how many were answered with 200, the rest, and the
 * latencies' percentiles and the longest in milliseconds.
 */
export async function load({ host, port, connections, seconds, next }) {
  const until = performance.now() + seconds * 1000;
  const latencies = [];
  const totals = { good: 0, bad: 0, lost: 0 };
  let sent = 0;
  const statuses = new Map();
  const one = () =>
    new Promise((/** @type {(value?: undefined) => void} */ resolve) => {
      const socket = connect(port, host);
      let began = 0;
      let pending = Buffer.alloc(0);
      const send = () => {
        const text = performance.now() < until ? next(sent) : undefined;
        if (text === undefined) {
          socket.end();
          return;
        }
        sent++;
        began = performance.now();
        socket.write(text);
      };
      socket.setNoDelay(true);
      socket.once("connect", send);
      socket.on("data", (chunk) => {
        pending = pending.length ? Buffer.concat([pending, chunk]) : chunk;
        const end = pending.indexOf("\r\n\r\n");
        if (end < 0) return;
        const head = pending.toString("latin1", 0, end);
        const length = /content-length: (\d+)/i.exec(head);
        const chunked = /transfer-encoding: chunked/i.test(head);
        const whole = length ? pending.length >= end + 4 + Number(length[1]) : chunked ? pending.includes("0\r\n\r\n", end) : true;
        if (!whole) return;
        const status = head.slice(9, 12);
        statuses.set(status, (statuses.get(status) ?? 0) + 1);
        if (status === "200") totals.good++;
        else totals.bad++;
        latencies.push(performance.now() - began);
        began = 0;
        pending = Buffer.alloc(0);
        send();
      });
      const over = () => {
        if (began) totals.lost++;
        began = 0;
        resolve();
      };
      socket.once("close", over);
      socket.once("error", over);
    });
  const started = performance.now();
  await Promise.all(Array.from({ length: connections }, one));
  const took = (performance.now() - started) / 1000;
  latencies.sort((a, b) => a - b);
  const at = (part) => latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * part))] ?? 0;
  return {
    ...totals,
    statuses: Object.fromEntries(statuses),
    perSecond: totals.good / took,
    p50: at(0.5),
    p95: at(0.95),
    p99: at(0.99),
    longest: at(1),
  };
}

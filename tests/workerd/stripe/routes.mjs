// Which part answers a request: the gateway's own resources, or the world, for which a request is put in its words first.
import { encode, page } from "./forms.mjs";

/** Links to payments, which the world does not expand: an invoice's, where the answer has invoices. */
const PAYMENTS = /^(data\.)?(latest_invoice\.)?payments$/;

/** A phase's length in words, `duration` since 2025-09-30.clover, becomes its end. */
function ended(phases, now) {
  let end = now;
  return phases.map(({ duration, ...phase }) => {
    const start = phase.start_date === "now" ? now : (phase.start_date ?? end);
    if (duration) {
      const { interval, interval_count: count = 1 } = duration;
      const date = new Date(start * 1000);
      if (interval === "day" || interval === "week") date.setUTCDate(date.getUTCDate() + count * (interval === "week" ? 7 : 1));
      else addMonths(date, interval === "year" ? 12 * count : count);
      end = date.getTime() / 1000;
    } else end = phase.end_date === "now" ? now : phase.end_date;
    return { ...phase, ...(phase.start_date === undefined ? {} : { start_date: start }), end_date: end };
  });
}

/** A month later is the same day, or the month's last. */
function addMonths(date, months) {
  const day = date.getUTCDate();
  date.setUTCDate(1);
  date.setUTCMonth(date.getUTCMonth() + months);
  date.setUTCDate(Math.min(day, new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 0)).getUTCDate()));
}

const isLink = (link) => link !== "" && link !== "data";

/** A request in the world's words. */
function inWords(path, { expand, billing_cycle_anchor: anchor, phases, ...params }, now) {
  // Payments are expanded with what has them.
  const links = (expand ?? []).map((link) => (PAYMENTS.test(link) ? link.split(".").slice(0, -1).join(".") : link));
  return {
    ...params,
    ...(links.some(isLink) ? { expand: [...new Set(links.filter(isLink))] } : {}),
    ...(anchor ? { billing_cycle_anchor: anchor.type ?? anchor } : {}),
    ...(phases ? { phases: path.startsWith("/v1/subscription_schedules") ? ended(phases, now) : phases } : {}),
    ...(params.start_date === "now" ? { start_date: now } : {}),
  };
}

/** Answers requests. */
export function routes({ world, resources, delivery, now }) {
  const own = Object.values(resources).flatMap(({ routes: all }) => all);

  /** Events with the pinned version, and which of them are not delivered. */
  function events(params) {
    const { delivery_success: delivered, type, types, created, ...cut } = params;
    const pending = new Set(delivery.pending().map((event) => event.id));
    const matches = (event) =>
      (delivered === undefined || delivered !== pending.has(event.id)) &&
      (!type || (type.endsWith("*") ? event.type.startsWith(type.slice(0, -1)) : event.type === type)) &&
      (!types || types.includes(event.type)) &&
      (!created || within(created, event.created));
    return page([...delivery.all()].reverse().filter(matches), cut, "/v1/events");
  }

  /** The payments of an invoice, as they are expanded. */
  const payments = (invoice) => ({
    object: "list",
    data: world.hook("payments", { invoice: invoice.id }),
    has_more: false,
    url: `/v1/invoice_payments?invoice=${invoice.id}`,
  });

  function expanded(body, links) {
    for (const link of links) {
      const steps = link.split(".").slice(0, -1);
      const found = steps.reduce((nodes, step) => nodes.flatMap((node) => node?.[step] ?? []), [body]);
      for (const invoice of found.filter((one) => one?.object === "invoice")) invoice.payments = payments(invoice);
    }
    return body;
  }

  return (method, path, params, key) => {
    for (const [verb, pattern, act] of own) {
      const [matched, ...names] = verb === method ? (pattern.exec(path) ?? []) : [];
      if (matched) return { status: 200, body: act(params, ...names) };
    }
    if (path === "/v1/events") return { status: 200, body: events(params) };
    const one = method === "GET" && /^\/v1\/events\/([^/]+)$/.exec(path);
    const event = one && delivery.all().find(({ id }) => id === one[1]);
    if (event) return { status: 200, body: event };
    const form = encode(inWords(path, params, Math.floor(now() / 1000)));
    const answer = world.request(method, path, method === "POST" ? { body: form, key } : { query: form });
    const { status, body } = answer;
    if (status >= 400 && /^Received unknown parameter|^Unrecognized request URL/.test(body.error.message)) {
      throw new Error(`stripe: the world lacks ${method} ${path}: ${body.error.message}`);
    }
    return {
      status,
      body:
        status < 400
          ? expanded(
              body,
              (params.expand ?? []).filter((link) => PAYMENTS.test(link)),
            )
          : body,
    };
  };
}

/** Whether a time is within a range, or the one that is said. */
function within(range, at) {
  if (typeof range !== "object") return at === Number(range);
  const { gt = -1, gte = 0, lt = Number.POSITIVE_INFINITY, lte = Number.POSITIVE_INFINITY } = range;
  return at > gt && at >= gte && at < lt && at <= lte;
}

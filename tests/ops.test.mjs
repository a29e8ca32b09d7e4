// What operators copy: Prometheus' rules and the dashboard name metrics that there are, and each alert has its page.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { debianProgram } from "../scripts/lib/debian.mjs";
import { ROOT } from "../scripts/lib/tools.mjs";

const text = (...path) => readFileSync(join(ROOT, ...path), "utf8");
const RULES = join("ops", "prometheus", "x402-edge.rules.yml");

/** The metrics that there are: names of their series, and labels. */
function metrics() {
  const rows = text("docs", "reference", "metrics.md").matchAll(/^\| `(x402_\w+)` \| (\w+) \| ([^|]*)\|/gm);
  const all = new Map();
  for (const [, name, kind, labels] of rows) {
    const known = [...labels.matchAll(/`(\w+)`/g)].map(([, label]) => label);
    if (kind === "histogram") {
      all.set(`${name}_bucket`, [...known, "le"]);
      for (const end of ["_sum", "_count"]) all.set(name + end, known);
    } else all.set(name, known);
  }
  assert.ok(all.size > 20);
  return all;
}

/** Every metric that an expression names is there, with the labels by which it is selected. */
function assertKnown(expression, all, where) {
  for (const [, name, selector = ""] of expression.matchAll(/\b(x402_\w+)(?:\{([^}]*)\})?/g)) {
    const labels = all.get(name);
    assert.ok(labels, `${where}: there is no metric ${name}`);
    for (const [, label] of selector.matchAll(/(\w+)\s*(?:=~|!~|!=|=)/g))
      assert.ok(labels.includes(label) || ["job", "instance"].includes(label), `${where}: ${name} has no label ${label}`);
  }
}

async function promtool(...args) {
  const { path, env } = await debianProgram("prometheus", "promtool", true);
  const { status, stdout, stderr } = spawnSync(path, args, { cwd: ROOT, env: { ...process.env, ...env }, encoding: "utf8" });
  return { status, output: stdout + stderr };
}

test("Prometheus' configuration and rules are valid, and each rule has a test that it passes", async () => {
  const folder = mkdtempSync(join(tmpdir(), "x402-ops-"));
  try {
    writeFileSync(join(folder, "token"), "x");
    const config = text("ops", "prometheus", "prometheus.yml").replace("/etc/prometheus/x402-edge.token", join(folder, "token"));
    writeFileSync(join(folder, "prometheus.yml"), config);
    writeFileSync(join(folder, "x402-edge.rules.yml"), text(RULES));
    const checked = await promtool("check", "config", join(folder, "prometheus.yml"));
    assert.equal(checked.status, 0, checked.output);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  const tested = await promtool("test", "rules", join("ops", "prometheus", "x402-edge.rules.test.yml"));
  assert.equal(tested.status, 0, tested.output);
  const alerts = [...text(RULES).matchAll(/- alert: (\w+)/g)].map(([, name]) => name);
  const inTests = text("ops", "prometheus", "x402-edge.rules.test.yml");
  for (const name of alerts)
    assert.match(inTests, new RegExp(`alertname: ${name}\\n\\s+exp_alerts: \\[\\{`), `${name} is not shown to fire`);
});

test("rules and dashboard name metrics and labels that there are", () => {
  const all = metrics();
  for (const [, expression] of text(RULES).matchAll(/expr: ([\s\S]*?)\n\s+(?:for|labels):/g)) assertKnown(expression, all, RULES);
  const dashboard = JSON.parse(text("ops", "grafana", "x402-edge.json"));
  const targets = dashboard.panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => ({ title, expr })));
  assert.ok(targets.length > 15);
  for (const { title, expr } of targets) assertKnown(expr, all, `the panel "${title}"`);
  const shown = targets.map(({ expr }) => expr).join(" ");
  for (const name of all.keys()) if (!/_(sum|count|bucket)$/.test(name)) assert.ok(shown.includes(name), `no panel shows ${name}`);
});

test("each alert has a page that says what it means, how to look and what to do", () => {
  const runbook = text("docs", "operate", "runbook.md");
  for (const [, alert, body] of text(RULES).matchAll(/- alert: (\w+)\n([\s\S]*?)(?=\n\s*- alert|$)/g)) {
    assert.match(body, new RegExp(`runbook: docs/operate/runbook\\.md#${alert.toLowerCase()}\\b`), alert);
    const [, page] = runbook.match(new RegExp(`\\n### ${alert}\\n([\\s\\S]*?)(?=\\n### |\\n## |$)`)) ?? [];
    assert.ok(page, `the runbook has no page of ${alert}`);
    for (const part of ["**Means**", "**Look**", "**Do**"]) assert.ok(page.includes(part), `${alert} has no ${part}`);
  }
});

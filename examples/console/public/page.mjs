/* page.mjs: takes the stream of events and shows it. What each event holds is in src/watch.mjs and src/queries.mjs. */
import { Chart, SPAN } from "/charts.mjs";
import { byId, each, fillTable, make, setText, show } from "/dom.mjs";
import { ago, bytes, capital, clock, count, duration, kindOf, none, perSecond } from "/format.mjs";

const seen = { server: { connected: false }, sample: null, history: null };
let page = { connected: false, since: Date.now() };
let skew = 0; // of the console's clock against this browser's, in ms

const now = () => Date.now() + skew;
const status = () => seen.status?.rows[0];

// ---- state

function lost({ refused, since, error, hint }) {
  return { kind: "lost", word: refused ? "PostgreSQL refuses" : "PostgreSQL does not answer", since, cause: error, hint };
}

function stateOf() {
  if (!page.connected) return { kind: "lost", word: "The console does not answer", since: page.since };
  if (!seen.server.connected) return lost(seen.server);
  if (seen.status?.error) return { kind: "bad", word: "The state cannot be read", cause: seen.status.error, hint: seen.status.hint };
  const s = status();
  if (!s) return { kind: "busy", word: "Connecting" };
  const cause = s.trouble && [capital(s.trouble), s.first_error].filter(Boolean).join(": ");
  return { kind: kindOf(s), word: capital(s.state), since: s.trouble_since, cause, hint: s.trouble && s.hint };
}

function showState() {
  const { kind, word, since, cause, hint } = stateOf();
  document.body.dataset.state = kind;
  setText(byId("word"), word);
  setText(byId("since"), since ? `since ${clock(since)} (${duration(Math.max(0, Math.floor((now() - new Date(since)) / 1000) * 1000))})` : "");
  show(byId("trouble"), Boolean(cause || hint));
  setText(byId("cause"), cause ?? "");
  setText(byId("hint"), hint ?? "");
  const title = `${word} – cache_aside`;
  if (document.title !== title) document.title = title;
  const { superuser, role } = seen.server;
  show(byId("notice"), Boolean(superuser));
  setText(byId("notice"), superuser ? `${role} is a superuser. This page needs no more than pg_monitor.` : "");
}

function showWhere() {
  const { database, host, port, role, version, extension } = seen.server;
  if (!database) return;
  setText(byId("where"), `${database} at ${host?.startsWith("/") ? "this machine" : `${host}:${port}`}, PostgreSQL ${version.replace(/ .*/, "")}, cache_aside ${extension ?? "is not installed"}, as ${role}`);
}

// ---- figures

function figures() {
  const s = status() ?? {};
  const n = seen.sample ?? {};
  const max = seen.server.max_wal_retained;
  return [
    { name: "Lag", value: duration(s.lag_ms), note: `${bytes(s.lag_bytes)} of log`, id: "lag" },
    { name: "Delivered in, p99", value: duration(n.p99), note: n.p50 == null ? "no commits just now" : `p50 ${duration(n.p50)}`, id: "p99" },
    { name: "Keys", value: perSecond(n.keys), note: `${count(s.keys)} in all`, id: "keys" },
    { name: "Commits", value: perSecond(n.commits), note: `${count(s.commits)} in all`, id: "commits" },
    { name: "Log kept", value: bytes(s.retained_wal), note: max ? `of ${bytes(max)}` : "", id: "retained" },
    { name: "Retries", value: count(s.retries), note: `${count(s.resyncs)} ${s.resyncs === 1 ? "resync" : "resyncs"}`, id: "retries" },
  ];
}

function makeFigure() {
  const node = make("div");
  node.append(make("dt"), make("dd", "value"), make("dd", "note"));
  return node;
}

function showFigures() {
  each(byId("figures"), figures(), makeFigure, (node, figure) => {
    node.dataset.figure = figure.id;
    [figure.name, figure.value, figure.note].forEach((text, i) => setText(node.children[i], text));
  });
}

// ---- charts

const charts = {};

function makeCharts() {
  charts.lag = new Chart(
    byId("lag"),
    [
      { label: "oldest waiting", colour: "busy", fill: true, unit: duration },
      { label: "p99", colour: "accent", unit: duration },
      { label: "p50", colour: "muted", unit: duration },
    ],
    { unit: duration, least: 1 },
  );
  charts.keys = new Chart(
    byId("keys"),
    [
      { label: "keys", colour: "accent", fill: true, unit: perSecond },
      { label: "commits", colour: "muted", unit: perSecond },
    ],
    { unit: perSecond, least: 1 },
  );
}

function showCharts() {
  const h = seen.history;
  if (!h) return;
  charts.lag.update([h.at, h.lag_ms, h.p99, h.p50]);
  charts.keys.update([h.at, h.keys, h.commits]);
  const last = seen.sample ?? {};
  setText(byId("lag-now"), `now ${duration(last.p99)} for 99 of 100 commits, the oldest waiting for ${duration(last.lag_ms)}`);
  setText(byId("keys-now"), `now ${perSecond(last.keys, "keys")}, ${perSecond(last.commits, "commits")}`);
}

// ---- findings

function makeFinding() {
  const node = make("li");
  const line = make("p");
  line.append(make("span", "severity"), make("strong"), make("span", "detail"));
  const remedy = make("div", "remedy");
  const button = make("button", "", "Copy");
  button.type = "button";
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(remedy.firstChild.textContent);
    setText(button, "Copied");
    setTimeout(() => setText(button, "Copy"), 2000);
  });
  const sql = make("pre");
  sql.tabIndex = 0;
  remedy.append(sql, button);
  node.append(line, remedy);
  return node;
}

function showFindings() {
  const { rows } = beginSection("mend", seen.check);
  each(byId("findings"), rows, makeFinding, (node, finding) => {
    node.dataset.severity = finding.severity;
    const [line, remedy] = node.children;
    [finding.severity, finding.what, finding.detail].forEach((text, i) => setText(line.children[i], text ?? ""));
    setText(remedy.children[0], finding.remedy ?? "");
    show(remedy, Boolean(finding.remedy));
    remedy.children[1].setAttribute("aria-label", `Copy the SQL for ${finding.what}`);
  });
}

// Problem, count, "none"; the rows to show
function beginSection(id, section) {
  const place = byId(id);
  const rows = section?.rows ?? [];
  const problem = place.querySelector(".problem");
  show(problem, Boolean(section?.error));
  setText(problem, section?.error ? [section.error, section.hint].filter(Boolean).join(" – ") : "");
  setText(place.querySelector(".count"), rows.length ? `${rows.length}${section.more ? "+" : ""}` : "");
  show(place.querySelector(".none"), Boolean(section) && !section.error && rows.length === 0);
  return { place, rows };
}

function showTable(id, section, columns, { onlyWhenThere = false } = {}) {
  const { place, rows } = beginSection(id, section);
  if (onlyWhenThere) show(place, rows.length > 0);
  const table = place.querySelector(".table");
  show(table, rows.length > 0);
  if (rows.length) fillTable(table, columns, rows, place.querySelector("h2").firstChild.textContent.trim());
}

// ---- rules

const ruleKey = (r) => JSON.stringify([r.relation, r.rule]);
let rulesBefore = new Map();

// Rates of a rule over the time between two askings
function rateRules(rows) {
  const at = now();
  const rated = new Map();
  for (const row of rows) {
    const before = rulesBefore.get(ruleKey(row));
    const seconds = before && (at - before.at) / 1000;
    const per = (name) => (before && seconds > 0.2 && row[name] >= before.row[name] ? (row[name] - before.row[name]) / seconds : null);
    rated.set(ruleKey(row), { at, row, fired: per("fired"), keys: per("keys") });
  }
  rulesBefore = rated;
}

function showRules() {
  const kinds = new Map((seen.kinds?.rows ?? []).map((r) => [ruleKey(r), r]));
  const holes = new Map();
  for (const gap of seen.gaps?.rows ?? []) holes.set(ruleKey(gap), (holes.get(ruleKey(gap)) ?? 0) + 1);
  const rated = (r) => rulesBefore.get(ruleKey(r)) ?? {};
  const most = Math.max(1e-9, ...[...rulesBefore.values()].map((r) => r.keys ?? 0));
  const gapsOf = (r) => holes.get(ruleKey(r)) ?? 0;
  showTable("rules", seen.rules, [
    { title: "Rule", code: true, value: (r) => r.rule ?? "(no room)" },
    { title: "Table", value: (r) => r.relation ?? none },
    { title: "By", value: (r) => kinds.get(ruleKey(r))?.level ?? none },
    { title: "Keys/s", number: true, value: (r) => perSecond(rated(r).keys), part: (r) => (rated(r).keys ?? 0) / most },
    { title: "Fired/s", number: true, value: (r) => perSecond(rated(r).fired) },
    { title: "Keys", number: true, value: (r) => count(r.keys) },
    { title: "Patterns", number: true, value: (r) => count(r.patterns) },
    { title: "Failures", number: true, value: (r) => count(r.failures), mark: (r) => (r.failures > 0 ? "bad" : null) },
    { title: "Last fired", number: true, value: (r) => ago(r.last_fired, now()) },
    { title: "Gaps", number: true, value: (r) => (gapsOf(r) ? count(gapsOf(r)) : none), mark: (r) => (gapsOf(r) ? "bad" : null) },
  ]);
}

// ---- replicas, Redis, Sentinels, long work

function showReplicas() {
  showTable("replicas", seen.replicas, [
    { title: "Replica", value: (r) => r.name },
    { title: "Region", value: (r) => r.region ?? none },
    { title: "State", value: (r) => (r.eligible ? `${r.state ?? "ready"}` : (r.why_not ?? r.state ?? none)), mark: (r) => (r.eligible ? "ok" : r.weight > 0 ? "bad" : null) },
    { title: "Replayed", code: true, number: true, value: (r) => r.replayed ?? none },
    { title: "Behind", number: true, value: (r) => bytes(r.lag_bytes) },
    { title: "Lag", number: true, value: (r) => duration(r.lag_ms) },
    { title: "Weight", number: true, value: (r) => count(r.weight) },
    { title: "Last seen", number: true, value: (r) => ago(r.last_seen, now()) },
  ]);
}

function showEndpoints() {
  showTable("endpoints", seen.endpoints, [
    { title: "Where", code: true, value: (e) => e.endpoint ?? none },
    { title: "State", value: (e) => e.redis_state ?? none, mark: (e) => (e.redis_state === "connected" ? "ok" : "bad") },
    { title: "Since", number: true, value: (e) => ago(e.redis_since, now()) },
    { title: "Version", value: (e) => e.redis_version ?? none },
    { title: "Mode", value: (e) => e.redis_mode ?? none },
    { title: "In flight", number: true, value: (e) => count(e.in_flight) },
    { title: "Acknowledged", code: true, number: true, value: (e) => e.acknowledged_lsn ?? none },
    { title: "Last error", value: (e) => (e.last_error ? `${e.last_error}, ${ago(e.last_error_at, now())}` : none) },
  ]);
}

function showSentinels() {
  const columns = [
    { title: "Sentinel", code: true, value: (s) => s.sentinel },
    { title: "Names", code: true, value: (s) => s.names ?? none },
    { title: "Agrees", value: (s) => (s.agrees ? "yes" : "no"), mark: (s) => (s.agrees ? "ok" : "bad") },
    { title: "Problem", value: (s) => s.problem ?? none },
  ];
  showTable("sentinels", seen.sentinels, columns, { onlyWhenThere: true });
}

function showProgress() {
  const share = (p) => (p.total > 0 ? Math.min(1, p.done / p.total) : 0);
  const columns = [
    { title: "Work", value: (p) => p.command },
    { title: "Phase", value: (p) => p.phase ?? none },
    { title: "Database", value: (p) => p.datname ?? none },
    { title: "Done", number: true, value: (p) => `${count(p.done)}${p.total ? ` of ${count(p.total)}` : ""} ${p.unit}`, part: share },
    { title: "Begun", number: true, value: (p) => ago(p.started, now()) },
  ];
  showTable("progress", seen.progress, columns, { onlyWhenThere: true });
}

// ---- the stream

const shows = {
  server: [showState, showWhere],
  status: [showState, showFigures],
  sample: [showFigures, showCharts],
  check: [showFindings],
  rules: [showRules],
  kinds: [showRules],
  gaps: [showRules],
  replicas: [showReplicas],
  endpoints: [showEndpoints],
  sentinels: [showSentinels],
  progress: [showProgress],
};

function take(name, data) {
  seen[name] = data;
  if (name === "rules") rateRules(data.rows);
  if (name === "sample") {
    skew = data.at * 1000 - Date.now();
    setText(byId("asked"), `Last answer ${clock(data.at * 1000)}.`);
  }
}

function takeEverything(data) {
  for (const [name, value] of Object.entries(data)) take(name, value);
  const h = data.history;
  const last = h.at.length - 1;
  seen.sample = last < 0 ? null : Object.fromEntries(Object.entries(h).map(([name, column]) => [name, column[last]]));
  for (const render of new Set(Object.values(shows).flat())) render();
}

function takeSample(sample) {
  const h = seen.history;
  if (!h) return;
  const columns = Object.entries(h);
  for (const [name, column] of columns) column.push(sample[name] ?? null);
  while (h.at[0] < sample.at - SPAN) for (const [, column] of columns) column.shift();
}

makeCharts();
const stream = new EventSource("/events");
stream.addEventListener("everything", (message) => {
  page = { connected: true, since: Date.now() };
  takeEverything(JSON.parse(message.data));
});
for (const name of Object.keys(shows)) {
  stream.addEventListener(name, (message) => {
    const data = JSON.parse(message.data);
    if (name === "sample") takeSample(data);
    take(name, data);
    for (const render of shows[name]) render();
  });
}
stream.addEventListener("error", () => {
  if (page.connected) page = { connected: false, since: Date.now() };
  showState();
});
setInterval(showState, 1000);

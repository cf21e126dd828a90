/*
 * watch.mjs: asks PostgreSQL, and remembers the last quarter of an hour.
 *
 * One connection, one query at a time. A query that the server ends (statement_timeout, a right that is missing, a view of a
 * newer release) is told beside its section, and the others go on. A server that does not answer within ANSWER_MS, or is
 * gone, costs the connection: what was seen last stays, marked as old, and a new connection is tried after one to five
 * seconds, for ever. What the server answers with an error is asked again after fifteen: its log has a line for each.
 *
 * A section is asked again after `every` seconds, or after twenty times what it took: on a catalog with very many rules
 * this console takes no more than a twentieth of a processor for each. While nobody looks, only the samples go on, every
 * five seconds.
 *
 * Emits "told" (name, data): "server", "sample", or a section of queries.mjs.
 */
import { EventEmitter } from "node:events";
import { performance } from "node:perf_hooks";
import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";
import { identity, ROWS, sections, session } from "./queries.mjs";
import { History, quantile, rate } from "./rates.mjs";

const ANSWER_MS = 6000;
const CONNECT_MS = 5000;
const MAX_PAUSE_MS = 5000;
const REFUSED_MS = 15000; // errors of the server are written to its log
const SAMPLES = 900;
const WINDOW = 10; // samples, for quantiles
const INT8 = 20;
const sampled = ["status", "latency"];
const counters = ["keys", "commits", "patterns", "batches"];

const types = { getTypeParser: (oid, format) => (oid === INT8 ? Number : pg.types.getTypeParser(oid, format)) };

// What to do about an error of PostgreSQL, where that can be said.
function hintFor(error, role) {
  switch (error.code) {
    case "42501":
      return `GRANT pg_monitor TO ${pg.escapeIdentifier(role ?? "")};`;
    case "3F000":
    case "42P01":
    case "42883":
      return "CREATE EXTENSION cache_aside in this database, or ALTER EXTENSION cache_aside UPDATE.";
    case "55000":
      return "Put cache_aside into shared_preload_libraries and restart the server.";
    default:
      return error.hint ?? null;
  }
}

// An answer of the server has a SQLSTATE; those of class 57P and 08 say that it is going or not there yet.
function isAnswer(error) {
  return /^[0-9A-Z]{5}$/.test(error.code ?? "") && !/^(57P|08)/.test(error.code);
}

export class Watch extends EventEmitter {
  constructor() {
    super();
    this.setMaxListeners(0);
    this.history = new History(["at", "lag_ms", "lag_bytes", "p50", "p99", ...counters], SAMPLES);
    this.latest = { server: { connected: false, since: new Date(), error: "not asked yet", hint: null } };
    this.watchers = 0;
    this.stopping = new AbortController();
  }

  start() {
    this.running = this.run();
  }

  async stop() {
    this.stopping.abort();
    this.drop();
    await this.running;
  }

  tell(name, data) {
    this.latest[name] = data;
    this.emit("told", name, data);
  }

  async run() {
    let wait = 0;
    while (!this.stopping.signal.aborted) {
      try {
        await this.connect();
        wait = 0;
        while (!this.stopping.signal.aborted) await this.round();
      } catch (error) {
        if (this.stopping.signal.aborted) break;
        this.drop();
        this.tellLost(error);
        wait = isAnswer(error) ? REFUSED_MS : Math.min(MAX_PAUSE_MS, wait + 1000);
        await this.sleep(wait);
      }
    }
  }

  sleep(ms) {
    this.sleeping = new AbortController();
    const signal = AbortSignal.any([this.stopping.signal, this.sleeping.signal]);
    return pause(ms, undefined, { signal }).catch(() => {});
  }

  tellLost(error) {
    const { connected, since } = this.latest.server;
    this.tell("server", {
      ...this.latest.server,
      connected: false,
      refused: isAnswer(error),
      since: connected ? new Date() : since,
      error: error.message || error.code || String(error), // of a refused connection to two addresses, the code alone
      hint: hintFor(error),
    });
  }

  async connect() {
    const client = new pg.Client({
      application_name: "cache_aside console",
      connectionTimeoutMillis: CONNECT_MS,
      query_timeout: ANSWER_MS,
      keepAlive: true,
      types,
    });
    client.on("error", () => {}); // the query that waits, or the next one, fails
    this.client = client;
    this.due = new Map();
    this.before = null;
    this.read = {};
    this.recent = [];
    await client.connect();
    await client.query(session);
    const { rows } = await client.query(identity);
    this.tell("server", { ...rows[0], host: client.host, port: client.port, connected: true, since: new Date(), error: null, hint: null });
  }

  // At once: a server that does not answer does not say goodbye either.
  drop() {
    this.client?.connection?.stream?.destroy();
    this.client = null;
  }

  async round() {
    const began = performance.now();
    for (const section of sections) {
      const due = this.due.get(section.name) ?? 0;
      const wanted = this.watchers > 0 || sampled.includes(section.name);
      if (wanted && performance.now() >= due) await this.ask(section);
    }
    this.sample();
    const period = this.watchers > 0 ? 1000 : 5000;
    await this.sleep(Math.max(50, period - (performance.now() - began)));
  }

  async ask({ name, every, sql }) {
    const began = performance.now();
    let pauseMs = every * 1000 - 100;
    try {
      const { rows } = await this.client.query(sql);
      this.read = { ...this.read, [name]: { at: performance.now(), rows } };
      this.tell(name, { rows: rows.length > ROWS && name !== "kinds" ? rows.slice(0, ROWS) : rows, more: rows.length > ROWS, error: null });
    } catch (error) {
      if (!isAnswer(error)) throw error;
      pauseMs = REFUSED_MS;
      this.tell(name, { rows: [], more: false, error: error.message, hint: hintFor(error, this.latest.server.role) });
      if (name === "status") this.read = { ...this.read, status: null };
    }
    const took = performance.now() - began;
    this.due.set(name, began + Math.max(pauseMs, 20 * took));
  }

  sample() {
    const status = this.read?.status?.rows[0];
    if (!status || this.read.status.at === this.before?.at) return;
    const at = this.read.status.at;
    const sample = { at: Date.now() / 1000, lag_ms: status.lag_ms, lag_bytes: status.lag_bytes };
    for (const name of counters) {
      sample[name] = this.before ? rate(this.before.status[name], status[name], (at - this.before.at) / 1000) : null;
    }
    this.before = { at, status };
    const histogram = this.read.latency?.rows ?? [];
    sample.p50 = quantile(this.recent[0], histogram, 0.5);
    sample.p99 = quantile(this.recent[0], histogram, 0.99);
    this.recent.push(histogram);
    if (this.recent.length > WINDOW) this.recent.shift();
    this.history.add(sample);
    this.tell("sample", sample);
  }

  // Somebody looks: the sections that rested while nobody did are asked now. A server that is away is not asked more often.
  watched(by) {
    this.watchers += by;
    if (this.watchers === 1 && by === 1 && this.latest.server.connected) this.sleeping?.abort();
  }

  // What a page needs at first

  everything() {
    const { sample, ...rest } = this.latest;
    return { ...rest, history: this.history.columns };
  }
}

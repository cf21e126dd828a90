import assert from "node:assert/strict";
import { test } from "node:test";
import { bytes, duration, kindOf, perSecond } from "../public/format.mjs";
import { History, quantile, rate } from "../src/rates.mjs";

test("rates: counters that went back, and the first reading, give none", () => {
  assert.equal(rate(10, 30, 2), 10);
  assert.equal(rate(30, 10, 2), null);
  assert.equal(rate(undefined, 10, 2), null);
  assert.equal(rate(10, 10, 0), null);
});

test("quantiles: of what came between two readings; the last bucket has no bound", () => {
  const histogram = (...counts) => counts.map((commits, i) => ({ below: i === 2 ? null : 2 ** i, commits }));
  assert.equal(quantile(histogram(5, 0, 0), histogram(5, 0, 0), 0.5), null);
  assert.equal(quantile(histogram(5, 0, 0), histogram(104, 1, 0), 0.5), 1);
  assert.equal(quantile(histogram(5, 0, 0), histogram(5, 10, 0), 0.5), 2);
  assert.equal(quantile(histogram(0, 0, 0), histogram(0, 0, 4), 0.99), 2);
  assert.equal(quantile(histogram(9, 9, 9), histogram(1, 0, 0), 0.5), null);
  assert.equal(quantile(undefined, histogram(1, 0, 0), 0.5), null);
});

test("the history forgets the oldest", () => {
  const history = new History(["at", "keys"], 2);
  for (const at of [1, 2, 3]) history.add({ at });
  assert.deepEqual(history.columns, { at: [2, 3], keys: [null, null] });
});

test("numbers have units", () => {
  assert.deepEqual([0, 0.413, 41.3, 2300, 65_000, 3_700_000, null].map(duration), ["0 ms", "0.41 ms", "41.3 ms", "2.30 s", "1 min 5 s", "1 h 1 min", "–"]);
  assert.deepEqual([0, 1023, 1536, 64 * 1024 ** 2, null].map(bytes), ["0 B", "1,023 B", "1.50 kB", "64.0 MB", "–"]);
  assert.deepEqual([perSecond(1234.4), perSecond(0.5, "keys"), perSecond(null)], ["1,234/s", "0.50 keys/s", "–"]);
});

test("states: only what is well is green", () => {
  assert.equal(kindOf({ state: "delivering", trouble: null }), "ok");
  assert.equal(kindOf({ state: "delivering", trouble: "NOPERM" }), "bad");
  assert.equal(kindOf({ state: "resyncing", trouble: null }), "busy");
  for (const state of ["waiting", "fenced", "refused", "off", "stopped", "anything else"]) assert.equal(kindOf({ state, trouble: null }), "bad");
});

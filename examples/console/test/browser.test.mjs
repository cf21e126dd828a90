/*
 * The page as its reader sees it, in order: each test goes on where the one before left the servers.
 *
 * Remedies: setText() and make() in public/dom.mjs (innerHTML there runs the hostile names); allowedHosts() and
 * isSameOrigin() in src/server.mjs; `session` in src/queries.mjs; run() (connects again) and REFUSED_MS in src/watch.mjs; kindOf() in
 * public/format.mjs.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { request } from "node:http";
import { after, before, test } from "node:test";
import pg from "pg";
import { openPage, startBrowser, startConsole, until } from "./support.mjs";

let browser, served, page, complaints, owner, load;

const text = (selector) => page.locator(selector).innerText();
const state = (kind) => until(`state ${kind}`, async () => (await page.locator("body").getAttribute("data-state")) === kind);
const figure = async (id) => Number((await text(`[data-figure="${id}"] .value`)).replace(/[^\d.].*/, "").replaceAll(",", ""));

function connectOwner() {
  const client = new pg.Client({ user: process.env.OWNER });
  client.on("error", () => {});
  return client.connect().then(() => client);
}

// Status of an answer to these headers
function statusOf(path, headers, method = "GET") {
  return new Promise((resolve, reject) => {
    const sent = request(new URL(path, served.url), { method, headers, agent: false }, (response) => {
      resolve(response.statusCode);
      response.destroy();
    });
    sent.on("error", reject).end();
  });
}

before(async () => {
  owner = await connectOwner();
  load = setInterval(() => owner.query("UPDATE users SET v = v + 1 WHERE id <= 10").catch(() => {}), 20);
  served = await startConsole();
  browser = await startBrowser();
  ({ page, complaints } = await openPage(browser, served.url));
});

after(async () => {
  clearInterval(load);
  await browser?.close();
  served?.stop();
  await owner?.end().catch(() => {});
});

test("numbers move, with units", async () => {
  await state("ok");
  assert.match(await text("#word"), /^Delivering$/);
  await until("a rate", async () => (await figure("keys")) > 10);
  assert.match(await text('[data-figure="keys"] .value'), /^[\d,.]+\/s$/);
  assert.match(await text('[data-figure="p99"] .value'), /^[\d.]+ m?s$/);
  const total = async () => text('[data-figure="keys"] .note');
  const first = await total();
  await until("the total grows", async () => (await total()) !== first);
  const row = page.locator("#rules tbody tr", { hasText: "user:{id}" });
  await until("the rule's rate", async () => /\d+\/s/.test(await row.innerText()));
  assert.match(await row.innerText(), /public\.users/);
  assert.match(await text("#keys-now"), /now [\d,.]+ keys\/s, [\d,.]+ commits\/s/);
  assert.equal(await page.locator("#lag canvas, #keys canvas").count(), 2);
});

test("replicas, Redis and what is to be mended", async () => {
  await until("the replica", async () => /east-1[\s\S]*connected/.test(await text("#replicas")));
  assert.match(await text("#endpoints"), /connected/);
  const finding = page.locator("#findings li", { hasText: "trigger" }).first();
  await until("the gap", async () => finding.isVisible());
  assert.match(await finding.innerText(), /^error/);
  assert.match(await finding.locator("pre").innerText(), /ENABLE ALWAYS TRIGGER/);
});

test("names are text, whatever is in them", async () => {
  assert.match(await text("#rules"), /public\."<img src=x onerror=alert\(1\)>"/);
  assert.match(await text("#rules"), /<script>alert\(2\)<\/script>:\{id\}/);
  assert.match(await text("#findings"), /<img src=x onerror=alert\(1\)>/);
  assert.equal(await page.locator("main img, main script, main b").count(), 0);
});

test("what asks may read, and needs pg_monitor for it", async () => {
  const { rows } = await owner.query("SELECT usename, query FROM pg_stat_activity WHERE application_name = 'cache_aside console'");
  assert.deepEqual(rows.map((row) => row.usename), ["console"], "one connection");
  assert.equal(await page.locator("#notice").isVisible(), false);
  const { session } = await import("../src/queries.mjs");
  const same = new pg.Client({ user: "console" });
  await same.connect();
  await same.query(session);
  await assert.rejects(same.query("CREATE TEMP TABLE t ()"), /read-only transaction/);
  await assert.rejects(same.query("SELECT pg_sleep(30)"), /statement timeout/);
  await same.end();
});

test("other names, other sites and other methods are refused", async () => {
  const { host, port } = new URL(served.url);
  assert.equal(await statusOf("/", { Host: host }), 200);
  assert.equal(await statusOf("/", { Host: `localhost:${port}` }), 200);
  for (const name of ["evil.example", `evil.example:${port}`, `127.0.0.1.evil.example:${port}`, "127.0.0.1:1", "localhost"]) {
    assert.equal(await statusOf("/", { Host: name }), 421, name);
  }
  assert.equal(await statusOf("/events", { Host: host, "Sec-Fetch-Site": "cross-site" }), 403);
  assert.equal(await statusOf("/events", { Host: host, "Sec-Fetch-Site": "same-site" }), 403);
  assert.equal(await statusOf("/", { Host: host }, "POST"), 405);
  for (const path of ["/../package.json", "/%2e%2e/package.json", "/src/watch.mjs", "/console.css/"]) {
    assert.equal(await statusOf(path, { Host: host }), 404, path);
  }
  const other = await startConsole({}, "--allow-host", "console.example");
  const mine = served;
  served = other;
  try {
    assert.equal(await statusOf("/", { Host: "Console.Example" }), 200);
  } finally {
    served = mine;
    other.stop();
  }
});

test("narrow, dark, and by keyboard", async () => {
  const { page: narrow, complaints: more } = await openPage(browser, served.url, { viewport: { width: 400, height: 800 }, colorScheme: "dark" });
  await until("rows", async () => (await narrow.locator("#rules tbody tr").count()) > 1);
  const overflow = () => narrow.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok((await overflow()) <= 0, `${await overflow()} px too wide`);
  const paper = await narrow.evaluate(() => getComputedStyle(document.body).backgroundColor);
  assert.ok(paper.match(/\d+/g).every((part) => Number(part) < 64), `dark: ${paper}`);
  await narrow.keyboard.press("Tab");
  assert.equal(await narrow.evaluate(() => document.activeElement.className), "skip");
  for (let i = 0; i < 10 && (await narrow.evaluate(() => document.activeElement.tagName)) !== "BUTTON"; i++) await narrow.keyboard.press("Tab");
  assert.match(await narrow.evaluate(() => document.activeElement.getAttribute("aria-label")), /^Copy the SQL for/);
  assert.deepEqual(more, []);
  await narrow.close();
});

test("a role without pg_monitor is told the GRANT, and its errors do not fill the server's log", async (t) => {
  const poor = await startConsole({ PGUSER: "po or" });
  t.after(poor.stop);
  const { page: shown } = await openPage(browser, poor.url);
  await until("the GRANT", async () => (await shown.locator("#hint").innerText()) === 'GRANT pg_monitor TO "po or";');
  assert.match(await shown.locator("#cause").innerText(), /permission denied for view status/i);
  const response = await fetch(`${poor.url}events`);
  let said = "";
  const times = (name) => said.split(`event: ${name}\n`).length - 1;
  for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
    said += chunk;
    if (times("rules") >= 3) break; // which it may read: four seconds or more
  }
  assert.ok(times("status") <= 1, `asked ${times("status")} times`);
  await shown.close();
});

test("a server that restarts: the page says so, and goes on", async () => {
  clearInterval(load);
  const pgCtl = (...args) => execFileSync("pg_ctl", ["-s", "-w", "-D", process.env.PGDATA, ...args], { stdio: "ignore" });
  pgCtl("-m", "fast", "stop");
  await state("lost");
  assert.match(await text("#word"), /PostgreSQL does not answer/);
  assert.match(await text("#since"), /^since \d\d:\d\d:\d\d/);
  assert.ok((await text("#cause")).length > 5);
  pgCtl("-l", process.env.PGLOG, "start");
  await state("ok");
  owner = await connectOwner();
  load = setInterval(() => owner.query("UPDATE users SET v = v + 1 WHERE id <= 10").catch(() => {}), 20);
  await until("a rate", async () => (await figure("keys")) > 10);
});

test("a server that hangs is left, too", async () => {
  const pid = Number((await owner.query("SELECT pid FROM pg_stat_activity WHERE application_name = 'cache_aside console'")).rows[0].pid);
  process.kill(pid, "SIGSTOP");
  try {
    await state("lost");
  } finally {
    process.kill(pid, "SIGCONT");
  }
  await state("ok");
});

test("without Redis the state is red, with cause and hint", async () => {
  process.kill(Number(process.env.REDIS_PID), "SIGTERM");
  await state("bad");
  await until("the cause", async () => /unreachable/i.test(await text("#cause")));
  const { rows } = await owner.query("SELECT hint FROM cache_aside.status");
  await until("the hint", async () => (await text("#hint")) === rows[0].hint);
  assert.ok(rows[0].hint.length > 10);
  assert.match(await page.title(), /^Waiting/);
  await until("lag grows", async () => /^\d.*\ds$|[\d.]+ s/.test(await text('[data-figure="lag"] .value')));
});

test("nothing was complained about", () => {
  assert.deepEqual(complaints, []);
});

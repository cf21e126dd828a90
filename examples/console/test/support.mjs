/*
 * support.mjs: the console as a process of its own, and headless Chromium before it. The servers are those of
 * test/t/operations/console.pl: PGHOST, PGPORT, PGDATABASE; OWNER, a superuser; PGDATA and PGLOG for pg_ctl; REDIS_PID.
 * test/pictures.mjs takes the screenshots of docs/ by the same means.
 */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

export async function until(what, condition, seconds = 60) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const result = await condition();
    if (result) return result;
    if (Date.now() > end) throw new Error(`not within ${seconds} s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

// Its URL, and what ends it
export async function startConsole(env = {}, ...args) {
  const path = fileURLToPath(new URL("../console.mjs", import.meta.url));
  const child = spawn(process.execPath, [path, "--port", "0", ...args], {
    env: { ...process.env, PGUSER: "console", ...env },
    stdio: ["ignore", "pipe", "inherit"],
  });
  let said = "";
  child.stdout.on("data", (text) => {
    said += text;
  });
  const url = await until("the console says where it is", () => /^http:\S+/m.exec(said)?.[0], 20);
  return { url, child, stop: () => child.kill() };
}

// No sandbox of Chromium's own: it would take rights that a user of a test has not. It sees this console only.
export function startBrowser() {
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] });
}

// A page, and everything that its console, its scripts and its security policy complain about
export async function openPage(browser, url, options = {}) {
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 }, ...options });
  const complaints = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("dialog", (dialog) => {
    complaints.push(`a dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  await page.goto(url);
  return { page, complaints };
}

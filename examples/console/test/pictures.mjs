/*
 * pictures.mjs: screenshots, for scripts/screenshots.pl. Each line of the standard input is one, in JSON:
 * url, out (a path), width, height, scheme ("light", "dark"), ready (a selector that has to be there), settle (ms), of
 * (a selector: only that element), full (the whole page).
 */
import { createInterface } from "node:readline";
import { startBrowser } from "./support.mjs";

const browser = await startBrowser();
try {
  for await (const line of createInterface({ input: process.stdin })) {
    const { url, out, width = 1280, height = 900, scheme = "light", ready = "body", settle = 0, of, full = false } = JSON.parse(line);
    const page = await browser.newPage({ viewport: { width, height }, colorScheme: scheme });
    await page.goto(url);
    await page.locator(ready).first().waitFor({ timeout: 60_000 });
    await page.waitForTimeout(settle);
    await (of ? page.locator(of).first().screenshot({ path: out }) : page.screenshot({ path: out, fullPage: full }));
    await page.close();
  }
} finally {
  await browser.close();
}

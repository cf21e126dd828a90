/*
 * server.mjs: five files and one stream. Only GET, only these paths, only for a Host that is ours: a page of another
 * site that had its own name point to this address (DNS rebinding) is refused, and so is the stream for another
 * origin. Nothing that comes from PostgreSQL is put into HTML here: the page gets JSON.
 *
 * At most MAX_STREAMS streams; one whose reader has stopped reading is ended when MAX_BEHIND bytes wait for it.
 */
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const MAX_STREAMS = 32;
const MAX_BEHIND = 4 * 1024 * 1024;
const BEAT_MS = 15000;

const ours = join(dirname(fileURLToPath(import.meta.url)), "..", "public");
const uplot = dirname(createRequire(import.meta.url).resolve("uplot"));
const script = "text/javascript; charset=utf-8";
const style = "text/css; charset=utf-8";

const files = new Map(
  [
    ["/", ours, "index.html", "text/html; charset=utf-8"],
    ["/console.css", ours, "console.css", style],
    ["/icon.svg", ours, "icon.svg", "image/svg+xml"],
    ["/page.mjs", ours, "page.mjs", script],
    ["/charts.mjs", ours, "charts.mjs", script],
    ["/dom.mjs", ours, "dom.mjs", script],
    ["/format.mjs", ours, "format.mjs", script],
    ["/uplot.mjs", uplot, "uPlot.esm.js", script],
    ["/uplot.css", uplot, "uPlot.min.css", style],
  ].map(([path, folder, name, type]) => [path, { type, body: readFileSync(join(folder, name)) }]),
);

const headers = {
  "Content-Security-Policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "X-Content-Type-Options": "nosniff",
  "Referrer-Policy": "no-referrer",
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Cache-Control": "no-store",
};

function refuse(response, status, text) {
  response.writeHead(status, { ...headers, "Content-Type": "text/plain; charset=utf-8" }).end(`${text}\n`);
}

// With and without the port: a proxy may leave it out.
function allowedHosts(port, extra) {
  const names = ["127.0.0.1", "localhost", "[::1]"];
  return new Set([...names.map((name) => `${name}:${port}`), ...(port === 80 ? names : []), ...extra.map((host) => host.toLowerCase())]);
}

// Every browser of these years says where a request comes from. "none": typed into its address bar.
function isSameOrigin(headers) {
  return ["same-origin", "none", undefined].includes(headers["sec-fetch-site"]);
}

function event(name, data) {
  return `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
}

function stream(watch, request, response) {
  response.writeHead(200, { ...headers, "Content-Type": "text/event-stream; charset=utf-8" });
  response.write(`retry: 2000\n${event("everything", watch.everything())}`);
  const write = (text) => {
    if (response.writableLength > MAX_BEHIND) response.destroy();
    else response.write(text);
  };
  const told = (name, data) => write(event(name, data));
  const beat = setInterval(() => write(":\n\n"), BEAT_MS);
  watch.on("told", told);
  watch.watched(1);
  response.on("close", () => {
    clearInterval(beat);
    watch.off("told", told);
    watch.watched(-1);
  });
}

export function startServer(watch, { port, listen, hosts }) {
  let allowed = new Set();
  const server = createServer({ maxHeaderSize: 8192, requestTimeout: 10000, headersTimeout: 10000 }, (request, response) => {
    const host = (request.headers.host ?? "").toLowerCase();
    if (!allowed.has(host)) return refuse(response, 421, "This console is not for that name: see --allow-host.");
    if (request.method !== "GET") return refuse(response, 405, "There is nothing to change here.");
    const path = request.url.split("?", 1)[0];
    if (path === "/events") {
      if (!isSameOrigin(request.headers)) return refuse(response, 403, "Not for another origin.");
      if (watch.watchers >= MAX_STREAMS) return refuse(response, 503, `${MAX_STREAMS} pages are looking already.`);
      return stream(watch, request, response);
    }
    const file = files.get(path);
    if (!file) return refuse(response, 404, "There is no such page.");
    return response.writeHead(200, { ...headers, "Content-Type": file.type }).end(file.body);
  });
  server.maxConnections = 4 * MAX_STREAMS;
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, listen, () => {
      allowed = allowedHosts(server.address().port, hosts);
      resolve(server);
    });
  });
}

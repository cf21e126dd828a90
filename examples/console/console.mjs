#!/usr/bin/env node
/*
 * console.mjs: a page that shows what cache_aside does in one PostgreSQL, live. See README.md.
 *
 * It reads with one connection, which libpq's variables name (PGHOST, PGDATABASE, PGUSER, ...), and writes nothing: the
 * session is read-only. It serves files and one stream of events to browsers of this machine.
 */
import { parseArgs } from "node:util";
import { startServer } from "./src/server.mjs";
import { Watch } from "./src/watch.mjs";

const usage = `usage: console.mjs [--port 8321] [--listen 127.0.0.1] [--allow-host name[:port]]...
  --listen      another address than loopback lets everybody on that network look: put a proxy that asks for a password before it
  --allow-host  a name by which browsers reach it, beside 127.0.0.1, [::1] and localhost`;

function options() {
  try {
    return parseArgs({
      options: {
        port: { type: "string", default: "8321" },
        listen: { type: "string", default: "127.0.0.1" },
        "allow-host": { type: "string", multiple: true, default: [] },
        help: { type: "boolean", default: false },
      },
    }).values;
  } catch (error) {
    console.error(`${error.message}\n${usage}`);
    process.exit(2);
  }
}

const given = options();
const port = Number(given.port);
if (given.help || !Number.isInteger(port) || port < 0 || port > 65535) {
  console.error(usage);
  process.exit(given.help ? 0 : 2);
}

const watch = new Watch();
const server = await startServer(watch, { port, listen: given.listen, hosts: given["allow-host"] }).catch((error) => {
  console.error(`cannot listen: ${error.message}`);
  process.exit(1);
});
watch.start();
const { address, family, port: taken } = server.address();
console.log(`http://${family === "IPv6" ? `[${address}]` : address}:${taken}/`);

for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, async () => {
    server.closeAllConnections();
    server.close();
    await watch.stop();
    process.exit(0);
  });
}

/**
 * Connection strings of the registry of replicas, as libpq writes them, to what a Pool of node-postgres takes.
 */

import { readFileSync } from "node:fs";
import { type ConnectionOptions, checkServerIdentity } from "node:tls";
import type { PoolConfig } from "pg";

const PAIR = /(\w+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s\\]|\\.)*))/g;

/** `host=10.0.0.5 dbname=shop sslmode=verify-full`, or a `postgresql://` address. What Pool does not know is left out. */
export function parseConninfo(conninfo: string): PoolConfig {
  const found = /^postgres(ql)?:\/\//.test(conninfo) ? fromUrl(conninfo) : fromPairs(conninfo);
  const config: PoolConfig = {};
  const host = found.get("hostaddr") ?? found.get("host");
  if (host) config.host = host;
  if (found.get("port")) config.port = Number(found.get("port"));
  if (found.get("dbname")) config.database = found.get("dbname");
  if (found.get("user")) config.user = found.get("user");
  if (found.get("application_name")) config.application_name = found.get("application_name");
  if (found.get("options")) config.options = found.get("options");
  if (found.get("connect_timeout")) config.connectionTimeoutMillis = Number(found.get("connect_timeout")) * 1000;
  const ssl = sslOf(found);
  if (ssl !== undefined) config.ssl = ssl;
  return config;
}

function fromPairs(conninfo: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const [, name, quoted, plain] of conninfo.matchAll(PAIR)) {
    found.set(name as string, (quoted ?? plain ?? "").replace(/\\(.)/g, "$1"));
  }
  return found;
}

function fromUrl(text: string): Map<string, string> {
  const url = new URL(text);
  const found = new Map<string, string>(url.searchParams);
  const parts = {
    host: url.hostname.replace(/^\[|\]$/g, ""),
    port: url.port,
    user: url.username,
    dbname: url.pathname.slice(1),
  };
  for (const [name, value] of Object.entries(parts)) if (value) found.set(name, decodeURIComponent(value));
  return found;
}

/** libpq's `prefer` and `allow` are promises of nothing; they are left to what the router's options say. */
function sslOf(found: ReadonlyMap<string, string>): ConnectionOptions | false | undefined {
  const mode = found.get("sslmode");
  const file = found.get("sslrootcert");
  const ca = file && file !== "system" ? { ca: readFileSync(file, "utf8") } : {};
  if (mode === "disable") return false;
  if (mode === "require") return file ? { ...ca, checkServerIdentity: () => undefined } : { rejectUnauthorized: false };
  if (mode === "verify-ca") return { ...ca, checkServerIdentity: () => undefined };
  if (mode !== "verify-full") return undefined;
  const host = found.get("host") ?? found.get("hostaddr") ?? "";
  // node-postgres 8.11 compares the certificate of an address with "localhost"
  return { ...ca, checkServerIdentity: (_name, certificate) => checkServerIdentity(host, certificate) };
}

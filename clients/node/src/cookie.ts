/**
 * The token in a cookie: `<LSN>.<seconds>.<signature>`, so that a browser can bring it, but not make one.
 *
 * A token that is made up, or from the future, would send every read of that visitor to the primary.
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import { parseLsn } from "./lsn";

/** Options of the middleware. */
export interface CookieOptions {
  /** Signs the cookie. Of several the first signs, and all are accepted: so a secret can be changed. */
  readonly secret: string | readonly string[];
  /** Name of the cookie. Default `cache_aside`. */
  readonly name?: string;
  /** How long a write is remembered, in seconds; by then every replica in use has replayed it. Default 300. */
  readonly maxAge?: number;
  /** Only over HTTPS. Default true. */
  readonly secure?: boolean;
  /** Default `/`. */
  readonly path?: string;
  readonly domain?: string;
  /** Default `Lax`. */
  readonly sameSite?: "Strict" | "Lax" | "None";
}

const WORTH = /^([0-9A-F]{1,8}\/[0-9A-F]{1,8})\.(\d{1,11})\.([\w-]{43})$/;
const DEFAULT_MAX_AGE = 300;

/** @internal */
export function writeCookie(token: string, options: CookieOptions): string {
  const [secret] = secretsOf(options);
  const content = `${token}.${seconds()}`;
  const parts = [
    `${options.name ?? "cache_aside"}=${content}.${sign(content, secret)}`,
    `Max-Age=${options.maxAge ?? DEFAULT_MAX_AGE}`,
    `Path=${options.path ?? "/"}`,
    "HttpOnly",
    `SameSite=${options.sameSite ?? "Lax"}`,
  ];
  if (options.domain !== undefined) parts.push(`Domain=${options.domain}`);
  if (options.secure !== false) parts.push("Secure");
  return parts.join("; ");
}

/** @internal The token in the header of a request, or null when there is none that we signed, or it is too old. */
export function readCookie(header: string | undefined, options: CookieOptions): string | null {
  const begin = `${options.name ?? "cache_aside"}=`;
  const text = header
    ?.split(";")
    .map((part) => part.trim())
    .find((part) => part.startsWith(begin))
    ?.slice(begin.length);
  const [, token, time, signature] = WORTH.exec(text ?? "") ?? [];
  if (token === undefined || time === undefined || signature === undefined || parseLsn(token) === null) return null;
  if (Math.abs(seconds() - Number(time)) > (options.maxAge ?? DEFAULT_MAX_AGE)) return null;
  return secretsOf(options).some((secret) => equal(sign(`${token}.${time}`, secret), signature)) ? token : null;
}

/** @internal */
export function secretsOf({ secret }: CookieOptions): [string, ...string[]] {
  const [first, ...more] = typeof secret === "string" ? [secret] : secret;
  if (!first || more.includes("")) throw new TypeError("the cookie of the token needs a secret");
  return [first, ...more];
}

function seconds(): number {
  return Math.floor(Date.now() / 1000);
}

function sign(content: string, secret: string): string {
  return createHmac("sha256", secret).update(content).digest("base64url");
}

function equal(a: string, b: string): boolean {
  return a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b));
}

/** What needs no server: rows, keys, tokens, cookies, connection strings. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { currentToken, noteToken, parseConninfo, runWithToken } from "../src";
import { rowDecoder } from "../src/codec";
import { readCookie, writeCookie } from "../src/cookie";
import { allKeys, type KeyValue, keyText, oneKey, parseTemplate } from "../src/keys";
import { laterToken, parseLsn } from "../src/lsn";
import { isUnavailable } from "../src/router";

const shape = (name: string, type: string, isArray = false) => ({ name, type, isArray });

test("a row is decoded without loss", () => {
  const plain = ["name", "j", "nothing", "__proto__"].map((name) => shape(name, "text"));
  const exact = [
    shape("id", "int8"),
    shape("price", "numeric"),
    shape("all", "int8", true),
    shape("n", "numeric", true),
  ];
  const decode = rowDecoder([...exact, ...plain, shape("raw", "json")], "bigint", { raw: (json) => json });
  const text =
    '{"id":9223372036854775807,"price":1.500,"all":[1,[null,-9007199254740993]],"n":[1.10,"NaN",null],' +
    '"name":"a \\"},{: 1","raw":{"x":[1.0, "}"]},"j":{"y": [{"z":2}]},"nothing":null,"__proto__":1}';
  const row = decode(text);
  assert.deepEqual(row["id"], 9223372036854775807n);
  assert.equal(row["price"], "1.500");
  assert.deepEqual(row["all"], [1n, [null, -9007199254740993n]]);
  assert.deepEqual(row["n"], ["1.10", "NaN", null]);
  assert.equal(row["name"], 'a "},{: 1');
  assert.equal(row["raw"], '{"x":[1.0, "}"]}');
  assert.deepEqual(row["j"], { y: [{ z: 2 }] });
  assert.equal(row["nothing"], null);
  assert.equal(Object.getPrototypeOf(row), Object.prototype);
  assert.ok(Object.hasOwn(row, "__proto__"));
  assert.deepEqual(rowDecoder([shape("a", "text")], "bigint", {})('{"a":"x","new":9007199254740993}'), { a: "x" });
});

test("bigint comes out as asked", () => {
  const as = (kind: "bigint" | "string" | "number") => rowDecoder([shape("id", "int8")], kind, {})('{"id":42}')["id"];
  assert.deepEqual([as("bigint"), as("string"), as("number")], [42n, "42", 42]);
  assert.equal(rowDecoder([shape("n", "numeric")], "bigint", {})('{"n":"Infinity"}')["n"], "Infinity");
});

test("what is no row is refused", () => {
  const decode = rowDecoder([shape("id", "int8")], "bigint", {});
  const parse = rowDecoder([], "bigint", {});
  for (const text of [
    "",
    "1",
    "[1]",
    "{",
    '{"id"',
    '{"id":',
    '{"id":1',
    '{"id":1}x',
    '{"id":"x"}',
    '{"id" 1}',
    '{"a":"x',
  ]) {
    assert.throws(() => decode(text), text);
  }
  for (const text of ["", "1", "[1]", "{", '"x"']) assert.throws(() => parse(text), text);
});

test("templates are parsed as the database parses them", () => {
  const columns = new Set(["id", "a#2", "b"]);
  const texts = new Map([
    ["id", "7"],
    ["a#2", "x"],
    ["b", "y"],
  ]);
  const key = (text: string) => oneKey(parseTemplate(text, columns), texts);
  assert.equal(key("user:{id}"), "user:7");
  assert.equal(key("{{{b}}}:{id}{a#2}"), "{y}:7x");
  assert.match(key("hot:{id#4}"), /^hot:7#[0-3]$/);
  assert.deepEqual(allKeys(parseTemplate("{id#2}-{b#2}", columns), texts), [
    "7#0-y#0",
    "7#0-y#1",
    "7#1-y#0",
    "7#1-y#1",
  ]);
  assert.throws(() => parseTemplate("{nobody}", columns), /column "nobody"/);
  assert.throws(() => parseTemplate("{id", columns), /not closed/);
});

test("a value has one text, or is refused", () => {
  const text = (type: string, value: KeyValue) => keyText({ name: "c", type }, value);
  assert.equal(text("int8", "+0042"), "42");
  assert.equal(text("int4", -0), "0");
  assert.equal(text("int8", 9223372036854775807n), "9223372036854775807");
  assert.equal(text("bool", true), "t");
  assert.equal(text("uuid", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"), "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11");
  assert.equal(text("date", "2024-02-29"), "2024-02-29");
  const bad: [string, unknown][] = [
    ["int4", 1.5],
    ["int8", 2 ** 53],
    ["int8", "1e3"],
    ["int8", ""],
    ["int8", null],
    ["text", 5],
    ["text", "\ud800"],
    ["text", "a\0b"],
    ["uuid", "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}"],
    ["date", "2023-02-29"],
    ["date", "today"],
    ["bool", "t"],
    ["numeric", "1.0"],
    ["timestamptz", "now"],
  ]; // prettier-ignore
  for (const [type, value] of bad) assert.throws(() => text(type, value as KeyValue), TypeError, `${type} ${value}`);
});

test("tokens go forward, and stay with their request", async () => {
  assert.equal(parseLsn("16/B374D848"), 0x16b374d848n);
  assert.equal(laterToken("0/FF", "1/0"), "1/0");
  assert.equal(laterToken("0/FF", "nonsense"), "0/FF");
  assert.equal(currentToken(), null);
  noteToken("0/1"); // no request: for nobody
  await runWithToken("0/5", async () => {
    noteToken("0/3");
    assert.equal(currentToken(), "0/5");
    await Promise.all([runWithToken(null, async () => noteToken("0/9")), Promise.resolve()]);
    assert.equal(currentToken(), "0/5");
    noteToken("0/10");
    assert.equal(currentToken(), "0/10");
  });
  runWithToken("garbage", () => assert.equal(currentToken(), null));
  assert.equal(currentToken(), null);
});

test("a cookie is believed if we signed it, not long ago", () => {
  const options = { secret: ["new", "old"] };
  const cookie = writeCookie("0/3058EA0", { secret: "old" });
  assert.match(cookie, /; HttpOnly; SameSite=Lax; Secure$/);
  const pair = cookie.split(";")[0] ?? "";
  assert.equal(readCookie(`a=b; ${pair}; c=d`, options), "0/3058EA0");
  assert.equal(readCookie(pair, { secret: "other" }), null);
  assert.equal(readCookie(pair.replace("3058EA0", "FFFFFFF"), options), null);
  assert.equal(readCookie(pair, { ...options, maxAge: -1 }), null);
  assert.equal(readCookie(pair.replace("cache_aside=", "other="), options), null);
  assert.equal(readCookie(undefined, options), null);
  assert.throws(() => writeCookie("0/1", { secret: "" }), TypeError);
});

test("connection strings", () => {
  assert.deepEqual(parseConninfo("host='/a b' port = 5433 dbname=x\\ y user='o\\'c' keepalives=1"), {
    host: "/a b",
    port: 5433,
    database: "x y",
    user: "o'c",
  }); // prettier-ignore
  assert.deepEqual(parseConninfo("postgresql://app@db.example:5433/shop?sslmode=require&connect_timeout=3"), {
    host: "db.example",
    port: 5433,
    database: "shop",
    user: "app",
    connectionTimeoutMillis: 3000,
    ssl: { rejectUnauthorized: false },
  }); // prettier-ignore
  const { ssl } = parseConninfo("host=a sslmode=verify-full");
  assert.ok(typeof ssl === "object" && ssl.rejectUnauthorized !== false);
  assert.deepEqual(parseConninfo("host=a sslmode=disable"), { host: "a", ssl: false });
});

test("what a server could not answer is told from what is wrong with the statement", () => {
  const unavailable = (code?: string) =>
    isUnavailable(Object.assign(new Error("x"), code === undefined ? {} : { code }));
  for (const code of [undefined, "ECONNREFUSED", "EPIPE", "08006", "28P01", "53300", "57P01", "40001"]) {
    assert.ok(unavailable(code), code);
  }
  for (const code of ["22012", "42P01", "25006", "57014", "P0001", "XX000"]) assert.ok(!unavailable(code), code);
});

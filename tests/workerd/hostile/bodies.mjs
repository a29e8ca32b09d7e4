// Bodies that nobody sends by mistake, for a route that takes JSON: each with its name and its headers.
import { brotliCompressSync, deflateRawSync, deflateSync, gzipSync, zstdCompressSync } from "node:zlib";

/** @typedef {{ name: string, body: Buffer, headers: Record<string, string> }} HostileBody */

const JSON_TYPE = { "content-type": "application/json" };
const nested = (open, close, depth) => open.repeat(depth) + close.repeat(depth);

/** Texts in place of a body, whatever the route wants. */
const TEXTS = {
  "an empty body": "",
  "one space": " ",
  null: "null",
  "a list": "[]",
  "a text": '"x"',
  "a number": "0",
  "a truth": "true",
  "an open object": "{",
  "two objects": "{}{}",
  "an object and a letter": "{}x",
  "a comma too many": '{"a":1,}',
  "a comment": '/*x*/{"a":1}',
  NaN: '{"a":NaN}',
  "lists that open": "[".repeat(7_000),
  "lists in lists": nested("[", "]", 6_000),
  "objects in objects": nested('{"a":', "}", 1_200).replace(":}", ":1}"),
  "17 levels": nested('{"a":[', "]}", 9).replace("[]", "[1]"),
  "a number beyond doubles": '{"a":1e999}',
  "a number of 5,000 digits": `{"a":${"9".repeat(5_000)}}`,
  "a number of 5,000 places": `{"a":0.${"0".repeat(5_000)}1}`,
  "minus zero": '{"a":-0}',
  "a number with a plus": '{"a":+1}',
  "a number in hex": '{"a":0x10}',
  "a member twice": '{"a":1,"a":2}',
  "a member twice by an escape": '{"a":1,"\\u0061":2}',
  "a lone surrogate": '{"a":"\\ud800"}',
  "a lone surrogate as a name": '{"\\udfff":1}',
  "an escaped NUL": '{"a\\u0000":"\\u0000"}',
  "a raw NUL": '{"a":"\0"}',
  "a raw line break": '{"a":"\n"}',
  "a byte order mark": '\ufeff{"a":1}',
  "names of prototypes": '{"__proto__":{"admin":true},"constructor":{"prototype":{}},"toString":1}',
  "a key in a body": '{"x-admin-key":"an-operators-key-for-tests-of-40-letters","authorization":"Bearer x"}',
  "2,000 members": JSON.stringify(Object.fromEntries(Array.from({ length: 1_400 }, (_, at) => [`m${at}`, 0]))),
  "an empty name": '{"":""}',
  "a name of 10,000 letters": `{"${"n".repeat(10_000)}":1}`,
  "text that turns around": '{"a":"\u202egnp.exe\u2066"}',
};

/** Bytes that are no UTF-8, or of another encoding. */
const BYTES = {
  "overlong UTF-8": [0x7b, 0x22, 0xc0, 0x80, 0x22, 0x3a, 0x31, 0x7d],
  "an encoded surrogate": [0x7b, 0x22, 0xed, 0xa0, 0x80, 0x22, 0x3a, 0x31, 0x7d],
  "beyond Unicode": [0x22, 0xf5, 0x80, 0x80, 0x80, 0x22],
  "a cut character": [0x7b, 0x22, 0xe2, 0x82],
  "bytes of no encoding": [0xff, 0xfe, 0xfd, 0x00, 0x80],
};
const UTF16 = Buffer.from('\ufeff{"a":1}', "utf16le");

/** Media types with a body that is JSON, form or neither. */
const TYPES = [
  ["text/plain", "{}"],
  ["application/x-www-form-urlencoded", "a=1&__proto__[admin]=1&a=2"],
  ["multipart/form-data; boundary=x", '--x\r\nContent-Disposition: form-data; name="a"; filename="../../x"\r\n\r\n1\r\n--x--'],
  ["multipart/form-data", "--\r\n"],
  ["application/json; charset=utf-16", "{}"],
  ["application/json; charset=", "{}"],
  ["application/json;;;", "{}"],
  ["application/json, text/html", "{}"],
  ["application/xml", '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'],
  ["application/\u00e9json", "{}"],
];

const zeros = Buffer.alloc(24 * 1_024 * 1_024);
/** Content codings, true and untrue; a bomb is 24 MiB of zeros. */
const CODED = {
  gzip: gzipSync('{"a":1}'),
  GZIP: gzipSync("{}"),
  br: brotliCompressSync('{"a":1}'),
  deflate: deflateSync('{"a":1}'),
  "x-gzip": deflateRawSync("{}"),
  zstd: zstdCompressSync?.("{}") ?? Buffer.from("(\xb5/\xfd", "latin1"),
  "gzip, gzip": gzipSync(gzipSync("{}")),
  "identity, gzip": gzipSync("{}"),
  "gzip;q=0": Buffer.from("{}"),
  aes128gcm: Buffer.from("{}"),
};
/** A bomb of gzip is 24 KiB: some routes take as much. */
const BOMBS = { gzip: gzipSync(zeros), br: brotliCompressSync(zeros), deflate: deflateSync(zeros) };

/** Values of other types than any member has, or of its type and hostile. */
const VALUES = [
  null,
  true,
  -1,
  1e308,
  "",
  "\u0000",
  "\ud800",
  "x".repeat(4_000),
  [],
  {},
  [[[[{}]]]],
  { $gt: "" },
  "'; DROP TABLE tenants; --",
  `0x${"f".repeat(64)}`,
  "../../etc/passwd\r\nSet-Cookie: a=b",
  "https://127.0.0.1/\u202e",
  "<script>alert(1)</script>{{7*7}}#{7*7}",
  "2026-13-99T99:99:99Z",
  9_007_199_254_740_992,
  "=cmd|' /C calc'!A0",
];

/** @param {string} name @param {string | Buffer | number[]} body @param {Record<string, string>} [headers] @returns {HostileBody} */
const made = (name, body, headers = JSON_TYPE) => ({
  name,
  body: typeof body === "string" ? Buffer.from(body) : Buffer.from(body),
  headers,
});

/** Bodies that are the same for each route. */
export const COMMON = [
  ...Object.entries(TEXTS).map(([name, text]) => made(name, text)),
  ...Object.entries(BYTES).map(([name, bytes]) => made(name, bytes)),
  made("UTF-16", UTF16),
  made("600 KB", " ".repeat(600_000)),
  ...TYPES.map(([type, body]) => made(type, body, { "content-type": type.replace("\u00e9", "\xe9") })),
  made("no media type", "{}", {}),
  ...Object.entries(CODED).map(([coding, body]) => made(coding, body, { ...JSON_TYPE, "content-encoding": coding })),
  ...Object.entries(BOMBS).map(([coding, body]) => made(`a bomb of ${coding}`, body, { ...JSON_TYPE, "content-encoding": coding })),
];

/**
 * Bodies that name the members that a route takes, each with values that it does not expect.
 * @param {string[]} members @param {number} turn which of the values come first
 */
export function ofMembers(members, turn) {
  return members.flatMap((name, at) =>
    [0, 1, 2, 3].map((step) => {
      const value = VALUES[(turn + at * 5 + step * 7) % VALUES.length];
      return made(`${name}: ${JSON.stringify(value).slice(0, 40)}`, JSON.stringify({ [name]: value }));
    }),
  );
}

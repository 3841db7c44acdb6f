import fc from 'fast-check';

/** What nobody means well with: texts, headers, JSON, and bytes that are said to be JSON. */

const TEXTS = [
  '',
  '%',
  '%zz',
  '%00',
  '%ff%fe',
  '%c3%28',
  '%ed%a0%80',
  '%u0041',
  '..',
  '../..',
  '..%2f..%2fetc%2fpasswd',
  '%2e%2e',
  '..;/',
  '__proto__',
  'constructor',
  'constructor.prototype',
  'toString',
  'hasOwnProperty',
  '__proto__[polluted]=1',
  'constructor[prototype][polluted]=1',
  'a&a&a=1&=&==',
  '*',
  '0',
  '-1',
  '1e999',
  'NaN',
  '99999999999999999999999',
  '0x10',
  "'%20OR%201=1--",
  '%0d%0aX-Injected:%201',
  '\x00\x01\x7f',
  '\xff\xfe\xc3\x28',
  'a'.repeat(300),
  'a'.repeat(5000),
  '%f0%9f%98%80'.repeat(50),
  '&x='.repeat(2000),
];
export const hostileText = fc.oneof(
  { weight: 8, arbitrary: fc.constantFrom(...TEXTS) },
  {
    weight: 8,
    arbitrary: fc.string({ unit: 'binary' }).map((text) => encodeURIComponent(text.toWellFormed())),
  },
  // What would end the line is not part of a text.
  {
    weight: 1,
    arbitrary: fc.string({ unit: 'binary' }).map((text) => text.replaceAll(/[\r\n ]/g, '_')),
  },
);

export const hostileHeader: fc.Arbitrary<readonly [string, string]> = fc.tuple(
  fc.constantFrom(
    'Accept',
    'Authorization',
    'Content-Encoding',
    'Content-Type',
    'Idempotency-Key',
    'Keyledger-Min-Position',
    'Last-Event-ID',
    'Origin',
    'Cookie',
    'X-Request-Id',
    'X-Forwarded-For',
    'X-HTTP-Method-Override',
    'X-Api-Key',
    'X-Api-Secret',
    'Range',
    'If-None-Match',
    '__proto__',
    'constructor',
    'Bad Name',
    '',
  ),
  fc.oneof(
    hostileText,
    fc.constantFrom('Basic !!!', 'Basic Og==', 'Bearer', 'Bearer a.b.c', 'bytes=9-1', 'a,b,c'),
  ),
);

const nested = (open: string, close: string, levels: number, inside = '1') =>
  open.repeat(levels) + inside + close.repeat(levels);

/** JSON that is valid or nearly so, and that nobody means well with. */
export const hostileJson = fc.oneof(
  fc.json(),
  fc.string({ unit: 'binary' }).map((text) => JSON.stringify(text)),
  fc.constantFrom(
    '{"__proto__":{"polluted":true}}',
    '{"constructor":{"prototype":{"polluted":true}}}',
    '{"__proto__":null}',
    '{"toString":1,"valueOf":1,"hasOwnProperty":1}',
    '{"length":1e308}',
    nested('[', ']', 100_000),
    nested('{"a":', '}', 100_000),
    nested('[', ']', 7000),
    nested('{"a":', '}', 2500),
    '['.repeat(100_000),
    '1e999',
    '-1e999',
    '-0',
    '1e-400',
    '99999999999999999999999999',
    `1${'0'.repeat(5000)}`,
    '0.1e+1',
    '"\\u0000"',
    '"\\ud800"',
    '"\\u202e\\u200b"',
    `"${'a'.repeat(15_000)}"`,
    `"${'a'.repeat(100_000)}"`,
    'null',
    'true',
    '[]',
    '{}',
    '""',
    'NaN',
    'undefined',
    "{'a':1}",
    '{"a":1,}',
    '{"a":1}//',
    '{"a":1}{"a":1}',
    '{',
    '"',
  ),
);

export type Sent = {
  readonly headers: readonly (readonly [string, string])[];
  readonly bytes: Buffer | undefined;
};
export const JSON_TYPE = ['Content-Type', 'application/json'] as const;
export const NO_BODY: Sent = { headers: [], bytes: undefined };

const typed = (type: string, bytes: Buffer, ...headers: (readonly [string, string])[]): Sent => ({
  headers: [['Content-Type', type], ...headers],
  bytes,
});
const GZIPPED_NOTHING = Buffer.from('H4sIAAAAAAAAAwMAAAAAAAAAAAA=', 'base64');

/** The same text as something else than JSON in UTF-8, or as said to be something else. */
export const ENCODINGS: readonly ((json: string) => Sent)[] = [
  (json) => typed('application/json', Buffer.from(`\ufeff${json}`, 'utf16le')),
  (json) => typed('application/json; charset=utf-16', Buffer.from(json, 'utf16le')),
  (json) => typed('application/json; charset=latin1', Buffer.from(`${json}\xe9`, 'latin1')),
  (json) => typed('application/json', Buffer.from(`\ufeff${json}`)),
  (json) => typed('application/json', Buffer.concat([Buffer.from(json), Buffer.from([0xc3, 0x28, 0xff])])),
  (json) => typed('application/json', Buffer.from(json).subarray(0, -1)),
  (json) => typed('application/json', Buffer.from(json), ['Content-Encoding', 'gzip']),
  () => typed('application/json', GZIPPED_NOTHING, ['Content-Encoding', 'gzip']),
  (json) => typed('application/json', Buffer.from(json), ['Content-Encoding', 'br, gzip, x']),
  (json) => typed('text/plain', Buffer.from(json)),
  (json) => typed('application/x-www-form-urlencoded', Buffer.from(`a=${json}`)),
  (json) => typed('multipart/form-data; boundary=', Buffer.from(json)),
  (json) => typed('application/json-patch+json', Buffer.from(json)),
  (json) => typed('application/json;;;=', Buffer.from(json)),
  (json) => typed('application/json, text/plain', Buffer.from(json)),
  (json) => typed('', Buffer.from(json)),
  (json) => typed(`a/${'b'.repeat(5000)}`, Buffer.from(json)),
  (json) => ({ headers: [], bytes: Buffer.from(json) }),
];

export const anyBytes = fc
  .uint8Array({ maxLength: 200 })
  .map((bytes): Sent => ({ headers: [JSON_TYPE], bytes: Buffer.from(bytes) }));

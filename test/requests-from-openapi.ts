import fc from 'fast-check';

/** Requests to every call that an OpenAPI 3.1 document names, made from the document alone: good ones, and spoiled ones. */

export type JsonSchema = {
  readonly type?: string;
  readonly enum?: readonly unknown[];
  readonly format?: string;
  readonly pattern?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minItems?: number;
  readonly items?: JsonSchema;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
  readonly anyOf?: readonly JsonSchema[];
};
type Content = { readonly content?: { readonly 'application/json'?: { readonly schema: JsonSchema } } };
type Parameter = {
  readonly in: 'path' | 'query' | 'header';
  readonly name: string;
  readonly required?: boolean;
  readonly schema: JsonSchema;
};
type Call = {
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: Content;
  readonly responses: Readonly<Record<string, Content>>;
};
export type OpenApi = {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Call>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, object>> };
};

export type Operation = {
  readonly method: string;
  readonly path: string;
  readonly parameters: readonly Parameter[];
  readonly body: JsonSchema | undefined;
  readonly responses: Readonly<Record<string, Content>>;
};

export const operationsOf = ({ paths }: OpenApi): Operation[] =>
  Object.entries(paths).flatMap(([path, calls]) =>
    Object.entries(calls).map(([method, { parameters = [], requestBody, responses }]) => ({
      method: method.toUpperCase(),
      path,
      parameters,
      body: requestBody?.content?.['application/json']?.schema,
      responses,
    })),
  );

/** A request as it goes over the wire; text is a character a byte. */
export type WireRequest = {
  readonly method: string;
  readonly target: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: Buffer | undefined;
};

/** Values for parameters and fields of these names, besides those that the schema tells. */
export type KnownValues = Readonly<Record<string, readonly string[]>>;

/** Requests to one call: each part is sometimes as the schema wants it, and sometimes anything but that. */
export function requestsTo(operation: Operation, known: KnownValues): fc.Arbitrary<WireRequest> {
  const { method, path, parameters, body } = operation;
  const oneOf = ({ in: where, name, schema }: Parameter) => {
    const written = where === 'header' ? inHeader : encodeURIComponent;
    const good = goodValue(schema, known[name]).map((value) => written(String(value).toWellFormed()));
    return oftenGood(good, hostileText);
  };
  const of = (where: Parameter['in']) => parameters.filter((parameter) => parameter.in === where);
  const pairsOf = (where: Parameter['in']) =>
    fc.tuple(
      ...of(where).map((parameter) =>
        fc.option(fc.tuple(fc.constant(parameter.name), oneOf(parameter)), { nil: undefined }),
      ),
    );
  return fc
    .record({
      inPath: fc.tuple(...of('path').map((parameter) => oneOf(parameter))),
      query: pairsOf('query'),
      moreQuery: oftenGood(fc.constant(''), hostileText),
      headers: pairsOf('header'),
      moreHeaders: oftenGood<WireRequest['headers']>(
        fc.constant([]),
        fc.array(hostileHeader, { minLength: 1, maxLength: 3 }),
      ),
      sent: body ? bodiesOf(body, known) : oftenGood(fc.constant(NO_BODY), bodiesOf({}, known)),
    })
    .map(({ inPath, query, moreQuery, headers, moreHeaders, sent }) => {
      const rest = [...inPath];
      const filled = path.replaceAll(/\{\w+\}/g, () => rest.shift() ?? '');
      const pairs = query.flatMap((pair) => (pair ? [pair.join('=')] : []));
      const asked = [...pairs, ...(moreQuery === '' ? [] : [moreQuery])].join('&');
      return {
        method,
        target: asked === '' ? filled : `${filled}?${asked}`,
        headers: [...headers.flatMap((pair) => (pair ? [pair] : [])), ...moreHeaders, ...sent.headers],
        body: sent.bytes,
      };
    });
}

/** The bytes of a request; the server is to end the connection with its answer. */
export function bytesOf({ method, target, headers, body }: WireRequest, token: string | undefined): Buffer {
  const lines = [
    `${method} ${target} HTTP/1.1`,
    'Host: keyledger',
    'Connection: close',
    ...(token === undefined ? [] : [`Authorization: Bearer ${token}`]),
    ...headers.map(([name, value]) => `${name}: ${value}`),
    ...(body === undefined ? [] : [`Content-Length: ${body.length}`]),
  ];
  return Buffer.concat([Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1'), body ?? Buffer.alloc(0)]);
}

const oftenGood = <T>(good: fc.Arbitrary<T>, bad: fc.Arbitrary<T>): fc.Arbitrary<T> =>
  fc.oneof({ weight: 5, arbitrary: good }, { weight: 1, arbitrary: bad });

/** UTF-8, a character a byte; what would be no header any more is left out. */
const inHeader = (text: string): string => Buffer.from(text.replaceAll(/\p{Cc}/gu, '')).toString('latin1');

/** A value that a schema allows. */
export function goodValue(schema: JsonSchema, known?: readonly string[]): fc.Arbitrary<unknown> {
  if (known) return fc.constantFrom(...known);
  if (schema.enum) return fc.constantFrom(...schema.enum);
  if (schema.anyOf) return fc.oneof(...schema.anyOf.map((one) => goodValue(one)));
  switch (schema.type) {
    case 'null':
      return fc.constant(null);
    case 'boolean':
      return fc.boolean();
    case 'integer':
    case 'number':
      return fc.maxSafeInteger().map((value) => clamp(value, schema));
    case 'array':
      return fc.array(goodValue(schema.items ?? {}), { minLength: schema.minItems ?? 0, maxLength: 5 });
    case 'object':
      return goodObject(schema, {});
    case 'string':
      return schema.format === 'date-time' ? anyTime : goodText(schema.pattern);
    default:
      return fc.jsonValue();
  }
}

const clamp = (value: number, { minimum = -Infinity, maximum = Infinity }: JsonSchema) =>
  Math.min(Math.max(value, minimum), maximum);

/** Every time that RFC 3339 can write, the first and the last ones often. */
const anyTime = fc
  .tuple(
    fc.oneof(
      fc.constantFrom('0000-01-01T00:00:00', '9999-12-31T23:59:59', '2024-02-29T12:00:00.123456789'),
      fc.date({ min: new Date(0), noInvalidDate: true }).map((date) => date.toISOString().slice(0, 19)),
    ),
    fc.constantFrom('Z', '+00:00', '-23:59', '+23:59'),
  )
  .map(([time, zone]) => time.slice(-29) + zone);

function goodText(pattern: string | undefined): fc.Arbitrary<string> {
  if (pattern === undefined) return fc.string({ unit: 'grapheme' });
  try {
    return fc.stringMatching(new RegExp(pattern));
  } catch {
    // fast-check cannot read every pattern.
    return fc.stringMatching(/^[a-z0-9]{1,20}$/);
  }
}

function goodObject({ properties = {}, required = [] }: JsonSchema, known: KnownValues) {
  const fields = Object.entries(properties).map(
    ([name, schema]) => [name, goodValue(schema, known[name])] as const,
  );
  return fc.record(Object.fromEntries(fields), { requiredKeys: [...required] });
}

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
const hostileText = fc.oneof(
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

const hostileHeader: fc.Arbitrary<readonly [string, string]> = fc.tuple(
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

type Sent = { readonly headers: readonly (readonly [string, string])[]; readonly bytes: Buffer | undefined };
const JSON_TYPE = ['Content-Type', 'application/json'] as const;
const NO_BODY: Sent = { headers: [], bytes: undefined };

function bodiesOf(schema: JsonSchema, known: KnownValues): fc.Arbitrary<Sent> {
  const asObject = schema.anyOf?.find(({ type }) => type === 'object') ?? schema;
  const good = goodObject(asObject, known).map((value) => JSON.stringify(value));
  const text = oftenGood(good, fc.oneof(spoiledObject(asObject, known), hostileJson));
  return oftenGood(
    text.map((json) => ({ headers: [JSON_TYPE], bytes: Buffer.from(json) })),
    fc.oneof(
      fc.tuple(text, fc.constantFrom(...ENCODINGS)).map(([json, encode]) => encode(json)),
      anyBytes,
    ),
  );
}

/** JSON with a good beginning: fields twice, of another type, unknown, or named like what every object has. */
function spoiledObject(schema: JsonSchema, known: KnownValues): fc.Arbitrary<string> {
  const names = Object.keys(schema.properties ?? {});
  const name = fc.constantFrom(...names, '__proto__', 'constructor', 'prototype', 'toString', '');
  const field = fc.tuple(name, hostileJson).map(([field, json]) => `${JSON.stringify(field)}:${json}`);
  return fc
    .tuple(goodObject(schema, known), fc.array(field, { minLength: 1, maxLength: 4 }))
    .map(
      ([value, fields]) =>
        `{${[...Object.keys(value).map((key) => `${JSON.stringify(key)}:${JSON.stringify(value[key])}`), ...fields].join(',')}}`,
    );
}

const nested = (open: string, close: string, levels: number, inside = '1') =>
  open.repeat(levels) + inside + close.repeat(levels);

/** JSON that is valid or nearly so, and that nobody means well with. */
const hostileJson = fc.oneof(
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

const typed = (type: string, bytes: Buffer, ...headers: (readonly [string, string])[]): Sent => ({
  headers: [['Content-Type', type], ...headers],
  bytes,
});
const GZIPPED_NOTHING = Buffer.from('H4sIAAAAAAAAAwMAAAAAAAAAAAA=', 'base64');

/** The same text as something else than JSON in UTF-8, or as said to be something else. */
const ENCODINGS: readonly ((json: string) => Sent)[] = [
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

const anyBytes = fc
  .uint8Array({ maxLength: 200 })
  .map((bytes): Sent => ({ headers: [JSON_TYPE], bytes: Buffer.from(bytes) }));

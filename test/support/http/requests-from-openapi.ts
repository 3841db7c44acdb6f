import fc from 'fast-check';
import {
  anyBytes,
  ENCODINGS,
  hostileHeader,
  hostileJson,
  hostileText,
  JSON_TYPE,
  NO_BODY,
  type Sent,
} from '../fixtures/hostile-values.js';
import { type JsonSchema, type KnownValues, validObject, validValue } from '../fixtures/schema-values.js';

/** Valid and malformed requests to every operation of an OpenAPI 3.1 document, generated from the document alone. */

type Content = { readonly content?: { readonly 'application/json'?: { readonly schema: JsonSchema } } };
type Parameter = {
  readonly in: 'path' | 'query' | 'header';
  readonly name: string;
  readonly required?: boolean;
  readonly schema: JsonSchema;
};
type Call = {
  readonly operationId: string;
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: Content;
  readonly responses: Readonly<Record<string, Content>>;
};
export type OpenApi = {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Call>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, object>> };
};

export type Operation = {
  readonly id: string;
  readonly method: string;
  readonly path: string;
  readonly parameters: readonly Parameter[];
  readonly body: JsonSchema | undefined;
  readonly responses: Readonly<Record<string, Content>>;
};

export const operationsOf = ({ paths }: OpenApi): Operation[] =>
  Object.entries(paths).flatMap(([path, calls]) =>
    Object.entries(calls).map(([method, { operationId, parameters = [], requestBody, responses }]) => ({
      id: operationId,
      method: method.toUpperCase(),
      path,
      parameters,
      body: requestBody?.content?.['application/json']?.schema,
      responses,
    })),
  );

/** Request as sent on the wire; text holds one character a byte. */
export type WireRequest = {
  readonly method: string;
  readonly target: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: Buffer | undefined;
};

/** Generates requests to one operation: each part either satisfies its schema or violates it. */
export function requestsTo(operation: Operation, known: KnownValues): fc.Arbitrary<WireRequest> {
  const { method, path, parameters, body } = operation;
  const oneOf = ({ in: where, name, schema }: Parameter) => {
    const written = where === 'header' ? inHeader : encodeURIComponent;
    const good = validValue(schema, known[name]).map((value) => written(String(value).toWellFormed()));
    return mostlyValid(good, hostileText);
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
      moreQuery: mostlyValid(fc.constant(''), hostileText),
      headers: pairsOf('header'),
      moreHeaders: mostlyValid<WireRequest['headers']>(
        fc.constant([]),
        fc.array(hostileHeader, { minLength: 1, maxLength: 3 }),
      ),
      sent: body ? bodiesOf(body, known) : mostlyValid(fc.constant(NO_BODY), bodiesOf({}, known)),
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

/** Bytes of a request that has the server close the connection after its answer. */
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

const mostlyValid = <T>(good: fc.Arbitrary<T>, bad: fc.Arbitrary<T>): fc.Arbitrary<T> =>
  fc.oneof({ weight: 5, arbitrary: good }, { weight: 1, arbitrary: bad });

/** UTF-8 as one character a byte, without control characters, which no header may hold. */
const inHeader = (text: string): string => Buffer.from(text.replaceAll(/\p{Cc}/gu, '')).toString('latin1');

function bodiesOf(schema: JsonSchema, known: KnownValues): fc.Arbitrary<Sent> {
  const asObject = schema.anyOf?.find(({ type }) => type === 'object') ?? schema;
  const good = validObject(asObject, known).map((value) => JSON.stringify(value));
  const text = mostlyValid(good, fc.oneof(malformedObject(asObject, known), hostileJson));
  return mostlyValid(
    text.map((json) => ({ headers: [JSON_TYPE], bytes: Buffer.from(json) })),
    fc.oneof(
      fc.tuple(text, fc.constantFrom(...ENCODINGS)).map(([json, encode]) => encode(json)),
      anyBytes,
    ),
  );
}

/**
 * JSON of a valid object, spoiled by fields that are duplicate, of another type, unknown, or named like members of
 * Object.prototype.
 */
function malformedObject(schema: JsonSchema, known: KnownValues): fc.Arbitrary<string> {
  const names = Object.keys(schema.properties ?? {});
  const name = fc.constantFrom(...names, '__proto__', 'constructor', 'prototype', 'toString', '');
  const field = fc.tuple(name, hostileJson).map(([field, json]) => `${JSON.stringify(field)}:${json}`);
  return fc
    .tuple(validObject(schema, known), fc.array(field, { minLength: 1, maxLength: 4 }))
    .map(
      ([value, fields]) =>
        `{${[...Object.keys(value).map((key) => `${JSON.stringify(key)}:${JSON.stringify(value[key])}`), ...fields].join(',')}}`,
    );
}

import { cell } from './markdown.js';

/** The parts of JSON Schema that the service uses: https://json-schema.org/draft/2020-12 */
export type Schema = {
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly format?: string;
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly items?: Schema;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: Schema | boolean;
  readonly description?: string;
};

const FORMATS: Readonly<Record<string, string>> = {
  uuid: 'UUID',
  'date-time': 'time (RFC 3339)',
  uri: 'URL',
};

/** What a value may be, in words. */
export function typeOf(schema: Schema): string {
  const options = schema.anyOf ?? schema.oneOf;
  if (schema.$ref !== undefined) {
    const name = schema.$ref.split('/').at(-1) ?? '';
    return `[${name}](#${name.toLowerCase()})`;
  }
  if (options) return [...new Set(options.map(typeOf))].join(' or ');
  if (schema.const !== undefined) return literal(schema.const);
  if (schema.enum) return schema.enum.map(literal).join(', ');
  const types = typeof schema.type === 'string' ? [schema.type] : (schema.type ?? ['any JSON']);
  return types.map((type) => named(type, schema)).join(' or ');
}

const literal = (value: unknown): string => `\`${typeof value === 'string' ? value : JSON.stringify(value)}\``;

function named(type: string, { format, items, properties, additionalProperties }: Schema): string {
  if (type === 'array') return items ? `array of ${typeOf(items)}` : 'array';
  if (type === 'string') return FORMATS[format ?? ''] ?? 'string';
  if (type === 'object' && !properties && typeof additionalProperties === 'object')
    return `object of ${typeOf(additionalProperties)}`;
  return type;
}

/**
 * The rows of an object's members: name, type, whether it is always there, description. Nested ones follow, with a
 * path.
 */
export function fieldsOf(schema: Schema, path = ''): string[][] {
  const { properties = {}, required = [] } = objectIn(schema);
  return Object.entries(properties).flatMap(([name, member]) => {
    const place = `${path}${name}`;
    const row = [
      `\`${place}\``,
      typeOf(member),
      required.includes(name) ? 'yes' : 'no',
      cell(member.description ?? ''),
    ];
    const nested = objectIn(member);
    const list = nested.type === 'array' && nested.items ? fieldsOf(nested.items, `${place}[].`) : [];
    return [row, ...list, ...fieldsOf(nested, `${place}.`)];
  });
}

/** An object that may be null or absent is shown as the object. */
const objectIn = (schema: Schema): Schema =>
  (schema.anyOf ?? schema.oneOf)?.find(({ type }) => type === 'object' || type === 'array') ?? schema;

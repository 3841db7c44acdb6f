import fc from 'fast-check';

/** Values that a JSON schema allows. */

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
/** Values for parameters and fields of these names, besides those that the schema tells. */
export type KnownValues = Readonly<Record<string, readonly string[]>>;

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

export function goodObject({ properties = {}, required = [] }: JsonSchema, known: KnownValues) {
  const fields = Object.entries(properties).map(
    ([name, schema]) => [name, goodValue(schema, known[name])] as const,
  );
  return fc.record(Object.fromEntries(fields), { requiredKeys: [...required] });
}

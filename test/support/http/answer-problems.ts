import { z } from 'zod';
import type { RawAnswer } from './raw-client.js';
import type { OpenApi, Operation } from './requests-from-openapi.js';

/** Internals that no answer may disclose: stack traces, paths of the program, SQLite codes. */
const INTERNALS = /\.[jt]s:\d+|node_modules|\bat [\w.]+ \(|SQLITE_/;

/** Deviations of an answer from the service's OpenAPI document; empty if there are none. */
export function problemsOf(answer: RawAnswer, operation: Operation, document: OpenApi): string[] {
  const { status, headers, body } = answer;
  const excerpt = `${status} ${body.slice(0, 500)}`;
  const problems = INTERNALS.test(body) ? [`tells of its insides: ${excerpt}`] : [];
  if (status >= 500) return [...problems, `fails: ${excerpt}`];
  const isStream = headers['content-type'] === 'text/event-stream';
  const schema = schemaOf(operation, status);
  if (status < 400 && schema === undefined && !(String(status) in operation.responses)) {
    return [...problems, `a status that the document does not know: ${excerpt}`];
  }
  if (schema === undefined || isStream) return problems;
  const parsed = checkOf(schema, document).safeParse(jsonOf(body));
  if (!parsed.success) return [...problems, `is not as the document says: ${excerpt} ${parsed.error.message}`];
  if (status >= 400 && (parsed.data as { requestId: string }).requestId !== headers['x-request-id']) {
    return [...problems, `has two request ids: ${excerpt}`];
  }
  return problems;
}

/** Looks up the schema of a status, or of its class: Node and Fastify reject some requests before any route does. */
function schemaOf({ responses }: Operation, status: number): object | undefined {
  const response = responses[status] ?? responses[`${String(status)[0]}XX`];
  return response?.content?.['application/json']?.schema;
}

const checks = new WeakMap<object, z.ZodType>();

function checkOf(schema: object, { components }: OpenApi): z.ZodType {
  const known = checks.get(schema);
  if (known) return known;
  const whole = JSON.stringify({ ...schema, $defs: components.schemas });
  const check = z.fromJSONSchema(JSON.parse(whole.replaceAll('#/components/schemas/', '#/$defs/')));
  checks.set(schema, check);
  return check;
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

import { z } from 'zod';
import type { RawAnswer } from './raw-client.js';
import type { OpenApi, Operation } from './requests-from-openapi.js';

/** What of a stack, or of where a program lies, must not be told. */
const INSIDES = /\.[jt]s:\d+|node_modules|\bat [\w.]+ \(|SQLITE_/;

/** What is wrong with an answer, by the document of the service: nothing, unless it is a fault. */
export function problemsOf(answer: RawAnswer, operation: Operation, document: OpenApi): string[] {
  const { status, headers, body } = answer;
  const told = `${status} ${body.slice(0, 500)}`;
  const problems = INSIDES.test(body) ? [`tells of its insides: ${told}`] : [];
  if (status >= 500) return [...problems, `fails: ${told}`];
  const isStream = headers['content-type'] === 'text/event-stream';
  const schema = schemaOf(operation, status);
  if (status < 400 && schema === undefined && !(String(status) in operation.responses)) {
    return [...problems, `a status that the document does not know: ${told}`];
  }
  if (schema === undefined || isStream) return problems;
  const parsed = checkOf(schema, document).safeParse(jsonOf(body));
  if (!parsed.success) return [...problems, `is not as the document says: ${told} ${parsed.error.message}`];
  if (status >= 400 && (parsed.data as { requestId: string }).requestId !== headers['x-request-id']) {
    return [...problems, `has two request ids: ${told}`];
  }
  return problems;
}

/** Errors that Node or fastify find before there is a call have the envelope of all others, too. */
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

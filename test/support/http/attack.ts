import fc from 'fast-check';
import type { KnownValues } from '../fixtures/schema-values.js';
import { ask } from '../servers/service.js';
import { problemsOf } from './answer-problems.js';
import { answersIn, exchange } from './raw-client.js';
import { bytesOf, type OpenApi, operationsOf, requestsTo } from './requests-from-openapi.js';

export type Target = {
  readonly url: string;
  /** Each request carries one of these tokens, or none. */
  readonly tokens: readonly (string | undefined)[];
  /** Called before each operation: values that exist, and secrets that no answer may disclose. */
  currentValues(): Promise<{ readonly known: KnownValues; readonly secrets: readonly string[] }>;
};

/**
 * Sends `runsPerOperation` random requests to each operation of the service's own OpenAPI document.
 * @returns every status that the service answered
 * @throws Error an answer deviates from the document or discloses a secret: names the operation and the problem
 */
export async function attack({ url, tokens, currentValues }: Target, runsPerOperation: number): Promise<Set<number>> {
  const document = (await ask(`${url}/openapi.json`, 'GET')).json as unknown as OpenApi;
  const statuses = new Set<number>();
  for (const operation of operationsOf(document)) {
    const { known, secrets } = await currentValues();
    const property = fc.asyncProperty(
      requestsTo(operation, known),
      fc.constantFrom(...tokens),
      async (request, token) => {
        const received = await exchange(url, bytesOf(request, token), isStream);
        const [answer, ...more] = answersIn(received);
        if (!answer || more.length > 0) throw new Error(`There is not one answer, but: ${received}`);
        const problems = problemsOf(answer, operation, document);
        if ([...secrets, ...(token ? [token] : [])].some((secret) => received.includes(secret))) {
          problems.push('tells a secret');
        }
        if (problems.length > 0) throw new Error(`${operation.method} ${operation.path} ${problems.join('; ')}`);
        statuses.add(answer.status);
      },
    );
    await fc.assert(property, { numRuns: runsPerOperation, includeErrorInReport: true });
  }
  return statuses;
}

/** Ends the exchange after the head, because a stream has no end. */
export const isStream = (received: string) =>
  /^content-type: text\/event-stream/im.test(received) && received.includes('\r\n\r\n');

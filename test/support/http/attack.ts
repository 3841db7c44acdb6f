import fc from 'fast-check';
import type { KnownValues } from '../fixtures/schema-values.js';
import { ask } from '../servers/service.js';
import { problemsOf } from './answer-problems.js';
import { answersIn, exchange } from './raw-client.js';
import { bytesOf, type OpenApi, operationsOf, requestsTo } from './requests-from-openapi.js';

export type Target = {
  readonly url: string;
  /** Each request bears one of them, or none. */
  readonly tokens: readonly (string | undefined)[];
  /** What there is for a call to find, and what no answer may tell. Asked before each call's turn. */
  whatThereIs(): Promise<{ readonly known: KnownValues; readonly secrets: readonly string[] }>;
};

/**
 * Sends so many random requests to each call of the service's own document.
 * @returns every status that was answered
 * @throws Error which call answered what, and what is wrong with it
 */
export async function attack({ url, tokens, whatThereIs }: Target, runsACall: number): Promise<Set<number>> {
  const document = (await ask(`${url}/openapi.json`, 'GET')).json as unknown as OpenApi;
  const statuses = new Set<number>();
  for (const operation of operationsOf(document)) {
    const { known, secrets } = await whatThereIs();
    const property = fc.asyncProperty(
      requestsTo(operation, known),
      fc.constantFrom(...tokens),
      async (request, token) => {
        const said = await exchange(url, bytesOf(request, token), isStream);
        const [answer, ...more] = answersIn(said);
        if (!answer || more.length > 0) throw new Error(`There is not one answer, but: ${said}`);
        const problems = problemsOf(answer, operation, document);
        if ([...secrets, ...(token ? [token] : [])].some((secret) => said.includes(secret))) {
          problems.push('tells a secret');
        }
        if (problems.length > 0)
          throw new Error(`${operation.method} ${operation.path} ${problems.join('; ')}`);
        statuses.add(answer.status);
      },
    );
    await fc.assert(property, { numRuns: runsACall, includeErrorInReport: true });
  }
  return statuses;
}

/** A stream has no end: its head is enough. */
export const isStream = (said: string) =>
  /^content-type: text\/event-stream/im.test(said) && said.includes('\r\n\r\n');

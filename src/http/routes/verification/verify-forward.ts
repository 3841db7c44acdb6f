import type { FastifyReply, FastifyRequest, HTTPMethods } from 'fastify';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { KeyledgerError } from '../../../domain/errors.js';
import type { InvalidReason } from '../../../projections/verify.js';
import { AiType, errors, RepoParams } from '../../schemas.js';
import type { VerifyDependencies } from './verify.js';

const { repoId: RepoId } = RepoParams.shape;

/**
 * Refuses unknown parameters itself (`members: false`), also those that other routes ignore: one may be a restriction.
 */
const ForwardQuery = z.strictObject({
  repoId: RepoId.optional().describe('Valid for this repository only'),
  aiType: AiType.optional().describe('Valid for this provider only'),
});
const ForwardHeaders = z.object({
  'x-api-key': z
    .string()
    .optional()
    .describe('Access key, sent with X-Api-Secret; takes precedence over Authorization'),
  'x-api-secret': z.string().optional(),
  'keyledger-require-repo-id': RepoId.optional().describe(
    'Set by the proxy: valid for this repository only, whatever the query says',
  ),
  'keyledger-require-ai-type': AiType.optional().describe('Set by the proxy: valid for this provider only'),
});

/** Reasons that answer 401; any other answers 403, because the key may not be used here now. */
const UNAUTHENTICATED: readonly InvalidReason[] = ['MALFORMED', 'UNKNOWN', 'BAD_SECRET', 'DELETED', 'EXPIRED'];
/** Without the secret a caller learns no reason. */
const WITHOUT_REASON: readonly InvalidReason[] = ['MALFORMED', 'UNKNOWN', 'BAD_SECRET'];

const SCHEMA = { headers: ForwardHeaders, response: { 200: z.null(), ...errors } };

/**
 * Verifies the credential of each request that a proxy forwards: nginx (auth_request), Traefik (ForwardAuth), Caddy
 * (forward_auth), Envoy (HTTP ext_authz, which uses the method of the request and appends its path to this one). See
 * docs/how-to/gateways.md.
 */
export const verifyForwardRoutes =
  ({ queries, lastUsedTracker, clock }: VerifyDependencies): FastifyPluginAsyncZod =>
  async (app) => {
    // A body is part of the proxied request: discard it.
    app.removeAllContentTypeParsers();
    app.addContentTypeParser('*', (_, payload, done) => {
      payload.resume();
      done(null);
    });

    const answer = async (request: FastifyRequest, reply: FastifyReply, query: Requirement) => {
      const [accessKey, secret] = credentialOf(request);
      const { result } = await queries.verify({ accessKey, secret, ...query, canSee: () => true });
      if (!result.valid) throw refusalError(result.reason);
      const { apiKeyId, repoId, aiType } = result.key;
      const byProxy = requiredByProxy(request);
      if ((byProxy.repoId ?? repoId) !== repoId) throw refusalError('WRONG_REPO');
      if ((byProxy.aiType ?? aiType) !== aiType) throw refusalError('WRONG_AI_TYPE');
      lastUsedTracker.record(apiKeyId, clock());
      return reply
        .headers({
          'keyledger-key-id': apiKeyId,
          'keyledger-repo-id': repoId,
          'keyledger-ai-type': aiType,
        })
        .send();
    };

    app.get(
      '/verify/forward',
      {
        config: { members: false },
        schema: {
          ...SCHEMA,
          querystring: ForwardQuery,
          operationId: 'verifyForwardedRequest',
          summary:
            'Verify the API key of a proxied request; the answer names it in Keyledger-Key-Id, -Repo-Id and -Ai-Type',
          tags: ['Verification'],
          security: [{ apiKeyAsBasic: [] }, { apiKeyAsBearer: [] }, { apiKey: [], apiSecret: [] }],
        },
      },
      (request, reply) => answer(request, reply, request.query),
    );
    const otherMethods = app.supportedMethods.filter((method) => !['GET', 'HEAD'].includes(method));
    const restricted = (url: string, method: string[]) =>
      app.route({
        url,
        method: method as HTTPMethods[],
        config: { members: false },
        schema: { ...SCHEMA, querystring: ForwardQuery, hide: true },
        handler: (request, reply) => answer(request, reply, request.query),
      });
    restricted('/verify/forward', otherMethods);
    restricted('/verify/forward/', app.supportedMethods);
    // The path of the proxied request follows, and so the query is the client's.
    app.route({
      url: '/verify/forward/*',
      method: app.supportedMethods as HTTPMethods[],
      schema: { ...SCHEMA, hide: true },
      handler: (request, reply) => answer(request, reply, {}),
    });
  };

/** What a key must be valid for. */
type Requirement = z.infer<typeof ForwardQuery>;

/** The schema has refused repeated headers: their joined values are no repository or provider. */
const requiredByProxy = ({ headers }: FastifyRequest): Requirement => ({
  repoId: headers['keyledger-require-repo-id'] as string | undefined,
  aiType: headers['keyledger-require-ai-type'] as Requirement['aiType'],
});

const NO_CREDENTIAL = ['', ''] as const;

/** Access key and secret, from the headers of a request; empty text if they carry none. */
function credentialOf({ headers }: FastifyRequest): readonly [accessKey: string, secret: string] {
  const { 'x-api-key': key, 'x-api-secret': secret, authorization = '' } = headers;
  if (typeof key === 'string' && key !== '') return [key, typeof secret === 'string' ? secret : ''];
  const [, scheme = '', value = ''] = /^(Basic|Bearer) +(\S+) *$/i.exec(authorization) ?? [];
  return scheme.toLowerCase() === 'basic'
    ? split(Buffer.from(value, 'base64').toString('latin1'), ':')
    : split(value, '.');
}

function split(text: string, separator: string): readonly [string, string] {
  const at = text.indexOf(separator);
  return at < 0 ? NO_CREDENTIAL : [text.slice(0, at), text.slice(at + 1)];
}

function refusalError(reason: InvalidReason): KeyledgerError {
  const details = WITHOUT_REASON.includes(reason) ? {} : { reason };
  return new KeyledgerError(UNAUTHENTICATED.includes(reason) ? 'BAD_CREDENTIAL' : 'KEY_REFUSED', { details });
}

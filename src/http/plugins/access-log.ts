import { type FastifyReply, type FastifyRequest, LogController } from 'fastify';

/** Parameters whose values may be logged: none of them ever holds a secret or names a person. */
const LOGGED = [
  'after',
  'aiType',
  'apikeyId',
  'asOf',
  'cursor',
  'from',
  'include',
  'limit',
  'repo',
  'repoId',
  'status',
  'to',
  'type',
];
/** Secrets and tokens that a caller put where they do not belong. */
const CREDENTIAL = /secret_[A-Za-z0-9]+|whsec_[A-Za-z0-9+/=_-]+|eyJ[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)*/g;
/** Longest part of a path or value that is logged (characters). */
const MAX_LENGTH = 512;

/** Logs one line per request, at debug level for frequent calls. */
export class AccessLog extends LogController {
  override incomingRequest(): void {}

  override requestCompleted(_: unknown, request: FastifyRequest, reply: FastifyReply): void {
    const { method, url, log, id: requestId, quietLog } = request;
    const level = quietLog ? 'debug' : 'info';
    const ms = Math.round(reply.elapsedTime * 10) / 10;
    log[level]({ requestId, method, ...loggedUrl(url), status: reply.statusCode, ms }, 'answered');
  }
}

/** A URL as it is logged: its path, the parameters of LOGGED, and the number of others. */
export function loggedUrl(url: string): {
  path: string;
  query?: Record<string, string>;
  otherParameters?: number;
} {
  const [path = '', ...search] = url.split('?');
  const parameters = [...new URLSearchParams(search.join('?'))];
  const known = parameters.filter(([name]) => LOGGED.includes(name));
  const others = parameters.length - known.length;
  return {
    path: withoutCredentials(path),
    ...(known.length > 0 && {
      query: Object.fromEntries(known.map(([name, value]) => [name, withoutCredentials(value)])),
    }),
    ...(others > 0 && { otherParameters: others }),
  };
}

function withoutCredentials(text: string): string {
  const cut = text.length > MAX_LENGTH ? `${text.slice(0, MAX_LENGTH)}…` : text;
  return cut.replace(CREDENTIAL, (found) => `${found.slice(0, found.startsWith('eyJ') ? 3 : found.indexOf('_') + 1)}…`);
}

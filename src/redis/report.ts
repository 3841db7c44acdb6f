import type { BaseLogger } from 'pino';
import { redactUrl } from '../security/redact-url.js';
import type { Connection } from './connection.js';

/** Redis refuses a command or is not connected; the message holds its answer. */
export class RedisUnavailable extends Error {
  /** RedisHealthLog reports it, once. */
  readonly expected = true;
  readonly reason: string;

  constructor(where: string, reason: string) {
    super(`Redis at ${where}: ${reason}`);
    this.name = 'RedisUnavailable';
    this.reason = reason;
  }
}

/** Errors of ioredis for a command without a connection. */
export const NO_CONNECTION =
  /^(?:Stream isn't writeable|Connection is closed|Command timed out|Reached the max retries)/;
const ENDS_CONNECTIONS = 'it closes connections before they are ready';

/** Answers of Redis that the operator must act on, and how. */
const REMEDIES: readonly (readonly [answer: RegExp, remedy: string])[] = [
  [/WRONGPASS|NOAUTH|invalid password|AUTH/, 'Check user and password in the URL, percent-encoded'],
  [/NOPERM/, 'Give the user the rights of the ACL line in docs/how-to/deploy.md'],
  [
    /DB index is out of range|invalid DB index/,
    'End the URL with the number of a database that the server has, or without a number',
  ],
  [/ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ETIMEDOUT/, 'Is it running there, and reachable from here?'],
  [
    new RegExp(`certificate|wrong version number|SSL|TLS|${ENDS_CONNECTIONS}`, 'i'),
    'rediss:// is for servers with TLS, redis:// for those without',
  ],
];

/** One line for the operator: the setting, what Redis answered, and what to do. */
export function describeRedisProblem(url: string, reason: string): string {
  const remedy = REMEDIES.find(([answer]) => answer.test(reason))?.[1];
  const what = `READ_MODEL_URL: Redis at ${redactUrl(url)} cannot be used: ${reason}`;
  return remedy === undefined ? what : `${what.replace(/\.$/, '')}. ${remedy}`;
}

type MapError = (error: unknown) => unknown;

/** Maps errors of a connection's commands to RedisUnavailable with the answer of Redis; leaves others unchanged. */
export function redisErrorMapper(connection: Connection, url: string): MapError {
  const where = redactUrl(url);
  let lastError: string | undefined;
  connection.on('error', ({ message }: Error) => {
    lastError = message;
  });
  connection.on('ready', () => {
    lastError = undefined;
  });
  const whyNoConnection = (message: string): string => {
    if (/timed out/.test(message)) return 'it does not answer';
    return lastError ?? (connection.status === 'ready' ? message : ENDS_CONNECTIONS);
  };
  return (error) => {
    const { name, message } = error as Error;
    if (NO_CONNECTION.test(message)) return new RedisUnavailable(where, whyNoConnection(message));
    return name === 'ReplyError' ? new RedisUnavailable(where, message) : error;
  };
}

/** The same store, whose methods reject with the mapped errors. */
export const withMappedErrors = <Store extends object>(store: Store, mapError: MapError): Store =>
  new Proxy(store, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name, target);
      if (typeof member !== 'function') return member;
      return (...args: unknown[]) => {
        const result: unknown = member.apply(target, args);
        if (!(result instanceof Promise)) return result;
        return result.catch((error: unknown) => {
          throw mapError(error);
        });
      };
    },
  });

/** Logs the faults of a Redis, each once, until Redis works again. */
export class RedisHealthLog {
  readonly #connection: Connection;
  readonly #url: string;
  readonly #logger: BaseLogger;
  #reported: string | undefined;

  constructor(connection: Connection, url: string, logger: BaseLogger) {
    this.#connection = connection;
    this.#url = url;
    this.#logger = logger;
    connection.on('error', ({ message }: Error) => this.failed(message));
  }

  failed(reason: string): void {
    if (this.#reported === reason || this.#connection.status === 'end') return;
    this.#reported = reason;
    this.#logger.warn(describeRedisProblem(this.#url, reason));
  }

  succeeded(): void {
    if (this.#reported !== undefined) this.#logger.info(`Redis at ${redactUrl(this.#url)} works again`);
    this.#reported = undefined;
  }
}

import type { BaseLogger } from 'pino';
import { withoutCredentials } from '../event-store/eventstoredb-connection.js';
import type { Connection } from './redis-connection.js';

/** Redis refuses a command, or there is no connection to it: what it answered, or why there is none. */
export class RedisUnavailable extends Error {
  /** It is reported once, by RedisReport; whoever meets it again need not. */
  readonly expected = true;

  constructor(message: string) {
    super(message);
    this.name = 'RedisUnavailable';
  }
}

/** What ioredis says of a command where there is no connection. */
const NO_CONNECTION =
  /^(?:Stream isn't writeable|Connection is closed|Command timed out|Reached the max retries)/;

/** Answers of Redis that the operator must act on, and how. */
const REMEDIES: readonly (readonly [answer: RegExp, remedy: string])[] = [
  [/WRONGPASS|NOAUTH|invalid password|AUTH/, 'Check user and password in the URL, percent-encoded'],
  [/NOPERM/, 'Give the user the rights of the ACL line in docs/operations.md'],
  [
    /DB index is out of range|invalid DB index/,
    'Name a database that the server has at the end of the URL, or none',
  ],
  [
    /ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ETIMEDOUT/,
    'Is it running there, and reachable from here?',
  ],
  [
    /certificate|wrong version number|SSL|TLS/i,
    'rediss:// is for servers with TLS, redis:// for those without',
  ],
];
const ENDS_CONNECTIONS = 'it ends connections before they are ready';
const TLS_REMEDY = 'rediss:// is for servers with TLS, redis:// for those without';

/** Tells the operator what is wrong with a Redis: each fault once, until Redis works again. */
export class RedisReport {
  readonly #connection: Connection;
  readonly #where: string;
  readonly #logger: BaseLogger;
  #lastError: string | undefined;
  #reported: string | undefined;

  /** @param url of READ_MODEL_URL */
  constructor(connection: Connection, url: string, logger: BaseLogger) {
    this.#connection = connection;
    this.#where = withoutCredentials(url);
    this.#logger = logger;
    connection.on('error', ({ message }: Error) => {
      this.#lastError = message;
      this.#report(message);
    });
    connection.on('ready', () => {
      this.#lastError = undefined;
    });
  }

  /** An error of a command in the words of Redis, which are reported; an error of another kind as it is. */
  failed(error: unknown): unknown {
    const { name, message } = error as Error;
    if (error instanceof RedisUnavailable) return error;
    if (name !== 'ReplyError' && !NO_CONNECTION.test(message)) return error;
    const reason = NO_CONNECTION.test(message) ? this.#whyNoConnection(message) : message;
    this.#report(reason);
    return new RedisUnavailable(`Redis at ${this.#where}: ${reason}`);
  }

  succeeded(): void {
    if (this.#reported !== undefined) this.#logger.info(`Redis at ${this.#where} works again`);
    this.#reported = undefined;
  }

  #whyNoConnection(message: string): string {
    if (/timed out/.test(message)) return 'it does not answer';
    if (this.#connection.status === 'end') return this.#reported ?? message;
    return this.#lastError ?? (this.#connection.status === 'ready' ? message : ENDS_CONNECTIONS);
  }

  #report(reason: string): void {
    if (this.#reported === reason || this.#connection.status === 'end') return;
    this.#reported = reason;
    const remedy =
      reason === ENDS_CONNECTIONS ? TLS_REMEDY : REMEDIES.find(([answer]) => answer.test(reason))?.[1];
    const what = `READ_MODEL_URL: Redis at ${this.#where} cannot be used: ${reason}`;
    this.#logger.warn(remedy === undefined ? what : `${what.replace(/\.$/, '')}. ${remedy}`);
  }
}

import { isIP } from 'node:net';
import { join } from 'node:path';
import { z } from 'zod';
import { isEventStoreUrl, isSqliteUrl } from './event-store/open.js';
import { isRedisUrl } from './redis/connection.js';

/** An empty variable counts as unset. */
const text = z.string().optional();
const integer = (max: number) => {
  const rule = `must be a whole number from 0 to ${max}`;
  return z
    .string()
    .regex(/^\d{1,9}$/, rule)
    .transform(Number)
    .refine((value) => value <= max, rule);
};

/** Minimum length of a shared secret for HS256, in characters. */
export const MIN_SECRET_LENGTH = 32;

function isNetwork(text: string): boolean {
  const [address = '', bits = '0', ...rest] = text.trim().split('/');
  const version = isIP(address);
  // An IPv4 network that is mapped into IPv6 would count its bits from elsewhere.
  const isMapped = version === 6 && /^::ffff:/i.test(address);
  const most = version === 4 ? 32 : 128;
  return version > 0 && !isMapped && rest.length === 0 && /^\d+$/.test(bits) && Number(bits) <= most;
}

const list = (isOne: (part: string) => boolean = () => true, rule = '') =>
  z
    .string()
    .default('')
    .transform((text) =>
      text
        .split(',')
        .map((part) => part.trim())
        .filter(Boolean),
    )
    .refine((parts) => parts.every(isOne), rule);

/** Every setting: name in the environment, default, purpose. */
const Environment = z.object({
  /** Address to listen on. */
  HOST: z.string().default('127.0.0.1'),
  /** Port to listen on; 0 selects a free one. */
  PORT: integer(65535).default(8080),
  /** Port of its own for /metrics, on HOST; without it /metrics is on PORT. */
  METRICS_PORT: integer(65535).optional(),
  /**
   * Folder of the default log and the generated keys; with READ_MODEL_URL=memory, also of usage.db, read-marks.db and
   * deliveries.db.
   */
  DATA_DIR: z.string().default('./data'),
  /** The log. Default: sqlite:<DATA_DIR>/keyledger.db */
  EVENT_STORE_URL: z
    .string()
    .refine(isEventStoreUrl, 'must be sqlite:<file> or a URL of EventStoreDB, esdb://… or esdb+discover://…')
    .optional(),
  /** Prefix of every stream's name, in an EventStoreDB that other services use too. */
  EVENT_STORE_PREFIX: z
    .string()
    .regex(/^[A-Za-z0-9:._-]{1,64}$/, 'must be 1 to 64 of letters, digits, ":", ".", "_" and "-"')
    .optional(),
  /** Store of the read model, which serves lists. A Redis also holds last uses, read marks, and cursors of webhooks. */
  READ_MODEL_URL: z
    .string()
    .refine((url) => url === 'memory:' || isRedisUrl(url), 'must be memory: or a redis:// URL')
    .default('memory:'),
  /** Prefix of every key in Redis. */
  REDIS_PREFIX: z
    .string()
    .regex(/^[A-Za-z0-9:_-]{1,64}$/, 'must be 1 to 64 of letters, digits, ":", "_" and "-"')
    .default('keyledger'),
  /** Keys that seal secrets: id:base64 each, separated by commas, newest first. Default: generated in DATA_DIR. */
  MASTER_KEYS: text,
  /** File that holds MASTER_KEYS. */
  MASTER_KEYS_FILE: text,
  /** Key set that signs the bearer tokens. */
  JWT_JWKS_URL: z.url({ protocol: /^https?$/, error: 'must be an http(s) URL' }).optional(),
  /** Seconds for which the last key set is used while its address is unavailable. */
  JWKS_MAX_AGE: integer(999_999_999)
    .default(86_400)
    .refine((seconds) => seconds >= 300, 'must be at least 300: the key set is fetched every 240 seconds'),
  /** Shared secret that signs the bearer tokens (HS256), as UTF-8. Default: generated in DATA_DIR. */
  JWT_SECRET: z.string().min(MIN_SECRET_LENGTH, `must have at least ${MIN_SECRET_LENGTH} characters`).optional(),
  /** Issuer that a token must have; must be set with JWT_JWKS_URL. Default: keyledger */
  JWT_ISSUER: text,
  /** Audience that a token must have; must be set with JWT_JWKS_URL. Default: keyledger */
  JWT_AUDIENCE: text,
  /** Claim that holds the repositories and roles of a token. */
  JWT_REPOS_CLAIM: z.string().default('repos'),
  /** Seconds in which a request must arrive; a caller that reads nothing for four times as long is disconnected. */
  REQUEST_TIMEOUT: integer(3600)
    .default(30)
    .refine((seconds) => seconds > 0, 'must be at least 1'),
  /** Requests per minute and caller, not counting verifications; 0: no limit. */
  RATE_LIMIT: integer(999_999_999).default(60_000),
  /** Staleness in seconds above which no key is verified; 0: no limit. */
  VERIFY_MAX_STALENESS: integer(999_999_999).default(300),
  /** Serves GET /verify/forward, for proxies; it needs no token. */
  VERIFY_FORWARD: z
    .enum(['true', 'false'], 'must be true or false')
    .default('true')
    .transform((value) => value === 'true'),
  /** Origins that browsers may call from, separated by commas; none without it. */
  CORS_ORIGIN: list(
    (origin) => URL.canParse(origin) && new URL(origin).origin === origin,
    'must be origins such as https://app.example.com, separated by commas',
  ),
  /**
   * Internal networks that webhooks may be in, such as 10.1.0.0/16, separated by commas; by default webhooks must have
   * public addresses. Webhooks in these networks may use http.
   */
  WEBHOOK_ALLOWED_NETWORKS: list(isNetwork, 'must be addresses and networks such as 10.0.0.0/8, separated by commas'),
  /** Seconds for which a failing delivery is retried before the webhook is paused. */
  WEBHOOK_RETRY_SECONDS: integer(999_999_999).default(86_400),
  /** Proxies whose X-Forwarded-For is trusted: true, or addresses and networks separated by commas. */
  TRUST_PROXY: z
    .string()
    .default('false')
    .refine(
      (value) => ['true', 'false'].includes(value) || value.split(',').every(isNetwork),
      'must be true, false, or addresses and networks such as 10.0.0.0/8, separated by commas',
    )
    .refine((value) => !/\/0+\s*(,|$)/.test(value), 'must not hold a network of all addresses: write true instead')
    .transform((value) => (value === 'true' || value === 'false' ? value === 'true' : value)),
  LOG_LEVEL: z.enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent']).default('info'),
  /** production: nothing is generated, a missing key is an error. */
  NODE_ENV: z.enum(['production', 'development', 'test'], 'must be production, development, test or unset').optional(),
});

export type Settings = Omit<z.infer<typeof Environment>, 'EVENT_STORE_URL'> & {
  readonly EVENT_STORE_URL: string;
};

/** A setting is wrong or missing; the message says which, and what to do. */
export class ConfigError extends Error {
  /** Each problem is a line of its own. */
  readonly problems: readonly string[];

  constructor(...problems: readonly string[]) {
    super(problems.join('\n'));
    this.problems = problems;
  }
}

/**
 * The settings from the environment.
 * @throws ConfigError
 */
export function loadSettings(environment: NodeJS.ProcessEnv): Settings {
  // A file or a secret store often adds a newline.
  const trimmed = Object.entries(environment).map(([name, value]) => [name, value?.trim()] as const);
  const set = Object.fromEntries(trimmed.filter(([, value]) => value !== ''));
  const parsed = Environment.safeParse(set);
  if (!parsed.success) {
    throw new ConfigError(...parsed.error.issues.map(({ path, message }) => `${path.join('.')} ${message}`));
  }
  const settings = parsed.data;
  const ownLog = `sqlite:${join(settings.DATA_DIR, 'keyledger.db')}`;
  const { EVENT_STORE_URL = ownLog, EVENT_STORE_PREFIX } = settings;
  if (EVENT_STORE_PREFIX !== undefined && isSqliteUrl(EVENT_STORE_URL))
    throw new ConfigError('EVENT_STORE_PREFIX is for EventStoreDB: each SQLite log has a file of its own');
  return { ...settings, EVENT_STORE_URL };
}

import { randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { Keyring, makeMasterKey } from './security/keyring.js';
import type { TokenSource } from './security/tokens.js';
import { ConfigError, loadSettings, MIN_SECRET_LENGTH, type Settings } from './settings.js';

export type Config = Settings & {
  readonly keyring: Keyring;
  readonly tokens: TokenSource;
  /** Key files that this call created. */
  readonly generated: readonly string[];
};

/**
 * Loads the settings and the keys that they name; creates missing keys, but not in production.
 * @throws ConfigError
 */
export function loadConfig(environment: NodeJS.ProcessEnv): Config {
  const settings = loadSettings(environment);
  const generated: string[] = [];
  return {
    ...settings,
    keyring: loadKeyring(settings, generated),
    tokens: loadTokenSource(settings, generated),
    generated,
  };
}

function loadKeyring(settings: Settings, generated: string[]): Keyring {
  const { MASTER_KEYS, MASTER_KEYS_FILE } = settings;
  if (MASTER_KEYS && MASTER_KEYS_FILE) throw new ConfigError('Set MASTER_KEYS or MASTER_KEYS_FILE, not both');
  const [source, entries] = MASTER_KEYS
    ? ['MASTER_KEYS', MASTER_KEYS]
    : MASTER_KEYS_FILE
      ? [MASTER_KEYS_FILE, readKeyFile(MASTER_KEYS_FILE)]
      : ownKey(
          settings,
          'master.keys',
          () => makeMasterKey('k1'),
          generated,
          'MASTER_KEYS to "k1:$(openssl rand -base64 32)"',
        );
  try {
    return new Keyring(entries);
  } catch (error) {
    throw new ConfigError(`${source}: ${(error as Error).message}`);
  }
}

function loadTokenSource(settings: Settings, generated: string[]): TokenSource {
  const { JWT_JWKS_URL, JWT_SECRET, JWT_ISSUER, JWT_AUDIENCE } = settings;
  if (JWT_JWKS_URL && JWT_SECRET) throw new ConfigError('Set JWT_JWKS_URL or JWT_SECRET, not both');
  if (JWT_JWKS_URL) {
    if (!JWT_ISSUER || !JWT_AUDIENCE) throw new ConfigError('JWT_JWKS_URL needs JWT_ISSUER and JWT_AUDIENCE');
    return { key: new URL(JWT_JWKS_URL), issuer: JWT_ISSUER, audience: JWT_AUDIENCE };
  }
  const secret =
    JWT_SECRET ??
    ownKey(
      settings,
      'signing.key',
      () => randomBytes(32).toString('base64url'),
      generated,
      'JWT_JWKS_URL or JWT_SECRET',
    )[1];
  if (secret.length < MIN_SECRET_LENGTH)
    throw new ConfigError(`signing.key in DATA_DIR must have at least ${MIN_SECRET_LENGTH} characters`);
  return {
    key: new TextEncoder().encode(secret),
    issuer: JWT_ISSUER ?? 'keyledger',
    audience: JWT_AUDIENCE ?? 'keyledger',
  };
}

/** The key in a file of DATA_DIR, which is created if it is missing. */
function ownKey(
  { DATA_DIR, NODE_ENV }: Settings,
  name: string,
  make: () => string,
  generated: string[],
  remedy: string,
): [file: string, key: string] {
  const file = join(DATA_DIR, name);
  if (NODE_ENV === 'production') throw new ConfigError(`In production nothing is generated: set ${remedy}`);
  if (!existsSync(file) && createOnce(file, make())) generated.push(file);
  return [file, readKeyFile(file)];
}

function readKeyFile(file: string): string {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch (error) {
    throw new ConfigError(`Cannot read ${file}: ${(error as Error).message}`);
  }
}

/** Creates a file with all of its content or not at all, readable by its owner only. @returns false if it exists */
function createOnce(file: string, content: string): boolean {
  const draft = `${file}.${process.pid}`;
  try {
    mkdirSync(join(file, '..'), { recursive: true, mode: 0o700 });
    const descriptor = openSync(draft, 'w', 0o600);
    writeSync(descriptor, `${content}\n`);
    fsyncSync(descriptor);
    closeSync(descriptor);
    linkSync(draft, file);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw new ConfigError(`Cannot create ${file}: ${(error as Error).message}`);
  } finally {
    if (existsSync(draft)) unlinkSync(draft);
  }
}

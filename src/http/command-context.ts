import type { FastifyRequest } from 'fastify';
import type { AppendOutcome } from '../commands/command-handler.js';
import type { RequestContext } from '../commands/issue-secret.js';
import { isApiKeyId } from '../domain/ai-api-key.js';
import { KeyledgerError } from '../domain/errors.js';
import type { EpochMs } from '../domain/time.js';
import type { EventStore } from '../event-store/event-store.js';
import { type Position, parsePosition } from '../event-store/position.js';
import type { Queries } from '../projections/queries.js';
import type { Keyring } from '../security/keyring.js';
import { callerOf } from './plugins/auth.js';
import { clientAddress } from './plugins/client-address.js';

/** Dependencies of the routes that run commands or record audit accesses. */
export type CommandDependencies = {
  readonly log: EventStore;
  readonly keyring: Keyring;
  readonly queries: Queries;
  readonly clock: () => EpochMs;
  readonly onAppend: (outcome: AppendOutcome) => void;
};

/** The context of a command, from its request. @throws KeyledgerError UNAUTHENTICATED */
export function commandContext(
  request: FastifyRequest,
  { log, keyring, clock, onAppend }: CommandDependencies,
): RequestContext {
  const { issuer, subject } = callerOf(request);
  const actor = { issuer, subject };
  return {
    log,
    keyring,
    clock,
    onAppend,
    actor,
    requestId: request.id,
    from: clientAddress(request),
    verified: true,
  };
}

/** @throws KeyledgerError KEY_NOT_FOUND: no key can have this id; NOT_FOUND: the path ends in a slash */
export function requireApiKeyId(apikeyId: string): string {
  if (apikeyId === '') throw new KeyledgerError('NOT_FOUND');
  if (!isApiKeyId(apikeyId)) throw new KeyledgerError('KEY_NOT_FOUND');
  return apikeyId;
}

/**
 * The minimum position of a read, from its headers.
 * @throws KeyledgerError INVALID_INPUT, OTHER_LOG
 */
export function parseMinPosition(
  headers: { readonly 'keyledger-min-position'?: string | undefined },
  { logId }: EventStore,
): Position | undefined {
  const minimum = headers['keyledger-min-position'];
  return minimum === undefined ? undefined : parsePosition(minimum, logId);
}

import type { FastifyReply, FastifyRequest } from 'fastify';
import type { AppendOutcome, CommandContext } from '../commands/command-handler.js';
import type { AuditContext } from '../commands/record-audit-access.js';
import { isApiKeyId } from '../domain/ai-api-key.js';
import { KeyledgerError } from '../domain/errors.js';
import type { EventStore } from '../event-store/event-store.js';
import { type Position, parsePosition } from '../event-store/position.js';
import type { Queries } from '../projections/queries.js';
import type { Keyring } from '../security/keyring.js';
import { callerOf } from './plugins/auth.js';
import { clientAddress } from './plugins/client-address.js';

/** What the routes that change something work with. */
export type CommandDependencies = {
  readonly log: EventStore;
  readonly keyring: Keyring;
  readonly queries: Queries;
  readonly clock: () => number;
  readonly onAppend: (outcome: AppendOutcome) => void;
};

/** The command's context of a request. @throws KeyledgerError UNAUTHENTICATED */
export function commandContext(
  request: FastifyRequest,
  { log, keyring, clock, onAppend }: CommandDependencies,
): CommandContext & AuditContext & { readonly keyring: Keyring } {
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

/** A change waits for its own projection; whether that comes in time changes nothing of its success. */
export async function awaitReadModel(
  reply: FastifyReply,
  queries: Queries,
  position: Position,
): Promise<void> {
  reply.header('keyledger-position', position);
  await queries.awaitReadModel(position);
}

/** @throws KeyledgerError KEY_NOT_FOUND: an id that cannot be one; NOT_FOUND: an address that ends in a slash */
export function requireApiKeyId(apikeyId: string): string {
  if (apikeyId === '') throw new KeyledgerError('NOT_FOUND');
  if (!isApiKeyId(apikeyId)) throw new KeyledgerError('KEY_NOT_FOUND');
  return apikeyId;
}

/**
 * What a read asks to be answered from.
 * @throws KeyledgerError INVALID_INPUT, OTHER_LOG
 */
export function parseMinPosition(
  headers: { readonly 'keyledger-min-position'?: string | undefined },
  { logId }: EventStore,
): Position | undefined {
  const minimum = headers['keyledger-min-position'];
  return minimum === undefined ? undefined : parsePosition(minimum, logId);
}

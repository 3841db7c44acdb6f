import { v4 as uuidV4, v5 as uuidV5 } from 'uuid';
import { type AuditAccessed, auditAccessStream } from '../domain/audit-access.js';
import { KeyledgerError } from '../domain/errors.js';
import { encode } from '../event-store/codec.js';
import type { CommandContext } from './command-handler.js';

/** A command's context, and where the request came from; verified: a token proves the actor. */
export type AuditContext = Pick<CommandContext, 'log' | 'clock' | 'actor' | 'requestId'> & {
  readonly from: string;
  readonly verified: boolean;
};

export type AuditAccessRecord = Omit<AuditAccessed['data'], 'from' | 'verified'>;

/**
 * Records an access in the log. Await it before the answer begins: a caller gets nothing that cannot be recorded.
 * @throws KeyledgerError UNAVAILABLE, OUTCOME_UNKNOWN, CONFLICT
 */
export async function recordAuditAccess(
  { log, clock, actor, requestId, from, verified }: AuditContext,
  record: AuditAccessRecord,
): Promise<void> {
  const commandId = uuidV4();
  const stream = auditAccessStream(uuidV4());
  const event: AuditAccessed = { type: 'AuditAccessed', data: { ...record, from, verified } };
  const cause = { actor, requestId, commandId };
  const encoded = encode(event, uuidV5('0', commandId), new Date(clock()).toISOString(), cause);
  const { appended } = await log.append(stream, [encoded], 'no-stream');
  if (!appended) throw new KeyledgerError('CONFLICT');
}

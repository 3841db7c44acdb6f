import { KeyledgerError } from '../domain/errors.js';
import type { SealedSecret } from '../domain/sealed-secret.js';
import { hashOf } from '../security/credentials.js';
import type { Keyring, SealContext } from '../security/keyring.js';
import type { CommandContext, CommandResult } from './command-handler.js';
import { type AuditAccessRecord, type AuditContext, recordAuditAccess } from './record-audit-access.js';

export type RequestContext = CommandContext & AuditContext & { readonly keyring: Keyring };

/** A secret in plain text, which leaves the process only in the answer to its request and to repeats of it. */
export type Issued<State> = Pick<CommandResult<State>, 'state' | 'position'> & { readonly secret: string };

/**
 * Gives an aggregate a new secret. A repeated request appends nothing to the aggregate: it gets the secret of the first
 * answer, opened from its sealed form, after an AuditAccessed event records the access.
 * @param secret the new secret
 * @param sealContext what a version of the secret is sealed for
 * @param id of the key or webhook, for the details of IDEMPOTENCY_KEY_USED
 * @param handle runs the command that stores the sealed secret; it calls `seal` with the state before
 * @param audited what the audit trail records about a repeat
 * @throws KeyledgerError IDEMPOTENCY_KEY_USED: the first secret can no longer be opened; what `handle` throws;
 * UNAVAILABLE, OUTCOME_UNKNOWN: a repeat could not be recorded
 */
export async function issueSecret<State extends SealedSecret>(
  context: RequestContext,
  {
    id,
    secret,
    sealContext,
    handle,
    audited,
  }: {
    readonly id: string;
    readonly secret: string;
    readonly sealContext: (secretVersion: number) => SealContext;
    readonly handle: (seal: (state: State | undefined) => SealedSecret) => Promise<CommandResult<State>>;
    readonly audited: Omit<AuditAccessRecord, 'access'>;
  },
): Promise<Issued<State>> {
  const { keyring } = context;
  const secretHash = hashOf(secret);
  const { outcome, state, position } = await handle((before) => {
    const secretVersion = (before?.secretVersion ?? 0) + 1;
    return { secretVersion, secretHash, sealedSecret: keyring.seal(secret, sealContext(secretVersion)) };
  });
  if (outcome === 'appended') return { state, secret, position };

  const first = keyring.open(state.sealedSecret, sealContext(state.secretVersion), state.secretHash);
  if (first === undefined) throw new KeyledgerError('IDEMPOTENCY_KEY_USED', { details: { id } });
  await recordAuditAccess(context, { access: 'repeated-secret', ...audited });
  return { state, secret: first, position };
}

/** The idempotency data of a rotation: the key counts for the caller and for what is rotated. */
export const rotationIdempotency = (
  { actor }: Pick<CommandContext, 'actor'>,
  idempotencyKey: string | undefined,
  overlapSeconds: number,
) =>
  idempotencyKey === undefined
    ? undefined
    : {
        keyHash: hashOf(JSON.stringify(['rotate', actor.issuer, actor.subject, idempotencyKey])),
        requestHash: hashOf(JSON.stringify([overlapSeconds])),
      };

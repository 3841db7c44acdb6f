import { type AiApiKey, type AiType, secretHashesAt, statusAt } from '../domain/ai-api-key.js';
import type { EpochMs } from '../domain/time.js';
import { hasHash, isAccessKey, isSecret } from '../security/credentials.js';

/** The fields of a key that decide whether a credential is valid. */
export type Verifiable = Pick<AiApiKey, 'repoId' | 'aiType' | 'status' | 'expiresAt' | 'secretHash' | 'oldSecret'>;

/** A credential, what it must be valid for, and what the caller sees: keys of other repositories are unknown. */
export type VerifyRequest = {
  readonly accessKey: string;
  readonly secret: string;
  readonly repoId?: string | undefined;
  readonly aiType?: AiType | undefined;
  readonly canSee: (repoId: string) => boolean;
};

/** Why a credential is not valid, in order of precedence. */
export const INVALID_REASONS = [
  'MALFORMED',
  'UNKNOWN',
  'BAD_SECRET',
  'UNAVAILABLE',
  'DELETED',
  'SUSPENDED',
  'EXPIRED',
  'WRONG_REPO',
  'WRONG_AI_TYPE',
] as const;
export type InvalidReason = (typeof INVALID_REASONS)[number];

export type VerifyResult<Key> =
  | { readonly valid: true; readonly key: Key }
  | { readonly valid: false; readonly reason: InvalidReason };

/**
 * Decides whether a credential is valid; of several reasons the first in INVALID_REASONS wins.
 * @param key the key with the access key of the request, if there is one
 */
export function verifyCredential<Key extends Verifiable>(
  key: Key | undefined,
  { accessKey, secret, repoId, aiType, canSee }: VerifyRequest,
  now: EpochMs,
): VerifyResult<Key> {
  const isVisible = key !== undefined && canSee(key.repoId);
  if (!isVisible || !hasHash(secret, secretHashesAt(key, now))) {
    // Checksums matter only here: those of a valid credential are right.
    if (!isAccessKey(accessKey) || !isSecret(secret)) return invalid('MALFORMED');
    return invalid(isVisible ? 'BAD_SECRET' : 'UNKNOWN');
  }
  switch (statusAt(key, now)) {
    case 'unavailable':
      return invalid('UNAVAILABLE');
    case 'deleted':
      return invalid('DELETED');
    case 'suspended':
      return invalid('SUSPENDED');
    case 'expired':
      return invalid('EXPIRED');
    case 'active':
      if (repoId !== undefined && repoId !== key.repoId) return invalid('WRONG_REPO');
      if (aiType !== undefined && aiType !== key.aiType) return invalid('WRONG_AI_TYPE');
      return { valid: true, key };
  }
}

const invalid = (reason: InvalidReason): { readonly valid: false; readonly reason: InvalidReason } => ({
  valid: false,
  reason,
});

import { hashOf } from '../../src/security/credentials.js';
import type { Keyring } from '../../src/security/keyring.js';
import type { Call, Era } from '../history.js';
import type { Lives } from './lives.js';

/**
 * An Idempotency-Key creates one key (or rotates once) at most, all its answers are equal, and their secret is the one
 * in the log: by its hash, and by what its sealed form opens to.
 */
export function checkIdempotency({ calls }: Era, lives: Lives, keyring: Keyring): string[] {
  const found: string[] = [];
  const events = new Map([...lives.values()].flat().map((event) => [event.requestId, event] as const));
  for (const [idempotencyKey, tries] of triesIn(calls)) {
    const say = (what: string) => found.push(`Idempotency-Key ${idempotencyKey}: ${what}`);
    const caused = tries.flatMap(({ id }) => events.get(id) ?? []);
    if (caused.length > 1) say(`${caused.length} events`);
    const answers = tries.flatMap(({ answer }) => (answer && answer.status < 300 ? [answer.body] : []));
    const secrets = new Set(answers.map(({ id, key, secret }) => `${id} ${key} ${secret}`));
    if (secrets.size > 1) say(`${secrets.size} different answers`);
    const [first] = answers;
    const [event] = caused;
    if (!first || !event) continue;
    const secret = String(first['secret']);
    const { apiKeyId, secretHash, secretVersion = 1, sealedSecret } = event.data;
    if (first['id'] !== apiKeyId) say(`answered ${first['id']}, and made ${apiKeyId}`);
    if (hashOf(secret) !== secretHash) say('the secret that was given is not that of the log');
    const sealContext = { apiKeyId: String(apiKeyId), secretVersion: Number(secretVersion) };
    if (keyring.open(String(sealedSecret), sealContext, hashOf(secret)) !== secret)
      say('the sealed secret opens to another');
  }
  return found;
}

function triesIn(calls: readonly Call[]): Map<string, Call[]> {
  const tries = new Map<string, Call[]>();
  for (const call of calls) {
    if (call.idempotencyKey === undefined) continue;
    const before = tries.get(call.idempotencyKey);
    if (before) before.push(call);
    else tries.set(call.idempotencyKey, [call]);
  }
  return tries;
}

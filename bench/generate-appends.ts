import { v4 } from 'uuid';
import { type ApiKeyCommand, type ApiKeyState, apiKeyStream, evolveApiKey } from '../src/domain/ai-api-key.js';
import { auditAccessStream } from '../src/domain/audit-access.js';
import { decideApiKey } from '../src/domain/decide-ai-api-key.js';
import { encode } from '../src/event-store/codec.js';
import type { AppendRequest } from '../src/event-store/event-store.js';
import { hashOf, makeAccessKey, makeSecret } from '../src/security/credentials.js';
import { Keyring } from '../src/security/keyring.js';
import { seeded } from './seeded.js';

/** Opens the secrets that `generateAppends` seals. */
export const MASTER_KEYS = `k1:${Buffer.alloc(32, 7).toString('base64')}`;
const REPOSITORIES = 1_000;
const START = Date.parse('2025-01-01T00:00:00Z');
const DAY_MS = 86_400_000;
const SPAN_MS = 180 * DAY_MS;
/** Keys that still change; the others stay as they are, so that a log of any length takes the same memory. */
const KEYS_IN_PLAY = 100_000;

type Key = { readonly apiKeyId: string; readonly repoId: string; revision: number; state: ApiKeyState };

/**
 * The life of many keys, as appends that make a log of at least `total` events, in order. A quarter of the events are
 * creations, so 1,000,000 events are about 250,000 keys, in 1,000 repositories of very different sizes, over half a
 * year. The domain decides each event from a command. Every run makes the same ids, times and order of a seed; only the
 * credentials are new.
 */
export function* generateAppends(total: number, seed = 1): Iterable<AppendRequest> {
  const random = seeded(seed);
  const below = (n: number) => Math.floor(random() * n);
  const chance = (percent: number) => random() * 100 < percent;
  const words = new Uint32Array(4);
  const bytes = new Uint8Array(words.buffer);
  const uuid = () => {
    for (let i = 0; i < words.length; i++) words[i] = below(2 ** 32);
    return v4({ random: bytes });
  };
  /** The first repositories have thousands of keys, the last ones a few. */
  const repository = () => `repository-${Math.floor(REPOSITORIES ** random())}`;
  const keyring = new Keyring(MASTER_KEYS);
  const keys: Key[] = [];
  let made = 0;
  const now = () => START + Math.floor((made / total) * SPAN_MS);
  const cause = () => ({
    actor: { issuer: 'keyledger', subject: `person-${below(300)}` },
    requestId: uuid(),
    commandId: uuid(),
  });
  const later = () => new Date(now() + (1 + below(90)) * DAY_MS).toISOString();
  const secretFor = (apiKeyId: string, secretVersion: number) => {
    const secret = makeSecret();
    const sealedSecret = keyring.seal(secret, { apiKeyId, secretVersion });
    const idempotency = chance(50) ? { keyHash: hashOf(uuid()), requestHash: hashOf(uuid()) } : undefined;
    return { secretHash: hashOf(secret), sealedSecret, idempotency };
  };

  const creation = (ref: { apiKeyId: string; repoId: string }): ApiKeyCommand => ({
    type: 'CreateAiApiKey',
    ...ref,
    name: `search feature ${made}`,
    aiType: (['OPENAI', 'GOOGLE', 'ANTHROPIC', 'AWS', 'OTHER'] as const)[below(5)] ?? 'OTHER',
    accessKey: makeAccessKey(),
    ...secretFor(ref.apiKeyId, 1),
    expiresAt: chance(30) ? later() : null,
  });
  const change = ({ apiKeyId, repoId, state }: Key): ApiKeyCommand => {
    const ref = { apiKeyId, repoId };
    const dice = below(100);
    if (state?.status === 'suspended' && dice < 60) return { type: 'ResumeAiApiKey', ...ref };
    if (dice < 30) return { type: 'UpdateAiApiKey', ...ref, name: `renamed ${made}` };
    if (dice < 45) return { type: 'UpdateAiApiKey', ...ref, expiresAt: chance(20) ? null : later() };
    if (dice < 50) return { type: 'UpdateAiApiKey', ...ref, name: `both ${made}`, expiresAt: later() };
    if (dice < 70) {
      const secretVersion = (state?.secretVersion ?? 0) + 1;
      const overlapSeconds = chance(50) ? 3600 : 0;
      const secret = secretFor(apiKeyId, secretVersion);
      return { type: 'RotateAiApiKey', ...ref, secretVersion, overlapSeconds, ...secret };
    }
    if (dice < 85) return { type: 'SuspendAiApiKey', ...ref, reason: chance(50) ? 'odd traffic' : null };
    if (dice < 99) return { type: 'DeleteAiApiKey', ...ref };
    return { type: 'RevokeLeakedAiApiKey', ...ref, secretHash: state?.secretHash ?? '' };
  };
  const handled = (key: Key, command: ApiKeyCommand): AppendRequest | undefined => {
    const at = new Date(now()).toISOString();
    const because = cause();
    const decided = decideApiKey(command, key.state, at);
    if (decided.length === 0) return undefined;
    const expected = key.revision < 0 ? ('no-stream' as const) : key.revision;
    for (const event of decided) key.state = evolveApiKey(key.state, { ...event, occurredAt: at });
    key.revision += decided.length;
    const events = decided.map((event) => encode(event, uuid(), at, because));
    return { stream: apiKeyStream(key.apiKeyId), events, expectedRevision: expected };
  };
  const look = (repoId: string): AppendRequest => {
    const data = {
      access: 'history',
      repoId,
      apiKeyId: null,
      query: {},
      from: '192.0.2.7',
      verified: true,
    } as const;
    const event = encode({ type: 'AuditAccessed', data }, uuid(), new Date(now()).toISOString(), cause());
    return { stream: auditAccessStream(uuid()), events: [event], expectedRevision: 'no-stream' };
  };

  while (made < total) {
    let step: AppendRequest | undefined;
    if (chance(1)) step = look(repository());
    else if (keys.length === 0 || chance(25)) {
      const key: Key = { apiKeyId: uuid(), repoId: repository(), revision: -1, state: undefined };
      step = handled(key, creation({ apiKeyId: key.apiKeyId, repoId: key.repoId }));
      if (keys.length < KEYS_IN_PLAY) keys.push(key);
      else keys[below(KEYS_IN_PLAY)] = key;
    } else {
      const place = below(keys.length);
      const key = keys[place] as Key;
      step = handled(key, change(key));
      // A deleted key accepts no more commands: the last key replaces it.
      if (key.state?.status === 'deleted') {
        const last = keys.pop() as Key;
        if (place < keys.length) keys[place] = last;
      }
    }
    if (!step) continue;
    yield step;
    made += step.events.length;
  }
}

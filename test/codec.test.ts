import { readFileSync } from 'node:fs';
import { describe, expect, it } from '@jest/globals';
import { decodeAny, decodeApiKeyEvent, decodeAuditAccess, encode } from '../src/event-store/codec.js';
import { type DomainEvent, EVENT_TYPES, schemaVersionOf } from '../src/event-store/event-schemas.js';
import type { RecordedEvent } from '../src/event-store/event-store.js';
import { makePosition, parsePosition } from '../src/event-store/position.js';

type Golden = { what: string; recorded: RecordedEvent; decoded: object };
const golden = JSON.parse(readFileSync('test/golden-events.json', 'utf8')) as Golden[];
const [creation] = golden;
if (!creation) throw new Error('golden-events.json is empty');
const sound = creation.recorded;

describe('golden events', () => {
  it('are of every version of every type that was ever written', () => {
    const written = EVENT_TYPES.flatMap((type) =>
      Array.from({ length: schemaVersionOf(type as DomainEvent['type']) }, (_, i) => `${type} ${i + 1}`),
    );
    const held = golden.map(({ recorded: { type, metadata } }) => {
      return `${type} ${(metadata as { schemaVersion: number }).schemaVersion}`;
    });
    expect([...new Set(held)].sort()).toEqual(written.sort());
  });

  it.each(golden.map((event) => [event.what, event] as const))('%s decodes for ever', (_, { recorded, decoded }) => {
    expect(decoding(recorded)).toEqual(decoded);
  });

  it.each(golden.map((event) => [event.what, event] as const))(
    '%s is what is written, or a version before it',
    (_, event) => {
      const decoded = decoding(event.recorded);
      if (typeof decoded === 'string' || decoded.type === 'Unreadable') throw new Error('unreadable');
      const { actor, requestId, occurredAt, type, data } = decoded;
      const cause = { actor, requestId, commandId: '7d1a3b5c-0000-4000-8000-000000000000' };
      const written = encode({ type, data } as Parameters<typeof encode>[0], sound.id, occurredAt, cause);
      expect(decoding({ ...event.recorded, ...written })).toEqual(event.decoded);
    },
  );
});

const decoding = (recorded: RecordedEvent) => decodeAny(recorded).event;

describe('the record of who looked', () => {
  const access = golden.find(({ recorded }) => decodeAny(recorded).kind === 'audit-access')?.recorded as RecordedEvent;

  it.each([
    ['of another type', { type: 'ApiKeyCreated' }, /unknown event type/],
    ['of a later version', { metadata: { ...(access.metadata as object), schemaVersion: 2 } }, /version 2/],
    ['of something unknown', { data: { ...(access.data as object), access: 'guess' } }, /data: /],
    ['without a cause', { metadata: null }, /metadata: /],
  ])('says why it cannot be read when it is %s', (_, broken, reason) => {
    expect(decodeAuditAccess({ ...access, ...broken })).toMatchObject({
      type: 'Unreadable',
      reason: expect.stringMatching(reason),
    });
  });
});

describe('an event that this release cannot read', () => {
  const broken: [string, Partial<RecordedEvent>][] = [
    ['an unknown type', { type: 'ApiKeyTransferred' }],
    ['a type that is a word of JavaScript', { type: 'constructor' }],
    ['a later schema version', { metadata: { ...(sound.metadata as object), schemaVersion: 99 } }],
    ['no metadata', { metadata: {} }],
    ['metadata that is no object', { metadata: 'x' }],
    ['a time that is none', { metadata: { ...(sound.metadata as object), occurredAt: 'yesterday' } }],
    ['data that is no JSON', { data: '{"apiKeyId":' }],
    ['a missing field', { data: { ...(sound.data as object), secretHash: undefined } }],
    ['an unknown provider', { data: { ...(sound.data as object), aiType: 'NOBODY' } }],
    ["another key's data", { data: { ...(sound.data as object), apiKeyId: '11111111-1111-4111-8111-111111111111' } }],
    ['a revision out of turn', { revision: 3 }],
  ];
  it.each(broken)('(%s) becomes Unreadable, with its reason and its time', (_, change) => {
    const event = decodeApiKeyEvent({ ...sound, ...change }, 0);
    expect(event).toMatchObject({
      type: 'Unreadable',
      reason: expect.stringMatching(/./),
      occurredAt: sound.recordedAt,
    });
  });

  it('still says which repository it is of, if that can be read', () => {
    expect(decodeApiKeyEvent({ ...sound, type: 'Unknown' }, 0).data.repoId).toBe('shop');
    expect(decodeApiKeyEvent({ ...sound, type: 'Unknown', data: { repoId: 7 } }, 0).data.repoId).toBeUndefined();
  });

  it('in a stream of no key cannot be attributed', () => {
    expect(() => decodeApiKeyEvent({ ...sound, stream: 'aiApiKey-nobody' }, 0)).toThrow(RangeError);
  });
});

describe('a position', () => {
  const log = '5d8f9fd6-4a14-4f67-9d0f-3b8f2a5c7e61';
  const other = '00000000-4a14-4f67-9d0f-3b8f2a5c7e61';
  it('of this log is taken', () => {
    const position = makePosition(log, '000000000000000a');
    expect(parsePosition(position, log)).toBe(position);
  });
  it('of another log is refused, never misread', () => {
    expect(() => parsePosition(makePosition(other, '000000000000000a'), log)).toThrow(
      expect.objectContaining({ code: 'OTHER_LOG' }),
    );
  });
  it.each(['', 'x', '7', `${log}:`, `${log}:1`, `${log}:000000000000000g`, `${log}:000000000000000a `])(
    'that is none (%j) is refused as input',
    (text) => {
      expect(() => parsePosition(text, log)).toThrow(expect.objectContaining({ code: 'INVALID_INPUT' }));
    },
  );
});

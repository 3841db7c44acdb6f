import { readFileSync } from 'node:fs';
import { describe, expect, it } from '@jest/globals';
import { cloudEvent } from '../src/event-store/cloud-event.js';
import { EVENT_TYPES } from '../src/event-store/event-schemas.js';
import type { RecordedEvent } from '../src/event-store/event-store.js';

const page = readFileSync('docs/reference/events.md', 'utf8');
const golden = JSON.parse(readFileSync('test/golden-events.json', 'utf8')) as { recorded: RecordedEvent }[];

/** Fields that the page names for each event type, without its remarks in brackets. */
const documented = new Map(
  [...page.matchAll(/^\| `([A-Z]\w+)` \| (.*) \|$/gm)].map(([, type = '', fields = '']) => [
    type,
    [...fields.replaceAll(/\([^)]*\)/g, '').matchAll(/`(\w+)`/g)].map(([, field]) => field),
  ]),
);
const OF_EVERY_EVENT = ['repoId', 'revision', 'actor', 'requestId'];

describe('the page about events', () => {
  it('names every type of event', () => {
    expect([...documented.keys()].sort()).toEqual([...EVENT_TYPES].sort());
  });

  it.each(golden.map(({ recorded }) => [recorded.type, recorded] as const))(
    'names every field of %s',
    (type, recorded) => {
      const { data } = cloudEvent(recorded);
      expect(Object.keys(data).sort()).toEqual([...OF_EVERY_EVENT, ...(documented.get(type) ?? [])].sort());
    },
  );
});

import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { hex16, positionAt } from '../src/event-store/position.js';
import type { ListItem } from '../src/projections/list.js';
import type { Checkpoint, ReadModel } from '../src/projections/read-model.js';

const LOG = '5d8f9fd6-4a14-4f67-9d0f-3b8f2a5c7e61';
const at = (place: number) => positionAt(LOG, hex16(place));
const checkpoint = (place: number): Checkpoint => ({ position: at(place), eventId: `event-${place}` });
const item = (apiKeyId: string, revision: number, change: Partial<ListItem> = {}): ListItem => ({
  apiKeyId,
  repoId: 'shop',
  name: `${apiKeyId} at ${revision}`,
  accessKey: `FB_AI_${apiKeyId}`,
  aiType: 'OPENAI',
  status: 'active',
  createdAt: '2026-01-01T00:00:00.000Z',
  deletedAt: null,
  revision,
  createdPosition: at(1),
  ...change,
});
const deleted = { status: 'deleted', deletedAt: '2026-01-02T00:00:00.000Z' } as const;

/** What every read model must do. `open` gives one that may hold the traces of an earlier test. */
export function describeReadModel(name: string, open: () => Promise<ReadModel>): void {
  describe(`${name} as a read model`, () => {
    let model: ReadModel;
    beforeAll(async () => {
      model = await open();
    });
    beforeEach(() => model.clear());
    afterAll(() => model.close());

    it('is empty and nowhere at first', async () => {
      expect(await model.checkpoint()).toBeUndefined();
      expect(await model.list('shop')).toEqual([]);
      expect(await model.get('shop', 'a')).toBeUndefined();
    });

    it('gives back what was applied, and the checkpoint that came with it', async () => {
      const a = item('a', 0, { name: 'Ключ 🔑 "\u2028"', aiType: 'AWS' });
      await model.apply([a], checkpoint(7));
      expect(await model.list('shop')).toEqual([a]);
      expect(await model.get('shop', 'a')).toEqual(a);
      expect(await model.checkpoint()).toEqual(checkpoint(7));
    });

    it('keeps repositories apart', async () => {
      await model.apply([item('a', 0), item('b', 0, { repoId: 'other' })], checkpoint(2));
      expect((await model.list('shop')).map(({ apiKeyId }) => apiKeyId)).toEqual(['a']);
      expect(await model.get('shop', 'b')).toBeUndefined();
      expect(await model.list('constructor')).toEqual([]);
    });

    it('lists newest first by position, whatever came first', async () => {
      const [a, b, c] = [10, 9, 11].map((place, i) =>
        item('abc'.charAt(i), 0, { createdPosition: at(place) }),
      );
      await model.apply([a, b, c] as ListItem[], checkpoint(11));
      expect((await model.list('shop')).map(({ apiKeyId }) => apiKeyId)).toEqual(['c', 'a', 'b']);
    });

    it('leaves deleted keys out of the list but not out of reach', async () => {
      await model.apply([item('a', 0)], checkpoint(1));
      await model.apply([item('a', 1, deleted)], checkpoint(2));
      expect(await model.list('shop')).toEqual([]);
      expect(await model.get('shop', 'a')).toMatchObject(deleted);
    });

    it('takes a batch twice', async () => {
      await model.apply([item('a', 1)], checkpoint(3));
      await model.apply([item('a', 1)], checkpoint(3));
      expect(await model.list('shop')).toEqual([item('a', 1)]);
      expect(await model.checkpoint()).toEqual(checkpoint(3));
    });

    it('never goes back: not to an earlier revision, not to an earlier checkpoint', async () => {
      await model.apply([item('a', 2, deleted)], checkpoint(9));
      await model.apply([item('a', 1), item('b', 0)], checkpoint(8));
      expect(await model.get('shop', 'a')).toMatchObject({ revision: 2, status: 'deleted' });
      expect((await model.list('shop')).map(({ apiKeyId }) => apiKeyId)).toEqual(['b']);
      expect(await model.checkpoint()).toEqual(checkpoint(9));
    });

    it('moves its checkpoint without items too', async () => {
      await model.apply([], checkpoint(4));
      expect(await model.checkpoint()).toEqual(checkpoint(4));
    });

    it('forgets everything when it is cleared', async () => {
      await model.apply([item('a', 0)], checkpoint(1));
      await model.clear();
      expect(await model.list('shop')).toEqual([]);
      expect(await model.checkpoint()).toBeUndefined();
      await model.apply([item('a', 0)], checkpoint(1));
      expect(await model.list('shop')).toEqual([item('a', 0)]);
    });

    it('ends up the same, however batches are repeated, delayed and mixed', async () => {
      const history = fc.array(fc.record({ key: fc.constantFrom('a', 'b', 'c'), dies: fc.boolean() }), {
        maxLength: 12,
      });
      await fc.assert(
        fc.asyncProperty(history, fc.array(fc.nat(20)), async (changes, order) => {
          await model.clear();
          const revisions = new Map<string, number>();
          const batches = changes.map(({ key, dies }, place) => {
            const revision = revisions.get(key) ?? 0;
            revisions.set(key, revision + 1);
            const created = { createdPosition: at(key.charCodeAt(0)) };
            return { items: [item(key, revision, dies ? { ...created, ...deleted } : created)], place };
          });
          const mixed = [
            ...order.flatMap((n) => batches[n % Math.max(1, batches.length)] ?? []),
            ...batches,
          ].reverse();
          for (const { items, place } of mixed) await model.apply(items, checkpoint(place));

          const last = [...revisions].map(
            ([key, next]) =>
              batches
                .flatMap(({ items }) => items)
                .find((one) => one.apiKeyId === key && one.revision === next - 1) as ListItem,
          );
          for (const one of last) expect(await model.get('shop', one.apiKeyId)).toEqual(one);
          const alive = last.filter(({ status }) => status === 'active').map(({ apiKeyId }) => apiKeyId);
          expect((await model.list('shop')).map(({ apiKeyId }) => apiKeyId)).toEqual(alive.sort().reverse());
          expect(await model.checkpoint()).toEqual(
            changes.length ? checkpoint(changes.length - 1) : undefined,
          );
        }),
        { numRuns: 50 },
      );
    });
  });
}

import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { hex16, makePosition, type Position } from '../../../src/event-store/position.js';
import type { ListItem } from '../../../src/projections/list-item.js';
import type { Checkpoint, ListRequest, ReadModel } from '../../../src/projections/read-model.js';
import { keySourceOf } from '../fixtures/key-source.js';

const LOG = '5d8f9fd6-4a14-4f67-9d0f-3b8f2a5c7e61';
const at = (place: number) => makePosition(LOG, hex16(place));
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
  expiresAt: null,
  revision,
  createdPosition: at(1),
  position: at(revision + 1),
  ...change,
});
const deleted = { status: 'deleted', deletedAt: '2026-01-02T00:00:00.000Z' } as const;

/** Contract of a read model. `open` may return one with data of an earlier test. */
export function describeReadModel(name: string, open: () => Promise<ReadModel>): void {
  describe(`${name} as a read model`, () => {
    let model: ReadModel;
    const nothing = async () => false;
    const everything = async () => true;
    const list = (repoId: string, page: Partial<ListRequest> = {}) =>
      model.list(repoId, { includeDeleted: false, before: undefined, size: 1000, ...page });
    const ids = async (repoId = 'shop') => (await list(repoId)).map(({ apiKeyId }) => apiKeyId);
    beforeAll(async () => {
      model = await open();
    });
    beforeEach(() => model.restore(keySourceOf(), nothing));
    afterAll(() => model.close());

    it('restored from an empty log holds nothing, whatever it held', async () => {
      await model.apply([item('a', 0)], checkpoint(1));
      await model.restore(keySourceOf(), nothing);
      expect(await model.checkpoint('shop')).toBeUndefined();
      expect(await list('shop')).toEqual([]);
      expect(await model.get('shop', 'a')).toBeUndefined();
    });

    it('gives back what was applied, and the checkpoint that came with it', async () => {
      const a = item('a', 0, { name: 'Ключ 🔑 "\u2028"', aiType: 'AWS' });
      await model.apply([a], checkpoint(7));
      expect(await list('shop')).toEqual([a]);
      expect(await model.get('shop', 'a')).toEqual(a);
      expect(await model.checkpoint('shop')).toEqual(checkpoint(7));
    });

    it('keeps repositories apart', async () => {
      await model.apply([item('a', 0), item('b', 0, { repoId: 'other' })], checkpoint(2));
      expect(await ids()).toEqual(['a']);
      expect(await model.get('shop', 'b')).toBeUndefined();
      expect(await list('constructor')).toEqual([]);
    });

    it('lists newest first by position, whatever came first', async () => {
      const [a, b, c] = [10, 9, 11].map((place, i) => item('abc'.charAt(i), 0, { createdPosition: at(place) }));
      await model.apply([a, b, c] as ListItem[], checkpoint(11));
      expect(await ids()).toEqual(['c', 'a', 'b']);
    });

    it('lists thousands of keys page by page, whatever is created meanwhile', async () => {
      const many = Array.from({ length: 2_500 }, (_, n) =>
        item(`key-${n}`, 0, { createdPosition: at(n), position: at(n) }),
      );
      await model.apply(many, checkpoint(2_500));
      const found: ListItem[] = [];
      for (let before: Position | undefined; ; before = found.at(-1)?.createdPosition) {
        const page = await list('shop', { before, size: 1000 });
        found.push(...page);
        await model.apply([item(`later-${found.length}`, 0, { createdPosition: at(9_000) })], checkpoint(9_000));
        if (page.length < 1000) break;
        expect(page).toHaveLength(1000);
      }
      expect(found).toEqual(many.reverse());
    });

    it('lists deleted keys where they are asked for, in their place', async () => {
      const [a, b, c] = [1, 2, 3].map((place) => item(`key-${place}`, 0, { createdPosition: at(place) }));
      await model.apply([a, b, c] as ListItem[], checkpoint(3));
      const gone = item('key-2', 1, { ...deleted, createdPosition: at(2) });
      await model.apply([gone], checkpoint(4));
      expect(await list('shop')).toEqual([c, a]);
      expect(await list('shop', { includeDeleted: true })).toEqual([c, gone, a]);
      expect(await list('shop', { includeDeleted: true, size: 1, before: at(3) })).toEqual([gone]);
      expect(await list('shop', { includeDeleted: true, before: at(1) })).toEqual([]);
    });

    it('omits deleted keys from the list, but can still return them', async () => {
      await model.apply([item('a', 0)], checkpoint(1));
      await model.apply([item('a', 1, deleted)], checkpoint(2));
      expect(await list('shop')).toEqual([]);
      expect(await model.get('shop', 'a')).toMatchObject(deleted);
    });

    it('takes a batch twice', async () => {
      await model.apply([item('a', 1)], checkpoint(3));
      await model.apply([item('a', 1)], checkpoint(3));
      expect(await list('shop')).toEqual([item('a', 1)]);
      expect(await model.checkpoint('shop')).toEqual(checkpoint(3));
    });

    it('never goes back: not to an earlier revision, not to an earlier checkpoint', async () => {
      await model.apply([item('a', 2, deleted)], checkpoint(9));
      await model.apply([item('a', 1), item('b', 0)], checkpoint(8));
      expect(await model.get('shop', 'a')).toMatchObject({ revision: 2, status: 'deleted' });
      expect(await ids()).toEqual(['b']);
      expect(await model.checkpoint('shop')).toEqual(checkpoint(9));
    });

    it('restored holds these items and nothing else, if it was of another log', async () => {
      await model.apply([item('a', 5), item('b', 0, { repoId: 'other' })], checkpoint(6));
      await model.restore(keySourceOf([item('a', 0), item('c', 0)], checkpoint(2)), nothing);
      expect((await ids()).sort()).toEqual(['a', 'c']);
      expect(await model.get('shop', 'a')).toMatchObject({ revision: 0 });
      expect(await ids('other')).toEqual([]);
      expect(await model.checkpoint('shop')).toEqual(checkpoint(2));
    });

    it('restored to an earlier place of the same log, holds what came since', async () => {
      await model.apply([item('a', 0)], checkpoint(1));
      await model.restore(keySourceOf([item('a', 1), item('b', 0, { position: at(3) })], checkpoint(3)), everything);
      expect((await ids()).sort()).toEqual(['a', 'b']);
      expect(await model.get('shop', 'a')).toMatchObject({ revision: 1 });
      expect(await model.checkpoint('shop')).toEqual(checkpoint(3));
    });

    it('is not written when the signal is aborted', async () => {
      const aborted = AbortSignal.abort(new Error('another log'));
      await model.apply([item('a', 0)], checkpoint(1));
      await expect(model.apply([item('b', 0)], checkpoint(2), aborted)).rejects.toThrow('another log');
      const later = keySourceOf([item('a', 1), item('b', 0, { position: at(3) })], checkpoint(3));
      for (const holds of [nothing, everything])
        await expect(model.restore(later, holds, aborted)).rejects.toThrow('another log');
      expect(await list('shop')).toEqual([item('a', 0)]);
      expect(await model.checkpoint('shop')).toEqual(checkpoint(1));
    });
  });
}

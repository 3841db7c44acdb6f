import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import type { LastUsedStore } from '../../../src/last-used/last-used-store.js';
import { eventually } from '../assertions/eventually.js';

/** Waits until a store can be read. */
export async function untilAvailable(store: LastUsedStore): Promise<LastUsedStore> {
  await eventually(() =>
    store.read(['any']).then(
      () => true,
      () => false,
    ),
  );
  return store;
}

/** Contract of a last-used store. Each `open` returns another store on the same data, like another process. */
export function describeLastUsedStore(name: string, open: () => Promise<LastUsedStore>): void {
  describe(`${name} as a store of last uses`, () => {
    let store: LastUsedStore;
    let other: LastUsedStore;
    const at = Date.UTC(2026, 0, 1);
    beforeAll(async () => {
      store = await open();
      other = await open();
    });
    afterAll(async () => {
      await store.close();
      await other.close();
    });

    it('gives back to the millisecond what was written, and nothing of a key that was never used', async () => {
      const [a, b, never] = [randomUUID(), randomUUID(), randomUUID()];
      await store.write([
        [a, at + 123],
        [b, at],
      ]);
      expect(await store.read([a, never, b])).toEqual(
        new Map([
          [a, at + 123],
          [b, at],
        ]),
      );
    });

    it('keeps the later use, whichever process writes it, in any order', async () => {
      const [up, down] = [randomUUID(), randomUUID()];
      await store.write([
        [up, at],
        [down, at + 2],
      ]);
      await other.write([
        [up, at + 1],
        [down, at + 1],
      ]);
      for (const reader of [store, other]) {
        expect(await reader.read([up, down])).toEqual(
          new Map([
            [up, at + 1],
            [down, at + 2],
          ]),
        );
      }
    });

    it('takes many at once, and gives many at once', async () => {
      const ids = Array.from({ length: 5_000 }, () => randomUUID());
      await store.write(ids.map((id, n) => [id, at + n]));
      expect(await other.read(ids)).toEqual(new Map(ids.map((id, n) => [id, at + n])));
    });

    it('takes a batch of nothing, and gives nothing when asked for nothing', async () => {
      await store.write([]);
      expect(await store.read([])).toEqual(new Map());
    });

    it('takes any text as an id', async () => {
      const ids = ['constructor', `it's "${randomUUID()}"`, 'Ключ 🔑', '{0}', '1', 'null', '[]'];
      await store.write(ids.map((id) => [id, at]));
      expect(await store.read(ids)).toEqual(new Map(ids.map((id) => [id, at])));
    });

    it('that is closed takes and gives nothing', async () => {
      const closed = await open();
      await closed.close();
      await expect(closed.write([['a', at]])).rejects.toThrow();
      await expect(closed.read(['a'])).rejects.toThrow();
    });
  });
}

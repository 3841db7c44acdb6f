import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import type { Position } from '../../../src/event-store/position.js';
import {
  type Attempt,
  type Cursor,
  type DeliveryStore,
  MAX_KEPT_ATTEMPTS,
} from '../../../src/subscribers/webhooks/delivery-store.js';
import { eventually } from '../assertions/eventually.js';

/** Lease TTL in milliseconds that outlives any test. */
const LONG = 600_000;
const SHORT = 20;

/** Waits until a store can be read. */
export async function untilAvailable(store: DeliveryStore): Promise<DeliveryStore> {
  await eventually(() =>
    store.cursor('any').then(
      () => true,
      () => false,
    ),
  );
  return store;
}

export const cursorAt = (place: number): Cursor => ({
  position: `log:${place}` as Position,
  eventId: `event-${place}`,
  replay: -1,
  failing: null,
});

export const attemptAt = (place: number): Attempt => ({
  eventId: `event-${place}`,
  type: 'ApiKeyCreated',
  position: `log:${place}` as Position,
  at: Date.UTC(2026, 0, 1) + place,
  ms: place,
  status: 204,
  error: null,
});

/** Contract of a delivery store. Each `open` returns another store on the same data, like another process. */
export function describeDeliveryStore(name: string, open: (logId: string) => Promise<DeliveryStore>): void {
  describe(`${name} as a store of cursors`, () => {
    const logId = randomUUID();
    let one: DeliveryStore;
    let two: DeliveryStore;
    beforeAll(async () => {
      one = await open(logId);
      two = await open(logId);
    });
    afterAll(async () => {
      await one.close();
      await two.close();
    });
    const holdsOnly = async (store: DeliveryStore, instance: string, id: string) =>
      (await store.acquireLeases(instance, [id], LONG)).has(id);

    it('gives each lease to one of those that race for it', async () => {
      const ids = Array.from({ length: 100 }, () => randomUUID());
      const [here, there] = await Promise.all([
        Promise.all(ids.map((id) => holdsOnly(one, 'a', id))),
        Promise.all(ids.map((id) => holdsOnly(two, 'b', id))),
      ]);
      expect(here.map((is, n) => is !== there[n])).toEqual(ids.map(() => true));
      const [again, those] = [await one.acquireLeases('a', ids, LONG), await two.acquireLeases('b', ids, LONG)];
      expect(ids.map((id) => again.has(id))).toEqual(here);
      expect(ids.map((id) => those.has(id))).toEqual(there);
    });

    it('gives only what was asked for, and nothing when asked for nothing', async () => {
      const [first, second] = [randomUUID(), randomUUID()];
      expect(await one.acquireLeases('a', [first], LONG)).toEqual(new Set([first]));
      expect(await one.acquireLeases('a', [second], LONG)).toEqual(new Set([second]));
      expect(await one.acquireLeases('a', [], LONG)).toEqual(new Set());
      await one.releaseLeases('a', []);
      expect(await two.acquireLeases('b', [first, second], LONG)).toEqual(new Set());
    });

    it('gives a lease that has run out to another; the old holder’s save is refused and changes nothing', async () => {
      const id = randomUUID();
      await one.acquireLeases('a', [id], LONG);
      expect(await one.save('a', id, cursorAt(1), attemptAt(1))).toBe(true);
      await one.acquireLeases('a', [id], SHORT);
      await eventually(() => holdsOnly(two, 'b', id));
      expect(await one.save('a', id, cursorAt(9), attemptAt(9))).toBe(false);
      for (const store of [one, two]) {
        expect(await store.cursor(id)).toEqual(cursorAt(1));
        expect(await store.attempts(id)).toEqual([attemptAt(1)]);
      }
      expect(await two.save('b', id, cursorAt(2), attemptAt(2))).toBe(true);
      expect(await one.cursor(id)).toEqual(cursorAt(2));
      expect(await one.attempts(id)).toEqual([attemptAt(2), attemptAt(1)]);
    });

    it('refuses the save of a lease that has run out, though nobody else has taken it', async () => {
      const id = randomUUID();
      await one.acquireLeases('a', [id], SHORT);
      await eventually(async () => !(await one.save('a', id, cursorAt(1))));
      await one.acquireLeases('a', [id], LONG);
      expect(await one.save('a', id, cursorAt(2))).toBe(true);
    });

    it('lets a lease be renewed before it runs out', async () => {
      const [id, other] = [randomUUID(), randomUUID()];
      await one.acquireLeases('a', [id, other], SHORT);
      await one.acquireLeases('a', [id], LONG);
      await eventually(() => holdsOnly(two, 'b', other));
      expect(await holdsOnly(two, 'b', id)).toBe(false);
    });

    it('refuses the save of an instance that never held the endpoint', async () => {
      const id = randomUUID();
      expect(await one.save('a', id, cursorAt(1), attemptAt(1))).toBe(false);
      await two.acquireLeases('b', [id], LONG);
      expect(await one.save('a', id, cursorAt(1), attemptAt(1))).toBe(false);
      expect(await one.cursor(id)).toBeUndefined();
      expect(await one.attempts(id)).toEqual([]);
    });

    it('releases only leases of the instance that releases them', async () => {
      const [id, others] = [randomUUID(), randomUUID()];
      await one.acquireLeases('a', [id], LONG);
      await two.acquireLeases('b', [others], LONG);
      await one.releaseLeases('a', [id, others, randomUUID()]);
      expect(await one.save('a', id, cursorAt(1))).toBe(false);
      expect(await two.save('b', others, cursorAt(1))).toBe(true);
      expect(await holdsOnly(two, 'b', id)).toBe(true);
    });

    it('lists live instances, and forgets those without a heartbeat', async () => {
      const [a, b] = [`a-${randomUUID()}`, `b-${randomUUID()}`];
      expect(await two.heartbeat(b, LONG)).toContain(b);
      const both = await one.heartbeat(a, LONG);
      expect(both).toEqual(expect.arrayContaining([a, b]));
      expect(both).toEqual([...both].sort());
      await two.heartbeat(b, SHORT);
      await eventually(async () => !(await one.heartbeat(a, LONG)).includes(b));
      expect(await two.heartbeat(b, LONG)).toEqual(expect.arrayContaining([a, b]));
      await two.heartbeat(b, 0);
      expect(await one.heartbeat(a, LONG)).not.toContain(b);
    });

    it(`keeps the last ${MAX_KEPT_ATTEMPTS} attempts of an endpoint, newest first`, async () => {
      const [id, other] = [randomUUID(), randomUUID()];
      await one.acquireLeases('a', [id, other], LONG);
      await one.save('a', other, cursorAt(1), attemptAt(1));
      for (let n = 1; n <= MAX_KEPT_ATTEMPTS + 5; n++) await one.save('a', id, cursorAt(n), attemptAt(n));
      await one.save('a', id, cursorAt(0));
      const kept = Array.from({ length: MAX_KEPT_ATTEMPTS }, (_, n) => attemptAt(MAX_KEPT_ATTEMPTS + 5 - n));
      expect(await two.attempts(id)).toEqual(kept);
      expect(await two.attempts(other)).toEqual([attemptAt(1)]);
    });

    it('returns what was saved, whatever it contains', async () => {
      const id = randomUUID();
      await one.acquireLeases('a', [id], LONG);
      const failing = { since: Date.UTC(2026, 0, 1), tries: 17, nextAt: Date.UTC(2026, 0, 1, 0, 0, 0, 1) };
      const cursor: Cursor = { position: null, eventId: null, replay: 3, failing };
      const attempt: Attempt = { ...attemptAt(1), status: null, error: `it's "silent" 🔑 '; DROP TABLE` };
      expect(await one.save('a', id, cursor, attempt)).toBe(true);
      expect(await two.cursor(id)).toEqual(cursor);
      expect(await two.attempts(id)).toEqual([attempt]);
    });

    it('knows nothing of an endpoint that was forgotten, not who held it either', async () => {
      const [id, other] = [randomUUID(), randomUUID()];
      await one.acquireLeases('a', [id, other], LONG);
      for (const each of [id, other]) await one.save('a', each, cursorAt(1), attemptAt(1));
      await two.deleteWebhook(id);
      await two.deleteWebhook(randomUUID());
      expect(await one.save('a', id, cursorAt(2), attemptAt(2))).toBe(false);
      expect(await one.cursor(id)).toBeUndefined();
      expect(await one.attempts(id)).toEqual([]);
      expect(await holdsOnly(two, 'b', id)).toBe(true);
      expect(await two.cursor(other)).toEqual(cursorAt(1));
      expect(await two.attempts(other)).toEqual([attemptAt(1)]);
    });

    it('keeps logs apart', async () => {
      const [id, instance] = [randomUUID(), randomUUID()];
      const elsewhere = await open(randomUUID());
      await one.heartbeat(instance, LONG);
      await one.acquireLeases(instance, [id], LONG);
      await one.save(instance, id, cursorAt(1), attemptAt(1));
      expect(await elsewhere.cursor(id)).toBeUndefined();
      expect(await elsewhere.attempts(id)).toEqual([]);
      expect(await elsewhere.heartbeat('b', LONG)).toEqual(['b']);
      expect(await elsewhere.save(instance, id, cursorAt(9))).toBe(false);
      expect(await holdsOnly(elsewhere, 'b', id)).toBe(true);
      await elsewhere.save('b', id, cursorAt(2), attemptAt(2));
      await elsewhere.releaseLeases(instance, [id]);
      await elsewhere.deleteWebhook(id);
      expect(await one.cursor(id)).toEqual(cursorAt(1));
      expect(await one.attempts(id)).toEqual([attemptAt(1)]);
      expect(await one.save(instance, id, cursorAt(3))).toBe(true);
      await elsewhere.close();
    });

    it('has it all when it is opened again', async () => {
      const [id, instance] = [randomUUID(), randomUUID()];
      const before = await open(logId);
      await before.heartbeat(instance, LONG);
      await before.acquireLeases(instance, [id], LONG);
      await before.save(instance, id, cursorAt(7), attemptAt(7));
      await before.close();
      const after = await open(logId);
      expect(await after.cursor(id)).toEqual(cursorAt(7));
      expect(await after.attempts(id)).toEqual([attemptAt(7)]);
      expect(await after.heartbeat('another', LONG)).toContain(instance);
      expect(await holdsOnly(after, 'another', id)).toBe(false);
      expect(await after.save(instance, id, cursorAt(8))).toBe(true);
      await after.close();
    });

    it('that is closed accepts and returns nothing', async () => {
      const closed = await open(logId);
      await closed.close();
      await expect(closed.heartbeat('a', LONG)).rejects.toThrow();
      await expect(closed.acquireLeases('a', ['w'], LONG)).rejects.toThrow();
      await expect(closed.releaseLeases('a', ['w'])).rejects.toThrow();
      await expect(closed.cursor('w')).rejects.toThrow();
      await expect(closed.save('a', 'w', cursorAt(1))).rejects.toThrow();
      await expect(closed.attempts('w')).rejects.toThrow();
      await expect(closed.deleteWebhook('w')).rejects.toThrow();
    });

    it('does as its model does, whatever two instances do in turn', async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 40 }), async (steps) => {
          const ids = [randomUUID(), randomUUID()] as const;
          const stores = { a: one, b: two };
          const model = new Model();
          for (const [n, { what, by, which }] of steps.entries()) {
            const id = ids[which];
            if (what === 'hold') {
              expect(await stores[by].acquireLeases(by, ids, LONG)).toEqual(model.hold(by, ids));
            } else if (what === 'hold one') {
              expect(await stores[by].acquireLeases(by, [id], LONG)).toEqual(model.hold(by, [id]));
            } else if (what === 'release') {
              await stores[by].releaseLeases(by, [id]);
              model.release(by, id);
            } else if (what === 'forget') {
              await stores[by].deleteWebhook(id);
              model.forget(id);
            } else {
              const attempt = what === 'save' ? undefined : attemptAt(n);
              expect(await stores[by].save(by, id, cursorAt(n), attempt)).toBe(
                model.save(by, id, cursorAt(n), attempt),
              );
            }
          }
          for (const id of ids) {
            expect(await one.cursor(id)).toEqual(model.cursors.get(id));
            expect(await two.attempts(id)).toEqual(model.attempts.get(id) ?? []);
          }
        }),
        { numRuns: 60 },
      );
    });
  });
}

const step = fc.record({
  what: fc.constantFrom('hold', 'hold one', 'release', 'forget', 'save', 'save attempt'),
  by: fc.constantFrom('a' as const, 'b' as const),
  which: fc.constantFrom(0 as const, 1 as const),
});

/** Model of a delivery store whose leases never expire. */
class Model {
  readonly cursors = new Map<string, Cursor>();
  readonly attempts = new Map<string, readonly Attempt[]>();
  readonly #holders = new Map<string, string>();

  hold(by: string, ids: readonly string[]): Set<string> {
    for (const id of ids) if (!this.#holders.has(id)) this.#holders.set(id, by);
    return new Set(ids.filter((id) => this.#holders.get(id) === by));
  }

  release(by: string, id: string): void {
    if (this.#holders.get(id) === by) this.#holders.delete(id);
  }

  save(by: string, id: string, cursor: Cursor, attempt: Attempt | undefined): boolean {
    if (this.#holders.get(id) !== by) return false;
    this.cursors.set(id, cursor);
    if (attempt) this.attempts.set(id, [attempt, ...(this.attempts.get(id) ?? [])]);
    return true;
  }

  forget(id: string): void {
    for (const map of [this.#holders, this.cursors, this.attempts]) map.delete(id);
  }
}

import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { hex16, makePosition } from '../../../src/event-store/position.js';
import type { ListItem } from '../../../src/projections/list-item.js';
import { type Checkpoint, type ReadModel, ReadModelLost } from '../../../src/projections/read-model.js';
import { keySourceOf } from '../fixtures/key-source.js';

/**
 * Random lives of a read model that two instances of a service write to and read. The model is the log: any list must
 * be a fold of it. Each instance has folded the log up to a place; its batches come twice, late, concurrently with
 * those of the other, and after the read model has lost data.
 */

/** Storage in which instances keep their lists. */
export type ReadModelStore = {
  /** Opens the read model of an instance; all instances share its data if the storage is shared. */
  open(): Promise<ReadModel>;
  readonly shared?: {
    /** Revokes the writer's lease; the writer may still believe to hold it for a while. */
    freeWriter(): Promise<void>;
    /** Saves a copy of the data, for `restored` to return to. */
    save(): Promise<void>;
    damage(how: Damage): Promise<void>;
  };
};
/** Loses everything; loses how far a repository is; or returns to what `save` copied. */
export type Damage = { readonly how: 'emptied' | 'headless' | 'restored'; readonly repoId: string };

/** Two repositories of one partition in Redis, and one of another. */
const REPOSITORIES = ['docs', 'search', 'bank'];
type Entry = Pick<ListItem, 'repoId' | 'apiKeyId' | 'status'> & { readonly eventId: string };

const LOG = '5d8f9fd6-4a14-4f67-9d0f-3b8f2a5c7e61';
const TIME = '2026-01-01T00:00:00.000Z';
const at = (place: number) => makePosition(LOG, hex16(place));
const placeOf = (checkpoint: Checkpoint | undefined) => Number.parseInt(checkpoint?.position.slice(37) ?? '0', 16);

/** Every key after the first `upTo` events, in the order of creation. */
function fold(log: readonly Entry[], upTo: number): ListItem[] {
  const items = new Map<string, ListItem>();
  for (const [i, { repoId, apiKeyId, status, eventId }] of log.slice(0, upTo).entries()) {
    const before = items.get(apiKeyId);
    items.set(apiKeyId, {
      apiKeyId,
      repoId,
      name: `as of ${eventId}`,
      accessKey: `FB_AI_${apiKeyId}`,
      aiType: 'OPENAI',
      status,
      createdAt: TIME,
      deletedAt: status === 'deleted' ? TIME : null,
      expiresAt: null,
      revision: before ? before.revision + 1 : 0,
      createdPosition: before?.createdPosition ?? at(i + 1),
      position: at(i + 1),
    });
  }
  return [...items.values()];
}

type Change = { readonly repoId: string; readonly key: number; readonly status: ListItem['status'] };
type WriterStep =
  /** Applies from `back` events before the instance's place to `forward` after it: batches overlap and repeat. */
  | { readonly do: 'apply'; readonly back: number; readonly forward: number }
  /** Restores everything, after the instance has folded `forward` more events. */
  | { readonly do: 'restore'; readonly forward: number }
  /** Another instance replaces this one; it has folded the log up to `place`. */
  | { readonly do: 'restart'; readonly place: number };
type Read = { readonly by: 0 | 1; readonly repoId: string };
type Step =
  | { readonly do: 'change'; readonly changes: readonly Change[] }
  | {
      readonly do: 'together';
      readonly writers: readonly [readonly WriterStep[], readonly WriterStep[]];
      readonly queries: readonly Read[];
      readonly damage: Damage | undefined;
    }
  | { readonly do: 'save' }
  /** An operator restores the log from an older copy, and it continues differently; instances restart, or notice. */
  | {
      readonly do: 'cut';
      readonly place: number;
      readonly changes: readonly Change[];
      readonly isRestart: boolean;
    };

const is = <T extends string>(name: T) => fc.constant(name);
const number = fc.nat(12);
const changes = fc.array(
  fc.record({
    repoId: fc.constantFrom(...REPOSITORIES),
    key: fc.nat(2),
    status: fc.constantFrom<ListItem['status']>('active', 'active', 'suspended', 'deleted', 'unavailable'),
  }),
  { minLength: 1, maxLength: 4 },
);
const writerSteps: fc.Arbitrary<WriterStep[]> = fc.array(
  fc.oneof(
    { weight: 8, arbitrary: fc.record({ do: is('apply'), back: fc.nat(3), forward: fc.nat(4) }) },
    { weight: 1, arbitrary: fc.record({ do: is('restore'), forward: fc.nat(3) }) },
    { weight: 1, arbitrary: fc.record({ do: is('restart'), place: number }) },
  ),
  { maxLength: 4 },
);
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.record({ do: is('change'), changes }) },
    {
      weight: 6,
      arbitrary: fc.record({
        do: is('together'),
        writers: fc.tuple(writerSteps, writerSteps),
        queries: fc.array(fc.record({ by: fc.constantFrom<0 | 1>(0, 1), repoId: fc.constantFrom(...REPOSITORIES) }), {
          maxLength: 3,
        }),
        damage: fc.option(
          fc.record({
            how: fc.constantFrom<Damage['how']>('emptied', 'headless', 'restored'),
            repoId: fc.constantFrom(...REPOSITORIES),
          }),
          { freq: 4, nil: undefined },
        ),
      }),
    },
    { weight: 1, arbitrary: fc.record({ do: is('save') }) },
    { weight: 1, arbitrary: fc.record({ do: is('cut'), place: number, changes, isRestart: fc.boolean() }) },
  ),
  { minLength: 2, maxLength: 12 },
);

type Instance = {
  readModel: ReadModel;
  /** Place in the log up to which the instance has written. */
  written: number;
  /** Place that the instance has seen saved, by repository. */
  readonly saved: Map<string, number>;
  /** Incremented when a restore begins and when it ends; the service serves no reads in between. */
  restores: number;
};

class Run {
  readonly #store: ReadModelStore;
  #log: Entry[] = [];
  #branch = 0;
  #instances: readonly Instance[] = [];
  #isDamaged = false;

  constructor(store: ReadModelStore) {
    this.#store = store;
  }

  async begin(): Promise<void> {
    const open = async () => ({
      readModel: await this.#store.open(),
      written: 0,
      saved: new Map(),
      restores: 0,
    });
    this.#instances = [await open(), await open()];
    for (const one of this.#instances) await this.#restore(one, 0);
  }

  async end(): Promise<void> {
    for (const { readModel } of this.#instances) await readModel.close();
  }

  async execute(step: Step): Promise<void> {
    if (step.do === 'change') this.#change(step.changes);
    else if (step.do === 'save') await this.#store.shared?.save();
    else if (step.do === 'cut') await this.#cut(step);
    else {
      const { shared } = this.#store;
      const freeing = setInterval(() => void shared?.freeWriter(), 2);
      const damaging = async () => step.damage && shared && this.#damage(step.damage);
      const checks: (() => void)[] = [];
      await Promise.all([
        ...this.#instances.map((one, n) => this.#write(one, step.writers[n] ?? [])),
        ...step.queries.map(async (read) => checks.push(await this.#read(read))),
        damaging(),
      ]);
      clearInterval(freeing);
      for (const check of checks) check();
    }
    await this.#checkAtRest();
  }

  #change(changes: readonly Change[]): void {
    for (const { repoId, key, status } of changes) {
      const apiKeyId = `${repoId}-${key}`;
      const last = this.#log.findLast((one) => one.apiKeyId === apiKeyId);
      if (last?.status === 'deleted') continue;
      this.#log.push({
        repoId,
        apiKeyId,
        status,
        eventId: `event ${this.#log.length + 1} of ${this.#branch}`,
      });
    }
  }

  /** All instances start again from the new log: what they folded of the old one is void. */
  async #cut({ place, changes, isRestart }: Step & { do: 'cut' }): Promise<void> {
    this.#branch++;
    this.#log = this.#log.slice(0, place);
    this.#change(changes);
    await Promise.all(
      this.#instances.map(async (one) => {
        one.saved.clear();
        await (isRestart ? this.#restart(one, this.#log.length) : this.#restore(one, this.#log.length));
      }),
    );
    await this.#store.shared?.save();
  }

  async #write(one: Instance, steps: readonly WriterStep[]): Promise<void> {
    for (const step of steps) {
      if (step.do === 'restart') await this.#restart(one, step.place % (this.#log.length + 1));
      else if (step.do === 'restore') await this.#restore(one, Math.min(one.written + step.forward, this.#log.length));
      else await this.#apply(one, Math.max(0, one.written - step.back), step.forward);
    }
  }

  async #apply(one: Instance, from: number, forward: number): Promise<void> {
    const to = Math.min(from + forward, this.#log.length);
    const items = fold(this.#log, to).filter(({ position }) => position > at(from));
    if (items.length === 0) return;
    try {
      await one.readModel.apply(items, this.#checkpoint(to) as Checkpoint);
      one.written = Math.max(one.written, to);
    } catch (error) {
      if (!(error instanceof ReadModelLost)) throw error;
      expect(this.#isDamaged).toBe(true);
      await this.#restore(one, Math.max(one.written, to));
    }
  }

  async #restart(one: Instance, place: number): Promise<void> {
    await one.readModel.close();
    one.readModel = await this.#store.open();
    one.written = 0;
    if (!this.#store.shared) one.saved.clear();
    await this.#restore(one, place);
  }

  /** Retries while others empty the read model, as the projector does. */
  async #restore(one: Instance, place: number): Promise<void> {
    const holds = async (checkpoint: Checkpoint) =>
      this.#checkpoint(placeOf(checkpoint))?.eventId === checkpoint.eventId;
    for (one.restores++; ; ) {
      try {
        await one.readModel.restore(keySourceOf(fold(this.#log, place), this.#checkpoint(place)), holds);
        one.written = place;
        one.restores++;
        return;
      } catch (error) {
        if (!(error instanceof ReadModelLost)) throw error;
      }
    }
  }

  async #damage(damage: Damage): Promise<void> {
    this.#isDamaged = true;
    for (const { saved } of this.#instances) saved.clear();
    await this.#store.shared?.damage(damage);
  }

  #checkpoint(place: number): Checkpoint | undefined {
    const entry = this.#log[place - 1];
    return entry && { position: at(place), eventId: entry.eventId };
  }

  /** While others write, a list is the fold of one place of the log, no earlier than what the instance has written. */
  async #read({ by, repoId }: Read): Promise<() => void> {
    const one = this.#instances[by] as Instance;
    const { readModel, written, restores } = one;
    const listed = await readModel
      .list(repoId, { includeDeleted: true, before: undefined, size: 1000 })
      .catch((error: Error) => error);
    const isServed = restores % 2 === 0 && restores === one.restores;
    return () => {
      if (!Array.isArray(listed)) return this.#checkFailure(listed, readModel);
      const texts = this.#log.map((_, n) => JSON.stringify(this.#expectedList(n + 1, repoId, true)));
      expect(['[]', ...texts].slice(isServed ? written : 0)).toContain(JSON.stringify(listed));
    };
  }

  /** A read may find data lost if something was damaged; a replaced instance may be closed. */
  #checkFailure(error: Error, asked: ReadModel): void {
    const isOpen = this.#instances.some(({ readModel }) => readModel === asked);
    if (isOpen) expect([error, this.#isDamaged]).toEqual([new ReadModelLost(), true]);
  }

  /** Each instance shows the fold at the saved position, which never decreases. */
  async #checkAtRest(): Promise<void> {
    let lost = 0;
    for (const one of this.#instances) {
      for (const repoId of REPOSITORIES) {
        const saved = placeOf(await one.readModel.checkpoint(repoId));
        try {
          for (const includeDeleted of [false, true]) {
            expect(await paged(one.readModel, repoId, includeDeleted)).toEqual(
              this.#expectedList(saved, repoId, includeDeleted),
            );
          }
          for (const item of this.#expectedList(saved, repoId, true))
            expect(await one.readModel.get(repoId, item.apiKeyId)).toEqual(item);
          const least = this.#expectedList(one.written, repoId, true);
          for (const { position } of least) expect(position <= at(saved)).toBe(true);
        } catch (error) {
          if (!(error instanceof ReadModelLost)) throw error;
          expect(this.#isDamaged).toBe(true);
          lost++;
        }
        expect(saved).toBeGreaterThanOrEqual(one.saved.get(repoId) ?? 0);
        one.saved.set(repoId, saved);
      }
    }
    if (lost === 0) this.#isDamaged = false;
  }

  #expectedList(place: number, repoId: string, includeDeleted: boolean): ListItem[] {
    const keys = fold(this.#log, place).filter((item) => item.repoId === repoId);
    return keys.filter(({ status }) => includeDeleted || status !== 'deleted').reverse();
  }
}

async function paged(readModel: ReadModel, repoId: string, includeDeleted: boolean): Promise<ListItem[]> {
  const found: ListItem[] = [];
  for (;;) {
    const before = found.at(-1)?.createdPosition;
    const page = await readModel.list(repoId, { includeDeleted, before, size: 2 });
    found.push(...page);
    if (page.length < 2) return found;
  }
}

/** @param makeStore returns an empty store */
export function describeReadModelModel(name: string, makeStore: () => ReadModelStore): void {
  describe(`${name} as a read model of two instances`, () => {
    it('shows the fold of the log at the position that it has saved, whatever comes twice, late, mixed or is lost', async () => {
      await fc.assert(
        fc.asyncProperty(steps, async (all) => {
          const run = new Run(makeStore());
          try {
            await run.begin();
            for (const step of all) await run.execute(step);
          } finally {
            await run.end();
          }
        }),
        { numRuns: 60, timeout: 30_000, interruptAfterTimeLimit: 100_000 },
      );
    }, 120_000);
  });
}

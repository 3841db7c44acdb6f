import type { RepositoryScope } from '../../domain/authorization.js';
import type { RecordedEvent } from '../../event-store/event-store.js';
import { occurredAtOf, peekEvent } from '../../event-store/peek-event.js';
import { type Position, positionNumbers } from '../../event-store/position.js';
import { apiKeyIdOf } from '../../event-store/streams.js';
import { paced } from '../../paced.js';
import { type EventFilter, type EventRef, eventNumber } from '../event-filter.js';
import { type EventBlock, NO_REPOSITORY } from './event-block.js';
import { EventTable, GROUP_SIZE } from './event-table.js';
import { blockTests, isIncluded, passing } from './event-tests.js';
import { type Meta, typeNumber } from './meta.js';
import { countDown, firstWhere, increment, mergeDescending, sumOf } from './number-sequences.js';
import type { ProjectionsDb } from './projections-db.js';
import { RecordTable, textCodec } from './records.js';
import type { Repositories } from './repositories.js';

/** The events of a repository are a list of their places in the log, in base 36 of fixed width, in records of this many. */
const LIST_SIZE = 512;
const PLACE_LENGTH = 7;
/** The lists of a repository are numbered from its number times this. */
const MAX_LISTS = 2 ** 20;

/** A skip over fewer events costs more than reading them. */
const MIN_SKIP = 500;
/** Events that one call of skipTo tests: a few milliseconds. */
const MAX_SKIP = 5_000;

type Page = { readonly skip?: number; readonly take: number; readonly countAll?: boolean };

/** Rows of a block, in descending order. */
type Rows = { readonly block: EventBlock; readonly rows: readonly number[] };
const FULL_GROUP = countDown(GROUP_SIZE - 1);

/** Places of events in the log, from the first up to but not including the end. */
type Places = { readonly first: number; readonly end: number };

/** Every event of the log, by its place in it (from 0) and by repository. */
export class Events {
  readonly #meta: () => Meta;
  readonly #repositories: Repositories;
  readonly #table: EventTable;
  readonly #lists: RecordTable<string>;

  constructor(db: ProjectionsDb, meta: () => Meta, repositories: Repositories) {
    this.#meta = meta;
    this.#repositories = repositories;
    this.#table = new EventTable(db, meta);
    this.#lists = new RecordTable(db, 'repository_events', textCodec, { rangeSize: 2 });
  }

  /** Adds the next event of the log, which becomes the checkpoint. @param repoId of the key or webhook that it is about; undefined for none */
  add(recorded: RecordedEvent, repoId: string | undefined): void {
    const meta = this.#meta();
    const place = meta.events;
    meta.checkpoint = { position: recorded.position, eventId: recorded.id };
    const type = typeNumber(meta, recorded.type);
    const repository = repoId === undefined ? NO_REPOSITORY : this.#repositories.findOrAdd(repoId);
    if (repository !== NO_REPOSITORY) {
      increment(meta.eventsOfType, type);
      this.#addToRepository(repository, place, type);
    }
    const [high, low] = positionNumbers(recorded.position);
    const { subject = '', apiKeyId = '' } = peekEvent(recorded);
    this.#table.add({
      high,
      low,
      stream: recorded.stream,
      revision: recorded.revision,
      at: Date.parse(occurredAtOf(recorded)),
      number: eventNumber(recorded.id),
      type,
      repository,
      subject,
      apiKeyId: apiKeyIdOf(recorded.stream) ?? apiKeyId,
    });
  }

  /**
   * Finds events of one repository, or of all that a scope includes, newest first.
   * @returns those after the first `skip`, at most `take`; and how many there are, with `countAll` beyond them too
   * @throws KeyledgerError PROJECTIONS_DAMAGED; so do all reads below
   */
  async find(
    where: string | RepositoryScope,
    filter: EventFilter,
    { skip = 0, take, countAll = false }: Page,
  ): Promise<{ readonly page: readonly EventRef[]; readonly found: number }> {
    const tests = blockTests(filter, this.#meta().types);
    if (typeof where === 'object' && where.others) tests.push(isIncluded(where.includes, this.#repositories));
    const page: EventRef[] = [];
    let found = 0;
    const giveWay = paced();
    for (const { block, rows } of this.#rowsIn(where, this.#placesWithin(filter))) {
      await giveWay();
      for (const row of passing(tests, block, rows)) {
        if (found++ < skip || page.length === take) continue;
        page.push({ stream: block.stream(row), revision: block.revision(row) });
        if (page.length === take && !countAll) return { page, found };
      }
    }
    return { page, found };
  }

  /** Number of events of these types in a scope, from the counts that are kept. */
  count({ includes, others, named }: RepositoryScope, types: ReadonlySet<string>): number {
    const meta = this.#meta();
    const numbers = [...types].map((type) => meta.types.indexOf(type));
    const sum = (events: readonly number[]) => numbers.reduce((total, number) => total + (events[number] ?? 0), 0);
    let count = others ? sum(meta.eventsOfType) : 0;
    for (const repoId of named) {
      const number = this.#repositories.find(repoId);
      if (number === undefined || includes(repoId) === others) continue;
      count += (others ? -1 : 1) * sum(this.#repositories.get(number).events);
    }
    return count;
  }

  /**
   * Where a reader may continue that receives only events of these types in repositories that it sees: the position of
   * the event before the next of them, or before the first that this did not look at. Undefined if that is not far.
   */
  skipTo(
    after: Position | undefined,
    canSee: (repoId: string) => boolean,
    types: ReadonlySet<string> | undefined,
  ): Position | undefined {
    const tests = [...blockTests({ types }, this.#meta().types), isIncluded(canSee, this.#repositories)];
    const first = this.#table.firstAfter(after);
    const end = Math.min(this.#meta().events, first + MAX_SKIP);
    let next = first;
    while (next < end) {
      const group = Math.floor(next / GROUP_SIZE);
      const groupEnd = Math.min(end, (group + 1) * GROUP_SIZE);
      const rows = Array.from({ length: groupEnd - next }, (_, i) => (next % GROUP_SIZE) + i);
      const [hit] = passing(tests, this.#table.group(group), rows);
      next = hit === undefined ? groupEnd : group * GROUP_SIZE + hit;
      if (hit !== undefined) break;
    }
    return next - first < MIN_SKIP ? undefined : this.#table.positionOf(next - 1);
  }

  /** Streams of the events after a position, oldest first; each stream may appear more than once. */
  *streamsAfter(position: Position): Generator<string> {
    const { events } = this.#meta();
    for (let place = this.#table.firstAfter(position); place < events; ) {
      const group = Math.floor(place / GROUP_SIZE);
      const block = this.#table.group(group);
      const end = Math.min(events, (group + 1) * GROUP_SIZE);
      for (; place < end; place++) yield block.stream(place % GROUP_SIZE);
    }
  }

  flush(): number {
    return this.#table.flush() + this.#lists.flush();
  }

  discard(): void {
    this.#table.discard();
    this.#lists.discard();
  }

  #addToRepository(number: number, place: number, type: number): void {
    const repository = this.#repositories.change(number);
    const count = sumOf(repository.events);
    const list = number * MAX_LISTS + Math.floor(count / LIST_SIZE);
    const before = count % LIST_SIZE === 0 ? '' : this.#lists.get(list);
    this.#lists.set(list, before + place.toString(36).padStart(PLACE_LENGTH, '0'));
    increment(repository.events, type);
  }

  #placesWithin({ from, to, before }: EventFilter): Places {
    const first = from && 'position' in from ? this.#table.firstAfter(from.position) : 0;
    const afterLast = to && 'position' in to ? this.#table.firstAfter(to.position) : this.#meta().events;
    return { first, end: before === undefined ? afterLast : Math.min(afterLast, this.#table.firstAt(before)) };
  }

  /** The events that a search tests, group by group, the latest first. */
  #rowsIn(where: string | RepositoryScope, places: Places): Iterable<Rows> {
    if (typeof where === 'string') return this.#rowsAt(this.#placesInRepository(where, places));
    if (where.others) return this.#allRows(places);
    const repoIds = where.named.filter(where.includes);
    return this.#rowsAt(mergeDescending(repoIds.map((repoId) => this.#placesInRepository(repoId, places))));
  }

  *#allRows({ first, end }: Places): Generator<Rows> {
    for (let next = end; next > first; ) {
      const group = Math.floor((next - 1) / GROUP_SIZE);
      const groupStart = group * GROUP_SIZE;
      const isWhole = next - groupStart === GROUP_SIZE && first <= groupStart;
      const rows = isWhole ? FULL_GROUP : countDown(next - 1 - groupStart).slice(0, next - first);
      yield { block: this.#table.group(group), rows };
      next = groupStart;
    }
  }

  /** @param places in descending order */
  *#rowsAt(places: Iterable<number>): Generator<Rows> {
    let [group, rows]: [number, number[]] = [-1, []];
    for (const place of places) {
      const next = Math.floor(place / GROUP_SIZE);
      if (next !== group && rows.length > 0) yield { block: this.#table.group(group), rows };
      if (next !== group) [group, rows] = [next, []];
      rows.push(place % GROUP_SIZE);
    }
    if (rows.length > 0) yield { block: this.#table.group(group), rows };
  }

  *#placesInRepository(repoId: string, { first, end }: Places): Generator<number> {
    const number = this.#repositories.find(repoId);
    const count = number === undefined ? 0 : sumOf(this.#repositories.get(number).events);
    if (number === undefined) return;
    const firstList = number * MAX_LISTS;
    const beginsAt = (list: number) => Number.parseInt(this.#lists.get(list).slice(0, PLACE_LENGTH), 36);
    const endList = firstWhere(firstList, firstList + Math.ceil(count / LIST_SIZE), (list) => beginsAt(list) >= end);
    for (const list of this.#lists.rangeDown(firstList, endList)) {
      for (let i = list.length; i > 0; i -= PLACE_LENGTH) {
        const place = Number.parseInt(list.slice(i - PLACE_LENGTH, i), 36);
        if (place < first) return;
        if (place < end) yield place;
      }
    }
  }
}

import type { RepositoryScope } from '../../domain/authorization.js';
import type { RecordedEvent } from '../../event-store/event-store.js';
import { occurredAtOf, peekEvent } from '../../event-store/peek-event.js';
import { type Position, positionFromNumbers, positionNumbers } from '../../event-store/position.js';
import { apiKeyIdOf } from '../../event-store/streams.js';
import { paced } from '../../paced.js';
import { type EventFilter, type EventRef, eventNumber } from '../event-filter.js';
import { CHUNK_SIZE, EventChunk, NO_REPOSITORY } from './event-chunk.js';
import { isIncluded, rowTests } from './event-tests.js';
import { type Meta, typeNumber } from './meta.js';
import { countDown, increment, mergeDescending, sumOf } from './number-sequences.js';
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
/** Events that one call of skipTo looks at: a few milliseconds. */
const MAX_SKIP = 20_000;

type Page = { readonly skip?: number; readonly take: number; readonly countAll?: boolean };

/** Rows of a chunk, in descending order. */
type Rows = { readonly chunk: EventChunk; readonly rows: readonly number[] };
const FULL_CHUNK = countDown(CHUNK_SIZE - 1);

/** Every event of the log, by its place in it (from 0) and by repository. */
export class Events {
  readonly #meta: () => Meta;
  readonly #repositories: Repositories;
  readonly #chunks: RecordTable<EventChunk, Uint8Array>;
  readonly #lists: RecordTable<string>;

  constructor(db: ProjectionsDb, meta: () => Meta, repositories: Repositories) {
    this.#meta = meta;
    this.#repositories = repositories;
    this.#chunks = new RecordTable<EventChunk, Uint8Array>(db, 'events', {
      encode: (chunk) => chunk.bytes,
      decode: (bytes) => new EventChunk(bytes),
    });
    this.#lists = new RecordTable(db, 'repository_events', textCodec, { rangeSize: 2 });
  }

  /** Adds the next event of the log, which becomes the checkpoint. @param repoId of the key or webhook that it is about; undefined for none */
  add(recorded: RecordedEvent, repoId: string | undefined): void {
    const meta = this.#meta();
    const place = meta.events++;
    meta.checkpoint = { position: recorded.position, eventId: recorded.id };
    const type = typeNumber(meta, recorded.type);
    const repository = repoId === undefined ? NO_REPOSITORY : this.#repositories.findOrAdd(repoId);
    if (repository !== NO_REPOSITORY) {
      increment(meta.eventsOfType, type);
      this.#addToRepository(repository, place, type);
    }
    const [high, low] = positionNumbers(recorded.position);
    const { subject = '', apiKeyId = '' } = peekEvent(recorded);
    const number = Math.floor(place / CHUNK_SIZE);
    const chunk = place % CHUNK_SIZE === 0 ? new EventChunk() : this.#chunks.get(number);
    chunk.push({
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
    this.#chunks.set(number, chunk);
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
    const tests = rowTests(filter, this.#meta().types);
    if (typeof where === 'object' && where.others) tests.push(isIncluded(where.includes, this.#repositories));
    const page: EventRef[] = [];
    let found = 0;
    const giveWay = paced();
    for (const { chunk, rows } of this.#rowsIn(where)) {
      await giveWay();
      for (const row of rows) {
        if (!tests.every((test) => test(chunk, row))) continue;
        if (found++ < skip || page.length === take) continue;
        page.push({ stream: chunk.stream(row), revision: chunk.revision(row) });
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
    const tests = [...rowTests({ types }, this.#meta().types), isIncluded(canSee, this.#repositories)];
    const { events } = this.#meta();
    const first = this.#firstAfter(after);
    const end = Math.min(events, first + MAX_SKIP);
    let next = first;
    for (let chunk = new EventChunk(), loaded = -1; next < end; next++) {
      const number = Math.floor(next / CHUNK_SIZE);
      if (number !== loaded) chunk = this.#chunks.get(number);
      loaded = number;
      const row = next % CHUNK_SIZE;
      if (tests.every((test) => test(chunk, row))) break;
    }
    return next - first < MIN_SKIP ? undefined : this.#positionOf(next - 1);
  }

  /** Streams of the events after a position, oldest first; each stream may appear more than once. */
  *streamsAfter(position: Position): Generator<string> {
    const { events } = this.#meta();
    for (let place = this.#firstAfter(position); place < events; ) {
      const chunk = this.#chunks.get(Math.floor(place / CHUNK_SIZE));
      for (let row = place % CHUNK_SIZE; row < chunk.length; row++, place++) yield chunk.stream(row);
    }
  }

  flush(): number {
    return this.#chunks.flush() + this.#lists.flush();
  }

  discard(): void {
    this.#chunks.discard();
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

  /** What a search looks at, chunk by chunk, the latest event first. */
  #rowsIn(where: string | RepositoryScope): Iterable<Rows> {
    if (typeof where === 'string') return this.#rowsAt(this.#placesInRepository(where));
    if (where.others) return this.#allRows();
    const repoIds = where.named.filter(where.includes);
    return this.#rowsAt(mergeDescending(repoIds.map((repoId) => this.#placesInRepository(repoId))));
  }

  *#allRows(): Generator<Rows> {
    const chunks = Math.ceil(this.#meta().events / CHUNK_SIZE);
    for (const chunk of this.#chunks.rangeDown(0, chunks)) {
      yield { chunk, rows: chunk.length === CHUNK_SIZE ? FULL_CHUNK : countDown(chunk.length - 1) };
    }
  }

  /** @param places in descending order */
  *#rowsAt(places: Iterable<number>): Generator<Rows> {
    let [number, rows]: [number, number[]] = [-1, []];
    for (const place of places) {
      const next = Math.floor(place / CHUNK_SIZE);
      if (next !== number && rows.length > 0) yield { chunk: this.#chunks.get(number), rows };
      if (next !== number) [number, rows] = [next, []];
      rows.push(place % CHUNK_SIZE);
    }
    if (rows.length > 0) yield { chunk: this.#chunks.get(number), rows };
  }

  *#placesInRepository(repoId: string): Generator<number> {
    const number = this.#repositories.find(repoId);
    const count = number === undefined ? 0 : sumOf(this.#repositories.get(number).events);
    if (number === undefined) return;
    const first = number * MAX_LISTS;
    for (const list of this.#lists.rangeDown(first, first + Math.ceil(count / LIST_SIZE))) {
      for (let end = list.length; end > 0; end -= PLACE_LENGTH) {
        yield Number.parseInt(list.slice(end - PLACE_LENGTH, end), 36);
      }
    }
  }

  #firstAfter(position: Position | undefined): number {
    if (position === undefined) return 0;
    const numbers = positionNumbers(position);
    let [low, high] = [0, this.#meta().events];
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if (this.#chunks.get(Math.floor(middle / CHUNK_SIZE)).compare(middle % CHUNK_SIZE, numbers) > 0) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  #positionOf(place: number): Position {
    const { checkpoint } = this.#meta();
    const numbers = this.#chunks.get(Math.floor(place / CHUNK_SIZE)).position(place % CHUNK_SIZE);
    return positionFromNumbers(checkpoint?.position as Position, numbers);
  }
}

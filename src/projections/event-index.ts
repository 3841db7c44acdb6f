import { apiKeyStream } from '../domain/ai-api-key.js';
import type { EpochMs } from '../domain/time.js';
import type { RecordedEvent } from '../event-store/event-store.js';
import { occurredAtOf, peekEvent } from '../event-store/peek-event.js';
import { type Position, positionFromNumbers, positionNumbers } from '../event-store/position.js';
import { apiKeyIdOf } from '../event-store/streams.js';
import { Column, StringDictionary } from './columns.js';

/** Stream, revision and type of an event. */
export type EventRef = { readonly stream: string; readonly revision: number; readonly type: string };

/** A bound of a range of events, by position or by time. */
export type RangeBound = { readonly position: Position } | { readonly time: EpochMs };

/** Selects events; an undefined field selects all. */
export type EventFilter = {
  readonly types?: ReadonlySet<string> | undefined;
  /** Subject of the actor. */
  readonly subject?: string | undefined;
  readonly apiKeyId?: string | undefined;
  /** Events after this position, or that occurred at this time or later. */
  readonly from?: RangeBound | undefined;
  /** Events up to and including this position, or that occurred at this time or earlier. */
  readonly to?: RangeBound | undefined;
  /** Events before this position. */
  readonly before?: Position | undefined;
  /** Event numbers to leave out. */
  readonly except?: ReadonlySet<number> | undefined;
};

/** The number of an event: the first 52 bits of its id, which a copy of the log keeps. */
export const eventNumber = (id: string): number => Number.parseInt(id.replaceAll('-', '').slice(0, 13), 16);

/** Stands for a value that an event does not have. */
const NONE = '';
/** A skip over fewer events costs more than reading them. */
const MIN_SKIP = 500;

/**
 * Holds position, time, actor, repository and key of each event of the log, in about 90 bytes, so that a page of a
 * repository's history, or the number of its events, is found without reading the log.
 */
export class EventIndex {
  readonly #high = new Column(Float64Array);
  readonly #low = new Column(Float64Array);
  readonly #at = new Column(Float64Array);
  readonly #number = new Column(Float64Array);
  readonly #stream = new Column(Uint32Array);
  readonly #about = new Column(Uint32Array);
  readonly #revision = new Column(Uint32Array);
  readonly #type = new Column(Uint32Array);
  readonly #subject = new Column(Uint32Array);
  readonly #repo = new Column(Uint32Array);
  readonly #streams = new StringDictionary();
  readonly #types = new StringDictionary();
  readonly #subjects = new StringDictionary();
  readonly #repos = new StringDictionary();
  /** The numbers of a repository's events. */
  readonly #ofRepo: Column[] = [];
  #last: Position | undefined;

  /**
   * Adds an event, once.
   * @param repoId repository of the key that the event is about; undefined for none
   */
  add(recorded: RecordedEvent, repoId: string | undefined): void {
    const { position, stream, revision, type } = recorded;
    if (this.#last !== undefined && position <= this.#last) return;
    this.#last = position;
    const { subject, apiKeyId } = peekEvent(recorded);
    const [high, low] = positionNumbers(position);
    const repo = this.#repos.intern(repoId ?? NONE);
    this.#ofRepo[repo] ??= new Column(Uint32Array);
    this.#ofRepo[repo].push(this.#at.length);
    this.#high.push(high);
    this.#low.push(low);
    this.#at.push(Date.parse(occurredAtOf(recorded)));
    this.#number.push(eventNumber(recorded.id));
    const number = this.#streams.intern(stream);
    const aboutStream = apiKeyId === undefined ? NONE : apiKeyStream(apiKeyId);
    this.#stream.push(number);
    this.#about.push(apiKeyIdOf(stream) !== undefined ? number : this.#streams.intern(aboutStream));
    this.#revision.push(revision);
    this.#type.push(this.#types.intern(type));
    this.#subject.push(this.#subjects.intern(subject ?? NONE));
    this.#repo.push(repo);
  }

  get length(): number {
    return this.#at.length;
  }

  /** Events of one repository, newest first. */
  *ofRepository(repoId: string, query: EventFilter): Iterable<EventRef> {
    const numbers = this.#ofRepo[this.#repos.find(repoId) ?? -1];
    const matches = this.#matcher(query);
    for (let i = (numbers?.length ?? 0) - 1; numbers && i >= 0; i--) {
      const number = numbers.at(i);
      if (matches(number)) yield this.#ref(number);
    }
  }

  /** Events of all repositories that the caller can see, newest first. */
  *ofRepositories(canSee: (repoId: string) => boolean, query: EventFilter): Iterable<EventRef> {
    const visible = this.#ofRepo.map((_, repo) => this.#repos.at(repo) !== NONE && canSee(this.#repos.at(repo)));
    const matches = this.#matcher(query);
    for (let number = this.length - 1; number >= 0; number--) {
      if (visible[this.#repo.at(number)] && matches(number)) yield this.#ref(number);
    }
  }

  /**
   * Position of the last event before the next one that the caller selects, if many events lie between; undefined if
   * few do.
   * @param types undefined: all
   */
  skipTo(
    after: Position | undefined,
    canSee: (repoId: string) => boolean,
    types: ReadonlySet<string> | undefined,
  ): Position | undefined {
    const visible: boolean[] = [];
    const isVisible = (repo: number) =>
      (visible[repo] ??= this.#repos.at(repo) !== NONE && canSee(this.#repos.at(repo)));
    const matches = this.#matcher({ types });
    const first = this.#firstAfter(after);
    let next = first;
    while (next < this.length && !(isVisible(this.#repo.at(next)) && matches(next))) next++;
    return next - first < MIN_SKIP ? undefined : this.#positionOf(next - 1);
  }

  #firstAfter(position: Position | undefined): number {
    if (position === undefined) return 0;
    const isAfter = this.#isAfter(position);
    let [low, high] = [0, this.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (isAfter(middle)) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  #positionOf(number: number): Position {
    return positionFromNumbers(this.#last as Position, [this.#high.at(number), this.#low.at(number)]);
  }

  #ref(number: number): EventRef {
    return {
      stream: this.#streams.at(this.#stream.at(number)),
      revision: this.#revision.at(number),
      type: this.#types.at(this.#type.at(number)),
    };
  }

  #matcher({ types, subject, apiKeyId, from, to, before, except }: EventFilter): (number: number) => boolean {
    const typeIds = types && new Set([...types].map((type) => this.#types.find(type)));
    const subjectId = subject === undefined ? undefined : (this.#subjects.find(subject) ?? -1);
    const streamId = apiKeyId === undefined ? undefined : (this.#streams.find(apiKeyStream(apiKeyId)) ?? -1);
    const all: ((number: number) => boolean)[] = [];
    if (typeIds) all.push((number) => typeIds.has(this.#type.at(number)));
    if (subjectId !== undefined) all.push((number) => this.#subject.at(number) === subjectId);
    if (streamId !== undefined) all.push((number) => this.#about.at(number) === streamId);
    if (from && 'time' in from) all.push((number) => this.#at.at(number) >= from.time);
    if (to && 'time' in to) all.push((number) => this.#at.at(number) <= to.time);
    if (from && 'position' in from) all.push(this.#isAfter(from.position));
    if (to && 'position' in to) {
      const isAfter = this.#isAfter(to.position);
      all.push((number) => !isAfter(number));
    }
    if (before !== undefined) {
      const isAfter = this.#isAfter(before);
      const [high, low] = positionNumbers(before);
      all.push((number) => !isAfter(number) && !(this.#high.at(number) === high && this.#low.at(number) === low));
    }
    if (except && except.size > 0) all.push((number) => !except.has(this.#number.at(number)));
    return (number) => all.every((test) => test(number));
  }

  #isAfter(position: Position): (number: number) => boolean {
    const [high, low] = positionNumbers(position);
    return (number) => this.#high.at(number) > high || (this.#high.at(number) === high && this.#low.at(number) > low);
  }
}

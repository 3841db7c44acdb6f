import { apiKeyStream, isApiKeyStream } from '../domain/ai-api-key.js';
import { occurredAtOf, peekEvent } from '../event-store/codec.js';
import type { RecordedEvent } from '../event-store/event-store.js';
import { type Position, positionFromNumbers, positionNumbers } from '../event-store/position.js';
import { Column, StringDictionary } from './columns.js';

/** Where an event is, and what it is. */
export type EventRef = { readonly stream: string; readonly revision: number; readonly type: string };

/** A place in the log, or a moment (milliseconds since 1970). */
export type RangeBound = { readonly position: Position } | { readonly time: number };

/** Which events are meant; all of them where nothing is said. */
export type EventFilter = {
  readonly types?: ReadonlySet<string> | undefined;
  /** Of the actor. */
  readonly subject?: string | undefined;
  readonly apiKeyId?: string | undefined;
  /** What comes behind this position, or occurred at this moment or later. */
  readonly from?: RangeBound | undefined;
  /** Up to and with the event at this position, or what occurred at this moment. */
  readonly to?: RangeBound | undefined;
  /** Only what comes before this position. */
  readonly before?: Position | undefined;
  /** Not those of these numbers. */
  readonly except?: ReadonlySet<number> | undefined;
};

/** The number of an event: the first 52 bits of its id, which a copy of the log keeps. */
export const eventNumber = (id: string): number => Number.parseInt(id.replaceAll('-', '').slice(0, 13), 16);

/** No word: what cannot be told of an event. */
const NONE = '';
/** So many events in a row are worth not reading them. */
const MIN_SKIP = 500;

/**
 * Of each event of the log where it is, when it occurred, who caused it and which repository and key it is about, in
 * some 90 bytes: so that a page of a repository's history, or their number, is found without reading the log.
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
   * Takes one event in; one that is here already, not again.
   * @param repoId the one of the key that the event is about; undefined if it is about none
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
    this.#about.push(isApiKeyStream(stream) ? number : this.#streams.intern(aboutStream));
    this.#revision.push(revision);
    this.#type.push(this.#types.intern(type));
    this.#subject.push(this.#subjects.intern(subject ?? NONE));
    this.#repo.push(repo);
  }

  get length(): number {
    return this.#at.length;
  }

  /** Those of one repository, newest first. */
  *ofRepository(repoId: string, query: EventFilter): Iterable<EventRef> {
    const numbers = this.#ofRepo[this.#repos.find(repoId) ?? -1];
    const matches = this.#matcher(query);
    for (let i = (numbers?.length ?? 0) - 1; numbers && i >= 0; i--) {
      const number = numbers.at(i);
      if (matches(number)) yield this.#ref(number);
    }
  }

  /** Those of all repositories that the caller sees, newest first. */
  *ofRepositories(sees: (repoId: string) => boolean, query: EventFilter): Iterable<EventRef> {
    const seen = this.#ofRepo.map((_, repo) => this.#repos.at(repo) !== NONE && sees(this.#repos.at(repo)));
    const matches = this.#matcher(query);
    for (let number = this.length - 1; number >= 0; number--) {
      if (seen[this.#repo.at(number)] && matches(number)) yield this.#ref(number);
    }
  }

  /**
   * The last of the events behind a position that the caller does not want, where they are many in a row; undefined
   * if it is not far to the next one that is wanted.
   * @param types undefined: all
   */
  skipTo(
    after: Position | undefined,
    sees: (repoId: string) => boolean,
    types: ReadonlySet<string> | undefined,
  ): Position | undefined {
    const seen: boolean[] = [];
    const isSeen = (repo: number) =>
      (seen[repo] ??= this.#repos.at(repo) !== NONE && sees(this.#repos.at(repo)));
    const matches = this.#matcher({ types });
    const first = this.#firstAfter(after);
    let next = first;
    while (next < this.length && !(isSeen(this.#repo.at(next)) && matches(next))) next++;
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
      all.push(
        (number) => !isAfter(number) && !(this.#high.at(number) === high && this.#low.at(number) === low),
      );
    }
    if (except && except.size > 0) all.push((number) => !except.has(this.#number.at(number)));
    return (number) => all.every((test) => test(number));
  }

  #isAfter(position: Position): (number: number) => boolean {
    const [high, low] = positionNumbers(position);
    return (number) =>
      this.#high.at(number) > high || (this.#high.at(number) === high && this.#low.at(number) > low);
  }
}

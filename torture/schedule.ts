import { seeded } from '../bench/seeded.js';

/** All faults of the service and of what it depends on, and the set-up in which each exists. */
export const FAULTS = {
  'service killed': 'always',
  'service stopped': 'always',
  'service clock set': 'always',
  'clients cut off': 'always',
  'clients delayed': 'always',
  'clients half-open': 'always',
  'event that nobody can read': 'always',
  'log restored': 'always',
  'disk full': 'sqlite',
  'fsync fails': 'sqlite',
  'log killed': 'eventstoredb',
  'log stopped': 'eventstoredb',
  'log cut off': 'eventstoredb',
  'log delayed': 'eventstoredb',
  'log half-open': 'eventstoredb',
  'Redis killed': 'redis',
  'Redis stopped': 'redis',
  'Redis flushed': 'redis',
  'Redis cut off': 'redis',
  'Redis delayed': 'redis',
  'Redis half-open': 'redis',
} as const satisfies Record<string, 'always' | 'sqlite' | 'eventstoredb' | 'redis'>;

export type FaultKind = keyof typeof FAULTS;

export type Fault = {
  readonly kind: FaultKind;
  /** Start of the fault, in milliseconds since the start of the run. */
  readonly atMs: number;
  readonly forMs: number;
  /** Affected instance, for faults of a single one. */
  readonly instance: 0 | 1;
  /** Severity from 0 to 1, where it applies. */
  readonly size: number;
};

const [SHORTEST_PAUSE_MS, LONGEST_PAUSE_MS] = [500, 3500];
const [SHORTEST_MS, LONGEST_MS] = [200, 5000];
/** Some last longer than any limit of the service. */
const [SOME, TIMES] = [0.25, 4];

/**
 * Schedules the faults: in rounds of every kind, in random order, at random times and with random durations. The same
 * seed gives the same schedule.
 */
export function scheduleOf(seed: number, minutes: number, kinds: readonly FaultKind[]): Fault[] {
  const random = seeded(seed);
  const between = (low: number, high: number) => Math.round(low + random() * (high - low));
  const faults: Fault[] = [];
  for (let atMs = 0; ; ) {
    for (const kind of shuffled(kinds, random)) {
      atMs += between(SHORTEST_PAUSE_MS, LONGEST_PAUSE_MS);
      const forMs = between(SHORTEST_MS, LONGEST_MS) * (random() < SOME ? TIMES : 1);
      if (atMs + forMs > minutes * 60_000) return faults;
      faults.push({ kind, atMs, forMs, instance: random() < 0.5 ? 0 : 1, size: random() });
    }
  }
}

function shuffled<T>(all: readonly T[], random: () => number): T[] {
  return all
    .map((one) => ({ one, place: random() }))
    .sort((a, b) => a.place - b.place)
    .map(({ one }) => one);
}

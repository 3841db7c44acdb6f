import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import type { RecordedEvent } from '../src/event-store/event-store.js';
import { Keyring } from '../src/security/keyring.js';
import { checkChanges } from './checks/changes.js';
import { checkFeed } from './checks/feed.js';
import { checkIdempotency } from './checks/idempotency.js';
import { checkAnswers, checkDeaths, checkHangs, LIMIT_MS } from './checks/limits.js';
import { type Lives, livesIn } from './checks/lives.js';
import { checkReadModels } from './checks/read-models.js';
import { checkReads } from './checks/reads.js';
import { checkFiles, checkOutputs } from './checks/secrets.js';
import { Clients } from './clients.js';
import type { RunActions } from './faults.js';
import { type Call, type Era, HistoryFile, type Inflicted, type Reading, type Violation } from './history.js';
import { Subscriber } from './subscribers.js';
import { untilReady, type World, withLogOf } from './world.js';

/** Time for an instance to stop after SIGTERM (milliseconds). */
const STOP_TIMEOUT_MS = 15_000;
/** Time for an instance to notice that its log was restored (milliseconds). */
const NOTICE_TIMEOUT_MS = 20_000;
const NUMBERS = [0, 1] as const;

export type Result = {
  /** Number of answers by kind and outcome, such as `create 201`. */
  readonly calls: Readonly<Record<string, number>>;
  readonly faults: Readonly<Record<string, number>>;
  readonly eras: number;
  /** Events in the log at the end. */
  readonly events: number;
  /** Events that all readers of the feed received together. */
  readonly heard: number;
  readonly slowestMs: number;
  readonly violations: readonly Violation[];
};

/** Clients and readers of the feed at work on a world, their answers, and the violations in these. */
export class Run implements RunActions {
  readonly #world: World;
  readonly #clients: Clients;
  readonly #subscribers: readonly Subscriber[];
  readonly #history: HistoryFile;
  readonly #ended = new AbortController();
  readonly #violated = new AbortController();
  #working: Promise<void> = Promise.resolve();
  /** Settles when calls may begin. */
  #gate: Promise<void> = Promise.resolve();
  #calls: Call[] = [];
  #readings: Reading[] = [];
  #restored: readonly RecordedEvent[] = [];
  #eras = 0;
  #heard = 0;
  #slowestMs = 0;
  readonly #slow: Call[] = [];
  readonly #faults: Inflicted[] = [];
  readonly #counts: Record<string, number> = {};
  readonly #violations: Violation[] = [];

  private constructor(
    world: World,
    tokens: { readonly admin: string; readonly verifier: string },
    random: () => number,
  ) {
    this.#world = world;
    this.#history = new HistoryFile(join(world.folder, 'history.ndjson'));
    const gate = { pass: () => this.#gate };
    this.#clients = new Clients(world.urls, tokens, random, gate, (call) => this.#called(call));
    this.#subscribers = world.urls.map(
      (url, number) => new Subscriber(`reader ${number}`, url, tokens.admin, (reading) => this.#readings.push(reading)),
    );
  }

  /** Starts the instances, and then the clients. */
  static async begin(world: World, random: () => number, clients: number): Promise<Run> {
    const tokens = { admin: await world.tokenOf('admin'), verifier: await world.tokenOf('verifier') };
    const run = new Run(world, tokens, random);
    for (const instance of world.instances) instance.start();
    if (!(await untilReady(world, 60_000))) throw new Error(world.instances[0].output);
    for (const subscriber of run.#subscribers) subscriber.start();
    run.#working = run.#clients.run(clients, run.#ended.signal);
    return run;
  }

  /** Aborts on the first violation: later ones would say little. */
  get violated(): AbortSignal {
    return this.#violated.signal;
  }

  someKey(): { readonly apiKeyId: string; readonly repoId: string } | undefined {
    return this.#clients.someKey();
  }

  inflicted(fault: Inflicted): void {
    this.#faults.push(fault);
    this.#history.add(fault);
  }

  /**
   * Ends the era and begins another with the copy. The torture kills the instances in the middle of their work; or,
   * where the log is a server, they continue and have to notice.
   */
  async restoreLog(meanwhile: 'killed' | 'running'): Promise<void> {
    const { instances, log, deaths } = this.#world;
    let open: (() => void) | undefined;
    this.#gate = new Promise((resolve) => {
      open = resolve;
    });
    if (meanwhile === 'killed') await Promise.all(instances.map((instance) => instance.kill()));
    while (this.#clients.underWay > 0) await setTimeout(10);
    await this.#endEra('restored');
    const deathsBefore = deaths.length;
    await log.restore();
    const before = this.#restored;
    this.#restored = await this.#events();
    if (this.#restored.some(({ id }, place) => before[place]?.id !== id)) {
      this.#found('copy', ['what was restored is not the beginning of the log']);
    }
    if (meanwhile === 'killed') for (const instance of instances) instance.start();
    else if (this.#restored.length < before.length) await untilNoticed(() => deaths.length >= deathsBefore + 2);
    for (const subscriber of this.#subscribers) subscriber.start();
    this.#clients.forgetPositions();
    open?.();
  }

  /** Ends all faults, waits for the remaining answers, and checks them. */
  async finish(recoveryTimeoutMs: number): Promise<Result> {
    const { instances, redis, log, deaths } = this.#world;
    for (const instance of instances) instance.setClock(0);
    if (!(await untilReady(this.#world, recoveryTimeoutMs))) this.#found('recovery', ['not ready in time']);
    for (const number of NUMBERS) {
      if (await this.#clients.untilCreated(number, recoveryTimeoutMs)) continue;
      this.#found('recovery', [`instance ${number} created nothing in ${recoveryTimeoutMs} ms`]);
    }
    this.#ended.abort();
    await this.#working;
    const { events, lives } = await this.#endEra('last');
    const end = events.at(-1)?.position ?? '';
    this.#found('read models', await checkReadModels(this.#world, lives, end));
    const metrics = await Promise.all(instances.map(async ({ url }) => (await fetch(`${url}/metrics`)).text()));
    for (const number of NUMBERS) {
      const code = await instances[number].stop(STOP_TIMEOUT_MS);
      if (code !== 0) this.#found('stop', [`instance ${number} did not stop as it was told: ${code}`]);
    }
    this.#found('ended by itself', checkDeaths(deaths, this.#faults));
    this.#found('hangs', checkHangs(this.#slow, this.#faults));
    await redis?.server.kill();
    await log.server?.kill();
    this.#found(
      'secrets',
      checkOutputs({
        'output of instance 0': instances[0].output,
        'output of instance 1': instances[1].output,
        'output of the log': log.server?.output ?? '',
        'output of Redis': redis?.server.output ?? '',
        metrics: metrics.join('\n'),
      }),
    );
    for (const number of NUMBERS) {
      writeFileSync(join(this.#world.folder, `output-${number}.txt`), instances[number].output);
    }
    this.#found('secrets', await checkFiles(this.#world.folder));
    this.#history.close();
    return {
      calls: this.#counts,
      faults: countsOf(this.#faults.map(({ kind }) => kind)),
      eras: this.#eras,
      events: events.length,
      heard: this.#heard,
      slowestMs: Math.round(this.#slowestMs),
      violations: this.#violations,
    };
  }

  #called(call: Call): void {
    this.#calls.push(call);
    this.#history.add(call);
    const took = call.endedAt - call.startedAt;
    if (took > LIMIT_MS) this.#slow.push(call);
    if (call.answer) this.#slowestMs = Math.max(this.#slowestMs, took);
    const outcome = `${call.kind} ${call.answer ? [call.answer.status, call.answer.code].join(' ').trim() : 'no answer'}`;
    this.#counts[outcome] = (this.#counts[outcome] ?? 0) + 1;
  }

  /** Compares all answers since the last restoration with the log. */
  async #endEra(how: 'restored' | 'last'): Promise<{ events: readonly RecordedEvent[]; lives: Lives }> {
    const events = await this.#events();
    if (how === 'last') await this.#untilReceived(events.at(-1)?.id);
    for (const subscriber of this.#subscribers) await subscriber.stop();
    const era: Era = {
      calls: this.#calls,
      readings: this.#readings,
      events,
      restored: this.#restored.length,
    };
    if (this.#restored.some(({ id }, place) => events[place]?.id !== id)) {
      this.#found('log', ['what was restored is not there any more']);
    }
    const lives = livesIn(events);
    this.#found('answers', checkAnswers(era.calls));
    this.#found('changes', checkChanges(era, lives));
    this.#found('idempotency', checkIdempotency(era, lives, this.#keyring()));
    this.#found('reads', checkReads(era, lives));
    this.#found('feed', checkFeed(era, how === 'last'));
    this.#heard += era.readings.reduce((sum, { events: heard }) => sum + heard.length, 0);
    this.#history.add({ era: this.#eras, events: events.length, calls: era.calls.length });
    this.#eras++;
    this.#calls = [];
    this.#readings = [];
    this.#restored = events;
    return { events, lives };
  }

  async #untilReceived(id: string | undefined): Promise<void> {
    const giveUpAt = performance.now() + 30_000;
    for (const subscriber of this.#subscribers) {
      while (subscriber.latest !== id && performance.now() < giveUpAt) await setTimeout(50);
    }
  }

  #keyring(): Keyring {
    return new Keyring(this.#world.settings['MASTER_KEYS'] ?? '');
  }

  async #events(): Promise<RecordedEvent[]> {
    return withLogOf(this.#world, async (log) => {
      const events: RecordedEvent[] = [];
      for await (const event of log.readAll()) events.push(event);
      return events;
    });
  }

  #found(check: string, what: readonly string[]): void {
    if (what.length > 0) this.#violated.abort();
    for (const one of what) {
      this.#violations.push({ check, what: one });
      this.#history.add({ violation: check, what: one });
    }
  }
}

/** Waits for the instances to notice; if one does not, its answers are violations. */
async function untilNoticed(isNoticed: () => boolean): Promise<void> {
  const giveUpAt = performance.now() + NOTICE_TIMEOUT_MS;
  while (!isNoticed() && performance.now() < giveUpAt) await setTimeout(50);
}

function countsOf(all: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const one of all) counts[one] = (counts[one] ?? 0) + 1;
  return counts;
}

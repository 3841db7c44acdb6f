import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once, setMaxListeners } from 'node:events';
import { setTimeout } from 'node:timers/promises';
import { v4 as uuid } from 'uuid';
import type { Inflicted } from './history.js';
import { Locks } from './locks.js';
import { FAULTS, type Fault, type FaultKind } from './schedule.js';
import { type Link, type SetUp, type World, withLogOf } from './world.js';

/** Actions that need the run as a whole. */
export type RunActions = {
  /** Holds back all calls, checks everything so far, restores the copy of the log, and continues. */
  restoreLog(meanwhile: 'killed' | 'running'): Promise<void>;
  /** An existing key, if there is one. */
  someKey(): { readonly apiKeyId: string; readonly repoId: string } | undefined;
};

/** Kinds of faults that are possible with this set-up, and why others are not. */
export function possibleFaults({ log, readModel }: SetUp): {
  readonly kinds: FaultKind[];
  readonly without: string | undefined;
} {
  const there = Object.entries(FAULTS).filter(([, where]) => ['always', log, readModel].includes(where));
  const kinds = there.map(([kind]) => kind as FaultKind);
  if (log !== 'sqlite' || spawnSync('strace', ['-V']).status === 0) return { kinds, without: undefined };
  return {
    kinds: kinds.filter((kind) => kind !== 'disk full' && kind !== 'fsync fails'),
    without: 'no full disk and no failing fsync: install strace',
  };
}

/**
 * Inflicts the faults of a schedule.
 * @param onInflicted called with each fault and its times, when it has ended
 * @param signal aborts: faults that have not begun are skipped
 */
export async function inflictAll(
  schedule: readonly Fault[],
  world: World,
  surroundings: RunActions,
  onInflicted: (fault: Inflicted) => void,
  signal: AbortSignal,
): Promise<void> {
  const locks = new Locks();
  setMaxListeners(schedule.length, signal);
  const startedAt = performance.now();
  const underWay = schedule.map(async (fault) => {
    const inMs = fault.atMs - (performance.now() - startedAt);
    await setTimeout(inMs, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) return;
    if (fault.kind === 'log restored') {
      await locks.hold(['log'], () => world.log.copy());
      await setTimeout(fault.forMs);
    }
    await locks.hold(locksOf(fault), async () => {
      const from = performance.now();
      const endFault = await inflict(fault, world, surroundings);
      if (endFault) {
        await setTimeout(fault.forMs);
        await endFault();
      }
      onInflicted({ kind: fault.kind, instance: fault.instance, from, to: performance.now() });
    });
  });
  await Promise.all(underWay);
}

/** Locks of a fault: those that cannot coincide share a lock. */
function locksOf({ kind, instance }: Fault): string[] {
  if (kind === 'log restored') return ['log', 'Redis', 'service 0', 'service 1', 'log 0', 'log 1'];
  if (kind === 'event that nobody can read') return ['log'];
  if (kind === 'disk full' || kind === 'fsync fails') return [`service ${instance}`];
  const [part] = kind.split(' ') as [string];
  const isOfAll = ['log killed', 'log stopped', 'Redis killed', 'Redis stopped', 'Redis flushed'];
  return [isOfAll.includes(kind) ? part : `${part} ${instance}`];
}

type EndFault = () => Promise<void>;

const CLOCK_BY_MS = 2 * 3_600_000;
const DELAY_BY_MS = 400;

/**
 * Begins a fault.
 * @returns the function that ends it, if it lasts
 */
async function inflict(
  { kind, instance, size }: Fault,
  world: World,
  surroundings: RunActions,
): Promise<EndFault | undefined> {
  const service = world.instances[instance];
  const { redis, log } = world;
  switch (kind) {
    case 'service killed':
      await service.kill();
      return async () => service.start();
    case 'service stopped':
      return stopped(service);
    case 'service clock set':
      service.setClock(Math.round((size * 2 - 1) * CLOCK_BY_MS));
      return undefined;
    case 'event that nobody can read':
      await writeUnreadable(world, surroundings.someKey()).catch(() => undefined);
      return undefined;
    case 'log restored':
      await surroundings.restoreLog(log.server && size < 0.5 ? 'running' : 'killed');
      return undefined;
    case 'disk full':
      return failing(service.pid, 'pwrite64', 'ENOSPC');
    case 'fsync fails':
      return failing(service.pid, 'fsync,fdatasync', 'EIO');
    case 'log killed':
      await log.server?.kill();
      return async () => log.server?.start();
    case 'log stopped':
      return log.server && stopped(log.server);
    case 'Redis killed':
      await redis?.server.kill();
      return async () => redis?.server.start();
    case 'Redis stopped':
      return redis && stopped(redis.server);
    case 'Redis flushed':
      await redis?.flush();
      return undefined;
    default:
      return cut(kind, world, instance, size);
  }
}

function stopped(process: { signal(signal: NodeJS.Signals): void }): EndFault {
  process.signal('SIGSTOP');
  return async () => process.signal('SIGCONT');
}

/** Cuts off, delays or freezes a link. */
async function cut(kind: string, world: World, instance: 0 | 1, size: number): Promise<EndFault> {
  const [way, how] = kind.split(/ (.*)/) as [Link, string];
  const proxy = world.links[way]?.[instance];
  if (!proxy) throw new Error(`There is no way to ${way}`);
  if (how === 'delayed') {
    proxy.delay(Math.round(size * DELAY_BY_MS));
    return async () => proxy.delay(0);
  }
  if (how === 'half-open') {
    proxy.freeze();
    // Either resets the frozen connections, as a router does that has lost them, or continues them.
    return async () => {
      proxy.thaw();
      if (size < 0.5) await proxy.cut();
    };
  }
  await proxy.stop();
  return async () => void (await proxy.start());
}

/** Makes system calls of a process fail as on a bad or full disk. */
async function failing(pid: number | undefined, calls: string, error: string): Promise<EndFault | undefined> {
  if (pid === undefined) return undefined;
  const inject = [`trace=${calls}`, `inject=${calls}:error=${error}`].flatMap((rule) => ['-e', rule]);
  const tracer: ChildProcess = spawn('strace', ['-f', '-qq', '-o', '/dev/null', '-p', String(pid), ...inject], {
    stdio: 'ignore',
  });
  const ended = once(tracer, 'exit');
  return async () => {
    tracer.kill('SIGTERM');
    await ended;
  };
}

/**
 * Appends an event of a later release, which puts the key in quarantine. Appends nothing while the log is unavailable.
 */
async function writeUnreadable(world: World, key: ReturnType<RunActions['someKey']>): Promise<void> {
  if (!key) return;
  const { apiKeyId, repoId } = key;
  const id = uuid();
  const metadata = {
    schemaVersion: 99,
    occurredAt: new Date().toISOString(),
    actor: { issuer: 'torture', subject: 'a later release' },
    requestId: UNREADABLE + id,
    $correlationId: id,
    $causationId: id,
  };
  const event = { id, type: 'ApiKeyRenamed', data: { apiKeyId, repoId, name: 'x' }, metadata };
  await withLogOf(world, async (log) => {
    const stream = `aiApiKey-${apiKeyId}`;
    for (let attempts = 0; attempts < 20; attempts++) {
      let revision = -1;
      for await (const recorded of log.readStream(stream)) revision = recorded.revision;
      if (revision < 0) return;
      if ((await log.append(stream, [event], revision)).appended) return;
    }
  });
}

/** Prefix of the request id of such an event. */
export const UNREADABLE = 'unreadable-';

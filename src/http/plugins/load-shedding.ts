import { setImmediate } from 'node:timers/promises';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { KeyledgerError } from '../../domain/errors.js';

declare module 'fastify' {
  interface FastifyRequest {
    /** Where it is while it is under way. */
    bulkhead?: Bulkhead | undefined;
  }
  interface FastifyContextConfig {
    /** Takes a key out of use: there is room for it when there is none for others. */
    bypassQueue?: true;
    /** May be an answer without end, which waits for events and not for work to be done. */
    longLived?: true;
  }
}

type BulkheadLimits = {
  /** So many may be under way at once. */
  readonly maxConcurrent: number;
  /** So many may wait until there is room. */
  readonly maxQueued: number;
  /** There is so much more room for what takes a key out of use, which does not wait. */
  readonly reserved: number;
};
/** A change waits for the log, which takes a thousand of them in one go. */
const CHANGES: BulkheadLimits = { maxConcurrent: 1000, maxQueued: 4000, reserved: 1000 };
/** A read waits for Redis, or its turn. */
const READS: BulkheadLimits = { maxConcurrent: 100, maxQueued: 1000, reserved: 0 };
/** So long a request waits until there is room (milliseconds). */
const QUEUE_TIMEOUT_MS = 1000;

/** Made once: refusing must cost as little as can be. */
const OVERLOADED = new KeyledgerError('UNAVAILABLE', {
  message: 'Not done: too much is under way; try again',
  expected: true,
});

/**
 * Refuses what would have to wait for long, so that neither memory nor waiting grows with what is asked.
 * @param onRefused told of each
 */
export function shedLoad(app: FastifyInstance, onRefused: () => void): void {
  const [changes, reads] = [createBulkhead(CHANGES), createBulkhead(READS)];
  const readTurn = yieldBetweenReads();
  const bulkheadFor = ({ method }: FastifyRequest) =>
    method === 'GET' || method === 'HEAD' ? reads : changes;
  const refuse = () => {
    onRefused();
    return OVERLOADED;
  };

  app.addHook('onRequest', (request, _, done) => {
    const isFull = bulkheadFor(request).isFull() && !request.routeOptions.config.bypassQueue;
    done(isFull ? refuse() : undefined);
  });
  // Once all of it has come: nobody takes up room without a token, or by sending slowly.
  app.addHook('preValidation', async (request) => {
    const { longLived, bypassQueue } = request.routeOptions.config;
    if (longLived) return;
    const bulkhead = bulkheadFor(request);
    if (!(bypassQueue ? bulkhead.acquireReserved() : await bulkhead.acquire())) throw refuse();
    request.bulkhead = bulkhead;
    if (bulkhead === reads) await readTurn();
  });
  // Not when the answer is closed: Node does not say so of one that waits behind another on a connection that breaks.
  app.addHook('onSend', (request, _, payload, done) => {
    request.bulkhead?.release();
    request.bulkhead = undefined;
    done(null, payload);
  });
}

type Bulkhead = ReturnType<typeof createBulkhead>;

/** Room for some, a line of others who wait for it, and room that only some may use. */
export function createBulkhead({ maxConcurrent, maxQueued, reserved }: BulkheadLimits) {
  let active = 0;
  const queue = new Set<(acquired: boolean) => void>();
  const acquireBelow = (limit: number): boolean => {
    if (active >= limit) return false;
    active++;
    return true;
  };
  return {
    isFull: () => active >= maxConcurrent && queue.size >= maxQueued,
    /** @returns false if there is no room in time */
    acquire: (): boolean | Promise<boolean> => {
      if (acquireBelow(maxConcurrent)) return true;
      if (queue.size >= maxQueued) return false;
      return new Promise((resolve) => {
        const next = (acquired: boolean) => {
          clearTimeout(timer);
          queue.delete(next);
          resolve(acquired);
        };
        const timer = setTimeout(() => next(false), QUEUE_TIMEOUT_MS);
        queue.add(next);
      });
    },
    acquireReserved: (): boolean => acquireBelow(maxConcurrent + reserved),
    release: (): void => {
      active--;
      const [next] = queue;
      if (next && acquireBelow(maxConcurrent)) next(true);
    },
  };
}

/** After a read the event loop turns once for so much of the time that the read took (milliseconds), but not more often. */
const MS_PER_TURN = 0.2;
const MAX_TURNS = 50;

/**
 * Reads begin in a turn of the event loop each, and long ones leave some turns to others: a verification waits for one
 * list and not for all of them, and Node accepts one connection a turn, so that its request can be refused.
 */
function yieldBetweenReads(): () => Promise<void> {
  let last = Promise.resolve();
  return () => {
    const mine = last;
    last = mine.then(async () => {
      const began = performance.now();
      await setImmediate();
      const turns = Math.min((performance.now() - began) / MS_PER_TURN, MAX_TURNS);
      for (let turn = 1; turn < turns; turn++) await setImmediate();
    });
    return mine;
  };
}

import { setImmediate } from 'node:timers/promises';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { KeyledgerError } from '../../domain/errors.js';

declare module 'fastify' {
  interface FastifyRequest {
    /** The bulkhead that the request occupies now. */
    bulkhead?: Bulkhead | undefined;
  }
  interface FastifyContextConfig {
    /** Disables a key: it uses reserved capacity and does not wait. */
    bypassQueue?: true;
    /** The answer may be endless; it waits for events, not for work, so the request occupies no bulkhead. */
    longLived?: true;
  }
}

type BulkheadLimits = {
  readonly maxConcurrent: number;
  readonly maxQueued: number;
  /** Additional capacity for `bypassQueue`. */
  readonly reserved: number;
};
/** A change waits for the log, which appends a thousand of them in one batch. */
const CHANGES: BulkheadLimits = { maxConcurrent: 1000, maxQueued: 4000, reserved: 1000 };
/** A read waits for Redis, or for the event loop. */
const READS: BulkheadLimits = { maxConcurrent: 100, maxQueued: 1000, reserved: 0 };
/** How long a request waits for capacity. */
const QUEUE_TIMEOUT_MS = 1000;

/** Made once, because a refusal must cost as little as possible. */
const OVERLOADED = new KeyledgerError('UNAVAILABLE', {
  message: 'Not done: too many requests are under way; try again',
  expected: true,
});

/**
 * Refuses requests that would wait long, so that neither memory nor waiting time grows with the load.
 * @param onRefused called for each refused request
 */
export function shedLoad(app: FastifyInstance, onRefused: () => void): void {
  const [changes, reads] = [createBulkhead(CHANGES), createBulkhead(READS)];
  const awaitTurn = yieldBetweenReads();
  const bulkheadFor = ({ method }: FastifyRequest) => (method === 'GET' || method === 'HEAD' ? reads : changes);
  const refuse = () => {
    onRefused();
    return OVERLOADED;
  };

  app.addHook('onRequest', (request, _, done) => {
    const isFull = bulkheadFor(request).isFull() && !request.routeOptions.config.bypassQueue;
    done(isFull ? refuse() : undefined);
  });
  // After the whole request has arrived: a caller without a token, or one that sends slowly, occupies no capacity.
  app.addHook('preValidation', async (request) => {
    const { longLived, bypassQueue } = request.routeOptions.config;
    if (longLived) return;
    const bulkhead = bulkheadFor(request);
    if (!(bypassQueue ? bulkhead.acquireReserved() : await bulkhead.acquire())) throw refuse();
    request.bulkhead = bulkhead;
    if (bulkhead === reads) await awaitTurn();
  });
  // Not on close, which Node does not emit for an answer queued after another on a connection that breaks.
  app.addHook('onSend', (request, _, payload, done) => {
    request.bulkhead?.release();
    request.bulkhead = undefined;
    done(null, payload);
  });
}

type Bulkhead = ReturnType<typeof createBulkhead>;

/** Limits concurrency: active requests, a queue of waiting ones, and reserved capacity. */
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
    /** @returns false if there is no capacity in time */
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

/** After a read the event loop turns once for each period of this length that the read took, up to MAX_TURNS. */
const MS_PER_TURN = 0.2;
const MAX_TURNS = 50;

/**
 * Starts each read in a turn of the event loop of its own, and leaves turns to others after a long read: a verification
 * waits for one list and not for all, and Node accepts one connection per turn, so that its request can be refused.
 */
function yieldBetweenReads(): () => Promise<void> {
  let last = Promise.resolve();
  return () => {
    const previous = last;
    last = previous.then(async () => {
      const began = performance.now();
      await setImmediate();
      const turns = Math.min((performance.now() - began) / MS_PER_TURN, MAX_TURNS);
      for (let turn = 1; turn < turns; turn++) await setImmediate();
    });
    return previous;
  };
}

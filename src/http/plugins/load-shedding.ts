import { setImmediate } from 'node:timers/promises';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { KeyledgerError } from '../../domain/errors.js';

declare module 'fastify' {
  interface FastifyRequest {
    /** Where it is while it is under way. */
    room?: Room | undefined;
  }
  interface FastifyContextConfig {
    /** Takes a key out of use: there is room for it when there is none for others. */
    takesOutOfUse?: true;
    /** May be an answer without end, which waits for events and not for work to be done. */
    isEndless?: true;
  }
}

type Size = {
  /** So many may be under way at once. */
  readonly most: number;
  /** So many may wait until there is room. */
  readonly waiting: number;
  /** There is so much more room for what takes a key out of use, which does not wait. */
  readonly reserve: number;
};
/** A change waits for the log, which takes a thousand of them in one go. */
const CHANGES: Size = { most: 1000, waiting: 4000, reserve: 1000 };
/** A read waits for Redis, or its turn. */
const READS: Size = { most: 100, waiting: 1000, reserve: 0 };
/** So long a request waits until there is room (milliseconds). */
const PATIENCE_MS = 1000;

/** Made once: refusing must cost as little as can be. */
export const OVERLOADED = new KeyledgerError('UNAVAILABLE', {
  message: 'Not done: too much is under way; try again',
});

/**
 * Refuses what would have to wait for long, so that neither memory nor waiting grows with what is asked.
 * @param onRefused told of each
 */
export function refuseOverload(app: FastifyInstance, onRefused: () => void): void {
  const [changes, reads] = [makeRoom(CHANGES), makeRoom(READS)];
  const itsTurn = oneByOne();
  const roomFor = ({ method }: FastifyRequest) => (method === 'GET' || method === 'HEAD' ? reads : changes);
  const refuse = () => {
    onRefused();
    return OVERLOADED;
  };

  app.addHook('onRequest', (request, _, done) => {
    const isFull = roomFor(request).isFull() && !request.routeOptions.config.takesOutOfUse;
    done(isFull ? refuse() : undefined);
  });
  // Once all of it has come: nobody takes up room without a token, or by sending slowly.
  app.addHook('preValidation', async (request) => {
    const { isEndless, takesOutOfUse } = request.routeOptions.config;
    if (isEndless) return;
    const room = roomFor(request);
    if (!(takesOutOfUse ? room.enterReserve() : await room.enter())) throw refuse();
    request.room = room;
    if (room === reads) await itsTurn();
  });
  // Not when the answer is closed: Node does not say so of one that waits behind another on a connection that breaks.
  app.addHook('onSend', (request, _, payload, done) => {
    request.room?.leave();
    request.room = undefined;
    done(null, payload);
  });
}

type Room = ReturnType<typeof makeRoom>;

/** Room for some, a line of others who wait for it, and room that only some may use. */
export function makeRoom({ most, waiting, reserve }: Size) {
  let inside = 0;
  const line = new Set<(enters: boolean) => void>();
  const enterBelow = (limit: number): boolean => {
    if (inside >= limit) return false;
    inside++;
    return true;
  };
  return {
    isFull: () => inside >= most && line.size >= waiting,
    /** @returns false if there is no room in time */
    enter: (): boolean | Promise<boolean> => {
      if (enterBelow(most)) return true;
      if (line.size >= waiting) return false;
      return new Promise((resolve) => {
        const next = (enters: boolean) => {
          clearTimeout(timer);
          line.delete(next);
          resolve(enters);
        };
        const timer = setTimeout(() => next(false), PATIENCE_MS);
        line.add(next);
      });
    },
    enterReserve: (): boolean => enterBelow(most + reserve),
    leave: (): void => {
      inside--;
      const [next] = line;
      if (next && enterBelow(most)) next(true);
    },
  };
}

/** After a read the event loop turns once for so much of the time that the read took (milliseconds), but not more often. */
const MS_A_TURN = 0.2;
const MOST_TURNS = 50;

/**
 * Reads begin in a turn of the event loop each, and long ones leave some turns to others: a verification waits for one
 * list and not for all of them, and Node accepts one connection a turn, so that its request can be refused.
 */
function oneByOne(): () => Promise<void> {
  let last = Promise.resolve();
  return () => {
    const mine = last;
    last = mine.then(async () => {
      const began = performance.now();
      await setImmediate();
      const turns = Math.min((performance.now() - began) / MS_A_TURN, MOST_TURNS);
      for (let turn = 1; turn < turns; turn++) await setImmediate();
    });
    return mine;
  };
}

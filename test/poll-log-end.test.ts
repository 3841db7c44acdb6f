import { afterEach, describe, expect, it } from '@jest/globals';
import { pino } from 'pino';
import type { Position } from '../src/event-store/position.js';
import { pollLogEnd } from '../src/projections/poll-log-end.js';
import { ProjectionProgress } from '../src/projections/projection-progress.js';

const POLLS = 50;
const END = 'log:0000000000000001' as Position;

describe('polling the end of the log', () => {
  const stop = new AbortController();
  afterEach(() => stop.abort());

  it('asks again at once after it has waited a second for projections that are behind', async () => {
    let steady = 0;
    let asked = 0;
    const now = () => ({ clock: steady, steady });
    class Behind extends ProjectionProgress {
      override waitFor(): Promise<boolean> {
        steady += 1000;
        return Promise.resolve(false);
      }
    }
    const log = {
      end: async () => {
        if (++asked === POLLS) stop.abort();
        return END;
      },
    };

    await pollLogEnd(log, [new Behind(now)], now, pino({ level: 'silent' }), stop.signal);

    expect(asked).toBe(POLLS);
  });
});

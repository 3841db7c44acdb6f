import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { parseRetryAfter, retryDelay } from '../src/sdk/client/retry.js';

describe('the delay before the next try', () => {
  const attempts = fc.integer({ min: 1, max: 2000 });
  const randoms = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

  it('is a random part of a limit that doubles from 200 ms on, up to ten seconds', () => {
    expect([1, 2, 3, 4, 5, 6, 7, 8].map((attempt) => retryDelay(attempt, null, 1))).toEqual([
      200, 400, 800, 1600, 3200, 6400, 10_000, 10_000,
    ]);
    fc.assert(
      fc.property(attempts, randoms, (attempt, random) => {
        const limit = retryDelay(attempt, null, 1);
        expect(limit).toBeLessThanOrEqual(10_000);
        expect(retryDelay(attempt, null, random)).toBeCloseTo(random * limit);
      }),
    );
  });

  it('comes on top of what Retry-After asks for, which is heard up to a minute', () => {
    fc.assert(
      fc.property(attempts, randoms, fc.double({ min: 0, noNaN: true }), (attempt, random, asked) => {
        const delay = retryDelay(attempt, asked, random);
        expect(delay).toBeCloseTo(Math.min(asked, 60_000) + retryDelay(attempt, null, random));
        expect(delay).toBeLessThanOrEqual(70_000);
      }),
    );
  });

  it('reads Retry-After as seconds or as a date', () => {
    const now = Date.parse('2026-01-01T00:00:00Z');
    expect(parseRetryAfter('3', now)).toBe(3000);
    expect(parseRetryAfter(' 0 ', now)).toBe(0);
    expect(parseRetryAfter('Thu, 01 Jan 2026 00:00:03 GMT', now)).toBe(3000);
    expect(parseRetryAfter('Wed, 31 Dec 2025 00:00:00 GMT', now)).toBe(0);
    for (const neither of [null, '', '-1', '1.5', '0x10', '1e3', 'soon', '2026-01-02', 'Never, ever GMT'])
      expect([neither, parseRetryAfter(neither, now)]).toEqual([neither, null]);
    fc.assert(
      fc.property(fc.string(), (header) => {
        const asked = parseRetryAfter(header, now);
        expect(asked === null || asked >= 0).toBe(true);
      }),
    );
  });
});

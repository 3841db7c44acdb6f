import { describe, expect, it } from '@jest/globals';
import { duration, progressText } from '../src/cli/progress-bar.js';
import { count, countOf } from '../src/quantity.js';

describe('progress', () => {
  it('says how many events are done, how many a second, and what is left', () => {
    expect(progressText(250_000, 5, 1_000_000)).toBe('250,000 of 1,000,000 events  50,000/s  15s left');
    expect(progressText(250_000, 5)).toBe('250,000 events  50,000/s');
    expect(progressText(0, 1, 10)).toBe('0 of 10 events  0/s');
    expect(progressText(1, 1, 1, 'keys')).toBe('1 of 1 key  1/s  0s left');
    expect(progressText(1, 1)).toBe('1 event  1/s');
    expect(progressText(11, 1, 10)).toBe('11 of 10 events  11/s  0s left');
  });

  it('counts one thing as one', () => {
    expect([0, 1, 2, 1000].map((value) => countOf(value, 'keys'))).toEqual(['0 keys', '1 key', '2 keys', '1,000 keys']);
    expect(count(1_234_567.8)).toBe('1,234,568');
  });

  it.each([
    [0, '0s'],
    [59.1, '1m 00s'],
    [725, '12m 05s'],
    [3600, '1h 00m'],
    [90_061, '25h 01m'],
  ])('gives %d seconds as %s', (seconds, text) => expect(duration(seconds)).toBe(text));
});

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, it } from '@jest/globals';
import { redisSource } from './support/servers/redis-server.js';

/** Half a minute of it: whoever wants more runs `npm run torture`. */
async function torture(...options: string[]) {
  const args = ['dist/torture/main.js', '--minutes', '0.5', '--json', ...options];
  const run = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let printed = '';
  run.stdout.setEncoding('utf8').on('data', (text) => {
    printed += text;
  });
  await once(run, 'close');
  return JSON.parse(printed) as {
    calls: Record<string, number>;
    faults: Record<string, number>;
    heard: number;
    violations: unknown[];
  };
}

const readModels = redisSource === 'redis-server' ? ['memory', 'redis'] : ['memory'];

describe.each(readModels)('the service on SQLite and %s, while all that it stands on fails', (readModel) => {
  it('breaks none of its promises', async () => {
    const { calls, faults, heard, violations } = await torture('--read-model', readModel);
    expect(violations).toEqual([]);
    expect(calls['create 201']).toBeGreaterThan(50);
    expect(calls['verify 200']).toBeGreaterThan(50);
    expect(heard).toBeGreaterThan(100);
    expect(Object.keys(faults).length).toBeGreaterThan(2);
  }, 180_000);
});

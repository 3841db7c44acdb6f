import { spawnSync } from 'node:child_process';
import { describe, expect, it } from '@jest/globals';
import { COMMAND_VARIABLE } from '../torture/logs.js';

/** Environment of a server that the torture starts from a process with these variables. */
function environmentOfServer(variables: Readonly<Record<string, string>>): object {
  const server = 'console.log(JSON.stringify(process.env)); setInterval(() => undefined, 1000)';
  const program = `
    import { ServerProcess } from './dist/torture/server-process.js';
    const server = new ServerProcess([process.execPath, '-e', ${JSON.stringify(server)}], async () => server.output.includes('\\n'));
    await server.start();
    process.stdout.write(server.output);
    await server.kill();`;
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
    env: { PATH: process.env['PATH'], ...variables },
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout);
}

describe('a server that the torture starts', () => {
  it('gets no variable that it could take for an option', () => {
    const options = { EVENTSTORE_COMMAND: 'x', EVENTSTORE_TEST_URL: 'x', KURRENTDB_X: 'x', REDIS_URL: 'x' };
    const environment = environmentOfServer({
      ...options,
      [COMMAND_VARIABLE]: 'x',
      NODE_OPTIONS: '--no-warnings',
    });
    expect(environment).toEqual({ PATH: process.env['PATH'] });
  });

  it('is named by a variable that EventStoreDB and KurrentDB do not read', () => {
    expect(COMMAND_VARIABLE).not.toMatch(/^(EVENTSTORE|KURRENTDB)_/i);
  });
});

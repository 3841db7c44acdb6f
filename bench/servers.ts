import { type ChildProcess, spawn } from 'node:child_process';

/** Starts a node program that prints its address, and waits until it listens. */
export async function start(
  args: readonly string[],
  environment: NodeJS.ProcessEnv,
): Promise<{ readonly child: ChildProcess; readonly url: string }> {
  const child = spawn(process.execPath, args, {
    env: { PATH: process.env['PATH'], ...environment },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let printed = '';
  for await (const text of child.stdout.setEncoding('utf8')) {
    printed += text;
    const [, url, port] = /listens on\s+(?:(http\S+)|(\d+))/.exec(printed) ?? [];
    if (url || port) {
      child.stdout.resume();
      return { child, url: url ?? `http://127.0.0.1:${port}` };
    }
  }
  throw new Error(`${args.join(' ')} did not start`);
}

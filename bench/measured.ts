import { spawn } from 'node:child_process';
import { once } from 'node:events';

const SAY_PEAK = `data:text/javascript,process.on("exit",()=>process.stderr.write("peak "+process.resourceUsage().maxRSS))`;

export type Measured = { readonly seconds: number; readonly peakMiB: number; readonly stdout: string };

/**
 * Runs a node program to its end and measures its duration and its peak memory (RSS).
 * @throws Error the program failed; with its output
 */
export async function measured(args: readonly string[], environment: NodeJS.ProcessEnv): Promise<Measured> {
  const started = performance.now();
  const child = spawn(process.execPath, ['--import', SAY_PEAK, ...args], {
    env: { PATH: process.env['PATH'], ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [stdout, stderr] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text) => {
    stderr += text;
  });
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`${args.join(' ')} failed: ${stderr}`);
  const kibibytes = Number(/peak (\d+)/.exec(stderr)?.[1]);
  return { seconds: (performance.now() - started) / 1000, peakMiB: kibibytes / 1024, stdout };
}

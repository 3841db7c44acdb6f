import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';

const SET_CLOCK = new URL('set-clock.js', import.meta.url).href;
const RESTART_MS = 200;

/** Exit of an instance that the torture did not cause. */
export type Death = {
  readonly instance: 0 | 1;
  /** Times of performance.now(). */
  readonly startedAt: number;
  readonly at: number;
  /** Whether the instance had served before. */
  readonly served: boolean;
  readonly how: string;
  readonly lastWords: string;
};

/** `keyledger serve` as a process that restarts whenever it exits, as under a service manager. */
export class Instance {
  readonly url: string;
  readonly #number: 0 | 1;
  readonly #clockFile: string;
  readonly #environment: NodeJS.ProcessEnv;
  readonly #onDeath: (death: Death) => void;
  #process: ChildProcess | undefined;
  #output = '';
  #isWanted = false;

  /** @param onDeath called on each exit that the torture did not cause */
  constructor(
    folder: string,
    number: 0 | 1,
    port: number,
    settings: NodeJS.ProcessEnv,
    onDeath: (death: Death) => void,
  ) {
    this.url = `http://127.0.0.1:${port}`;
    this.#clockFile = join(folder, `clock-${number}`);
    this.#environment = {
      PATH: process.env['PATH'],
      PORT: String(port),
      NODE_OPTIONS: `--import ${SET_CLOCK}`,
      KEYLEDGER_TORTURE_CLOCK: this.#clockFile,
      ...settings,
    };
    this.#number = number;
    this.#onDeath = onDeath;
    this.setClock(0);
  }

  /** Output of all its processes. */
  get output(): string {
    return this.#output;
  }

  get pid(): number | undefined {
    return this.#process?.pid;
  }

  start(): void {
    this.#isWanted = true;
    const child = spawn(process.execPath, ['dist/src/cli.js', 'serve'], { env: this.#environment });
    this.#process = child;
    const [startedAt, beganAt] = [performance.now(), this.#output.length];
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => {
        this.#output += text;
      });
    }
    child.once('exit', async (code, signal) => {
      if (this.#process !== child || !this.#isWanted) return;
      const printed = this.#output.slice(beganAt);
      this.#onDeath({
        instance: this.#number,
        startedAt,
        at: performance.now(),
        served: printed.includes('listens on'),
        how: `exit ${code ?? signal}`,
        lastWords: printed.slice(-2000),
      });
      await setTimeout(RESTART_MS);
      if (this.#process === child && this.#isWanted) this.start();
    });
  }

  signal(signal: NodeJS.Signals): void {
    this.#process?.kill(signal);
  }

  /** Kills the process without a restart. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** @returns the exit code; null if the process had to be killed, or had exited before */
  async stop(timeoutMs: number): Promise<number | null> {
    const killed = new AbortController();
    const tooLate = setTimeout(timeoutMs, undefined, { signal: killed.signal }).then(
      () => this.kill(),
      () => undefined,
    );
    const code = await this.#end('SIGTERM');
    killed.abort();
    await tooLate;
    return code;
  }

  setClock(wrongByMs: number): void {
    writeFileSync(this.#clockFile, String(wrongByMs));
  }

  async #end(signal: NodeJS.Signals): Promise<number | null> {
    this.#isWanted = false;
    const child = this.#process;
    if (!child || child.exitCode !== null || child.signalCode !== null) return null;
    if (signal === 'SIGKILL') this.#process = undefined;
    const exited = once(child, 'exit');
    child.kill(signal);
    const [code] = await exited;
    this.#process = undefined;
    return code;
  }
}

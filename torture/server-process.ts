import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout } from 'node:timers/promises';
import { serverEnvironment } from '../test/support/servers/server-environment.js';

/** A server that is started as often as it is killed, always with the same command. */
export class ServerProcess {
  readonly #command: readonly string[];
  readonly #answers: () => Promise<boolean>;
  #process: ChildProcess | undefined;
  #output = '';

  /** @param answers is it there for its clients? */
  constructor(command: readonly string[], answers: () => Promise<boolean>) {
    this.#command = command;
    this.#answers = answers;
  }

  /** Everything that it has printed. */
  get output(): string {
    return this.#output;
  }

  /** @throws Error it ended instead */
  async start(): Promise<void> {
    const [program = '', ...args] = this.#command;
    const started = spawn(program, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: serverEnvironment(),
    });
    this.#process = started;
    const exited = once(started, 'exit').then(([code, signal]) => `exit ${code ?? signal}`);
    for (const stream of [started.stdout, started.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => {
        this.#output += text;
      });
    }
    for (;;) {
      const ended = await Promise.race([exited, setTimeout(50)]);
      // EventStoreDB ends well when it has cut off what lies behind a copy that was put back.
      if (ended === 'exit 0') return this.start();
      if (ended) throw new Error(`${this.#command.join(' ')}: ${ended}\n${this.#output.slice(-2000)}`);
      if (await this.#answers().catch(() => false)) return;
    }
  }

  signal(signal: NodeJS.Signals): void {
    this.#process?.kill(signal);
  }

  /** Ends it, however it is. */
  async kill(): Promise<void> {
    const running = this.#process;
    this.#process = undefined;
    if (!running || running.exitCode !== null || running.signalCode !== null) return;
    const exited = once(running, 'exit');
    running.kill('SIGKILL');
    await exited;
  }
}

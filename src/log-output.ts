import { closeSync, constants, fstatSync, openSync, write } from 'node:fs';
import { isatty } from 'node:tty';
import { pino } from 'pino';
import { terminalLines } from './terminal-text.js';

/** Size of the buffer; lines that do not fit are dropped. */
const MAX_BUFFERED_BYTES = 1024 * 1024;
/** Size of one write, unless a single line is longer. */
const CHUNK_BYTES = 64 * 1024;
/** Pause after a failed write. */
const RETRY_MS = 500;

/** Writes a chunk or a part of it. @param done called with an error, or with the number of bytes written */
type Sink = (chunk: Buffer, done: (error: Error | null | undefined, written: number) => void) => void;

/**
 * Log output that never blocks, throws or ends the process: not on a full disk, a pipe whose reader stalls or closes
 * it, or a terminal paused by Ctrl-S. Lines wait in a bounded buffer; while it is full, lines are dropped and counted.
 * When output works again, one line says how many are missing.
 */
export class LogOutput {
  readonly #sink: Sink;
  #lines: Buffer[] = [];
  #bufferedBytes = 0;
  #isWriting = false;
  #dropped = 0;
  #reportedDropped = 0;
  #idle = () => {};

  /** @param fd file descriptor, 1 for standard output */
  constructor(fd: number) {
    this.#sink = openSink(fd);
  }

  /** Lines dropped since the start of the process. */
  get dropped(): number {
    return this.#dropped;
  }

  write(line: string): void {
    const bytes = Buffer.from(terminalLines(line));
    if (this.#bufferedBytes + bytes.length > MAX_BUFFERED_BYTES) {
      this.#dropped++;
      return;
    }
    this.#push(bytes);
    if (!this.#isWriting) this.#writeNext();
  }

  /** Waits until everything is written, but no longer than the limit. */
  async end(limitMs: number): Promise<void> {
    if (!this.#isWriting) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, limitMs);
      this.#idle = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #push(line: Buffer): void {
    this.#lines.push(line);
    this.#bufferedBytes += line.length;
  }

  #writeNext(): void {
    if (this.#lines.length === 0) {
      this.#isWriting = false;
      this.#idle();
      return;
    }
    this.#isWriting = true;
    const chunk = this.#takeChunk();
    this.#sink(chunk, (error, written) => {
      // Lines stay whole: the unwritten rest of a chunk comes first next time.
      if (written < chunk.length) this.#lines.unshift(chunk.subarray(written));
      this.#bufferedBytes -= written;
      if (error || written === 0) {
        setTimeout(() => this.#writeNext(), RETRY_MS).unref();
        return;
      }
      this.#reportDropped();
      this.#writeNext();
    });
  }

  #takeChunk(): Buffer {
    let bytes = 0;
    let count = 0;
    for (const line of this.#lines) {
      if (count > 0 && bytes + line.length > CHUNK_BYTES) break;
      bytes += line.length;
      count++;
    }
    return Buffer.concat(this.#lines.splice(0, count), bytes);
  }

  /** Waits for room in the buffer; the report then stands where the lines are missing. */
  #reportDropped(): void {
    if (this.#dropped === this.#reportedDropped || this.#bufferedBytes > MAX_BUFFERED_BYTES / 2) return;
    const missing = this.#dropped - this.#reportedDropped;
    this.#reportedDropped = this.#dropped;
    this.#push(Buffer.from(droppedLine(missing)));
  }
}

function droppedLine(dropped: number): string {
  let line = '';
  const keep = (text: string) => {
    line = text;
  };
  const logger = pino({ level: 'warn' }, { write: keep });
  logger.warn({ dropped }, 'Log lines were dropped: output could not be written');
  return line;
}

/**
 * Node writes to files and terminals in the main thread, and to pipes and sockets asynchronously
 * (https://nodejs.org/docs/latest-v20.x/api/process.html#a-note-on-process-io).
 */
function openSink(fd: number): Sink {
  const kind = fstatSync(fd);
  if (kind.isFIFO() || kind.isSocket()) return streamSink(fd === 2 ? process.stderr : process.stdout);
  const target = isatty(fd) ? nonBlocking(fd) : fd;
  return (chunk, done) => write(target, chunk, 0, chunk.length, null, (error, written) => done(error, written ?? 0));
}

function streamSink(stream: NodeJS.WriteStream): Sink {
  // The call-back of each write gets its error; without a listener the stream would end the process.
  stream.on('error', () => undefined);
  return (chunk, done) => stream.write(chunk, (error) => done(error, error ? 0 : chunk.length));
}

/** A descriptor of the same terminal that answers EAGAIN instead of blocking; the terminal itself stays as it is. */
function nonBlocking(fd: number): number {
  try {
    const own = openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
    if (isatty(own)) return own;
    closeSync(own);
  } catch {
    // Not Linux, or the terminal of another user.
  }
  return fd;
}

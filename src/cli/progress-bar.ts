import { count, countOf } from '../quantity.js';

/** How far a long command has come, for whoever sits at the terminal. */
export type ProgressBar = {
  /**
   * So many more are done.
   * @param part of the whole that is done by now, 0 to 1, where the total is not known
   */
  add(more: number, part?: number): void;
  /** Takes the line away. */
  end(): void;
};

const REDRAW_MS = 200;
const SILENT: ProgressBar = { add: () => undefined, end: () => undefined };

/**
 * Shows on stderr how many are done, how many a second, and how long the rest will take. Writes
 * nothing where stderr is no terminal.
 * @param total how many there will be, where that is known
 */
export function startProgressBar(label: string, total?: number, unit = 'events'): ProgressBar {
  if (!process.stderr.isTTY) return SILENT;
  const started = performance.now();
  let done = 0;
  let drawn = started;
  return {
    add(more, part) {
      done += more;
      const now = performance.now();
      if (now - drawn < REDRAW_MS) return;
      drawn = now;
      process.stderr.write(
        `\r\x1b[K${label}  ${progressText(done, (now - started) / 1000, total ?? (part ? done / part : undefined), unit)}`,
      );
    },
    end: () => void process.stderr.write('\r\x1b[K'),
  };
}

/** Such as `250,000 of 1,000,000 events  50,000/s  15s left`. */
export function progressText(done: number, seconds: number, total?: number, unit = 'events'): string {
  const perSecond = done / seconds;
  const amount = total === undefined ? countOf(done, unit) : `${count(done)} of ${countOf(total, unit)}`;
  const left =
    total === undefined || done === 0 ? '' : `  ${duration(Math.max(0, total - done) / perSecond)} left`;
  return `${amount}  ${count(perSecond)}/s${left}`;
}

/** Seconds as people read them: `9s`, `12m 05s`, `3h 00m`. */
export function duration(seconds: number): string {
  const whole = Math.ceil(seconds);
  const two = (value: number) => String(value).padStart(2, '0');
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${two(whole % 60)}s`;
  return `${Math.floor(whole / 3600)}h ${two(Math.floor((whole % 3600) / 60))}m`;
}

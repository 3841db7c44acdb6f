import { count, countOf } from '../quantity.js';

/** Progress of a long command, for the user at the terminal. */
export type ProgressBar = {
  /**
   * Adds completed items.
   * @param part completed share of the whole, 0 to 1, if the total is unknown
   */
  add(more: number, part?: number): void;
  /** Clears the line. */
  end(): void;
};

const REDRAW_MS = 200;
const SILENT: ProgressBar = { add: () => undefined, end: () => undefined };

/**
 * Shows on stderr the number of completed items, the rate, and the remaining time. Writes nothing if stderr is not a
 * terminal.
 * @param total number of items, if known
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

/** Progress such as `250,000 of 1,000,000 events  50,000/s  15s left`. */
export function progressText(done: number, seconds: number, total?: number, unit = 'events'): string {
  const perSecond = done / seconds;
  const amount = total === undefined ? countOf(done, unit) : `${count(done)} of ${countOf(total, unit)}`;
  const left = total === undefined || done === 0 ? '' : `  ${duration(Math.max(0, total - done) / perSecond)} left`;
  return `${amount}  ${count(perSecond)}/s${left}`;
}

/** Formats seconds: `9s`, `12m 05s`, `3h 00m`. */
export function duration(seconds: number): string {
  const whole = Math.ceil(seconds);
  const two = (value: number) => String(value).padStart(2, '0');
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${two(whole % 60)}s`;
  return `${Math.floor(whole / 3600)}h ${two(Math.floor((whole % 3600) / 60))}m`;
}

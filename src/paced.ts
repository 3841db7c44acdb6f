import { setImmediate } from 'node:timers/promises';

/** Milliseconds of work in one turn of the event loop. */
const TURN_MS = 5;

/**
 * Paces work that would block the event loop: the function that it returns gives way to the event loop when the work has
 * taken long enough since the last time.
 */
export function paced(): () => Promise<void> {
  let pauseAt = performance.now() + TURN_MS;
  return async () => {
    if (performance.now() < pauseAt) return;
    await setImmediate();
    pauseAt = performance.now() + TURN_MS;
  };
}

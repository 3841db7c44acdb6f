import { setImmediate } from 'node:timers/promises';

/** Waits until a condition holds; the test's own time limit ends a wait for one that never does. */
export async function eventually(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await setImmediate();
}

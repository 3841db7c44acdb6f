import { setImmediate } from 'node:timers/promises';

/** Polls until a condition holds; the test's timeout ends the wait. */
export async function eventually(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await setImmediate();
}

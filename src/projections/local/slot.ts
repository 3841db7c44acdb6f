import { closeSync, existsSync, mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from '@photostructure/sqlite';
import { resultCode, SQLITE_BUSY } from '../../sqlite/result-codes.js';

/** The projections file that a process uses alone, until `release` or its end. */
export type Slot = { readonly path: string; readonly number: number; release(): void };

const MAX_SLOTS = 1000;

export const slotPath = (folder: string, number: number): string =>
  join(folder, number === 1 ? 'projections.db' : `projections-${number}.db`);

/** The projections files of a folder that exist. */
export function existingSlots(folder: string): string[] {
  const paths: string[] = [];
  for (let number = 1; number <= MAX_SLOTS; number++) {
    const path = slotPath(folder, number);
    if (existsSync(path)) paths.push(path);
  }
  return paths;
}

/**
 * Claims the first projections file of a folder that no living process uses. The claim is a lock on a file beside it,
 * which the operating system releases when the process ends, however it ends.
 * @throws Error the folder cannot be written
 */
export function claimSlot(folder: string): Slot {
  mkdirSync(folder, { recursive: true });
  for (let number = 1; number <= MAX_SLOTS; number++) {
    const slot = tryClaim(slotPath(folder, number), number);
    if (slot) return slot;
  }
  throw new Error(`All ${MAX_SLOTS} projections files in ${folder} are in use`);
}

/** @returns undefined: a living process uses the file */
export function tryClaim(path: string, number = 1): Slot | undefined {
  const lock = `${path}.lock`;
  closeSync(openSync(lock, 'a', 0o600));
  const db = new DatabaseSync(lock);
  try {
    db.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
    return { path, number, release: () => db.close() };
  } catch (error) {
    db.close();
    if (resultCode(error) === SQLITE_BUSY) return undefined;
    throw error;
  }
}

import { copyFileSync, existsSync, renameSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import type { EventStore } from '../event-store/event-store.js';
import { buildProjections } from '../projections/local/build.js';
import { type BuildProgress, removeFile } from '../projections/local/file.js';
import { nextPath, takenPath } from '../projections/local/live-file.js';
import { existingSlots, tryClaim } from '../projections/local/slot.js';

/** How long a process may take to fold what came during the build, and to use the new file. */
const TAKE_OVER_MS = 60_000;
const TAKE_OVER_POLL_MS = 50;

/** A file that was built anew, and whether a living process uses it. */
export type RebuiltFile = { readonly path: string; readonly isInUse: boolean };

/**
 * Builds the projections files of a folder anew from the log, beside those that processes use. Each process goes on with
 * its old one until it takes over the new one; an old one that none uses is replaced at once.
 * @throws Error the log or the disk fails, or a process does not take over its file: the old files are as they were
 */
export async function rebuildProjections(
  log: EventStore,
  folder: string,
  onProgress: (progress: BuildProgress) => void,
): Promise<RebuiltFile[]> {
  const [first, ...others] = existingSlots(folder);
  if (first === undefined) return [];
  const draft = `${first}.rebuilt`;
  try {
    await buildProjections(log, draft, onProgress);
    for (const path of others) {
      copyFileSync(draft, `${path}.rebuilt`);
      renameSync(`${path}.rebuilt`, nextPath(path));
    }
    renameSync(draft, nextPath(first));
  } finally {
    removeFile(draft);
  }
  const rebuilt: RebuiltFile[] = [];
  for (const path of [first, ...others]) rebuilt.push({ path, isInUse: await takeOver(path) });
  return rebuilt;
}

/** @returns true if a process uses the file and has taken over */
async function takeOver(path: string): Promise<boolean> {
  const [next, taken] = [nextPath(path), takenPath(path)];
  const deadline = performance.now() + TAKE_OVER_MS;
  for (; existsSync(next) || existsSync(taken); await setTimeout(TAKE_OVER_POLL_MS)) {
    const slot = tryClaim(path);
    try {
      if (slot && existsSync(taken))
        throw new Error(`The process that used ${path} ended while it took over. Try again`);
      if (slot) {
        removeFile(path);
        renameSync(next, path);
        return false;
      }
    } finally {
      slot?.release();
    }
    if (existsSync(taken) || performance.now() < deadline) continue;
    removeFile(next);
    throw new Error(`The process that uses ${path} has not taken over the new file: is it still starting? Try again`);
  }
  return true;
}

import { copyFileSync, existsSync, renameSync, statSync } from 'node:fs';
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
 * @throws Error the log or the disk fails, another rebuild is under way, or a process does not take over its file
 */
export async function rebuildProjections(
  log: EventStore,
  folder: string,
  onProgress: (progress: BuildProgress) => void,
): Promise<RebuiltFile[]> {
  const paths = existingSlots(folder);
  const [first] = paths;
  if (first === undefined) return [];
  const draft = rebuiltPath(first);
  const claim = tryClaim(draft);
  if (!claim) throw new Error(`Another rebuild is under way in ${folder}`);
  try {
    await buildProjections(log, draft, onProgress);
    for (const path of paths.slice(1)) copyFileSync(draft, rebuiltPath(path));
    const built = paths.map((path) => ({ path, inode: statSync(rebuiltPath(path)).ino }));
    for (const path of paths) renameSync(rebuiltPath(path), nextPath(path));
    const rebuilt: RebuiltFile[] = [];
    for (const { path, inode } of built) rebuilt.push({ path, isInUse: await takeOver(path, inode) });
    return rebuilt;
  } finally {
    for (const path of paths) removeFile(rebuiltPath(path));
    claim.release();
  }
}

const rebuiltPath = (path: string): string => `${path}.rebuilt`;

/** @returns true if a process uses the file and has taken over */
async function takeOver(path: string, inode: number): Promise<boolean> {
  const [next, taken] = [nextPath(path), takenPath(path)];
  const isInPlace = () => statSync(path, { throwIfNoEntry: false })?.ino === inode;
  for (const deadline = performance.now() + TAKE_OVER_MS; !isInPlace(); await setTimeout(TAKE_OVER_POLL_MS)) {
    const slot = tryClaim(path);
    try {
      if (slot && existsSync(next)) {
        removeFile(path);
        renameSync(next, path);
        return false;
      }
      if (slot && !isInPlace()) {
        throw new Error(`The process that used ${path} ended while it took over the new file. Try again`);
      }
    } finally {
      slot?.release();
    }
    if (existsSync(taken) || isInPlace()) continue;
    if (!existsSync(next)) {
      // The process may just have taken it.
      if (existsSync(taken) || isInPlace()) continue;
      throw new Error(`The process that uses ${path} could not use the new file: its log says why`);
    }
    if (performance.now() < deadline) continue;
    removeFile(next);
    throw new Error(`The process that uses ${path} has not taken over the new file: is it still starting? Try again`);
  }
  return true;
}

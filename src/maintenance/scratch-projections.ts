import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DatabaseSyncInstance } from '@photostructure/sqlite';
import { createFile } from '../projections/local/file.js';
import { closeDb } from '../projections/local/projections-db.js';
import type { ProjectionStore } from '../projections/local/store.js';

/** Projections that a command folds for itself, in a file of the folder for temporary files (TMPDIR). */
export type ScratchProjections = { readonly db: DatabaseSyncInstance; readonly store: ProjectionStore };

/** Calls back with empty projections, and removes their file afterwards. */
export async function withScratchProjections<T>(
  logId: string,
  use: (projections: ScratchProjections) => Promise<T>,
): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'keyledger-'));
  try {
    const projections = createFile(join(folder, 'projections.db'), logId);
    try {
      return await use(projections);
    } finally {
      closeDb(projections.db);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Events that a command folds in one transaction. */
export const SCRATCH_COMMIT_EVENTS = 20_000;

import { KeyledgerError } from '../../domain/errors.js';
import type { Position } from '../../event-store/position.js';
import type { Fold } from '../read-model-writer.js';
import { withKeySource } from './key-source.js';
import type { LiveFile } from './live-file.js';

/** What a read model is written from. @param file undefined: there are no projections at present */
export const foldOf = (file: LiveFile | undefined, position: Position | undefined, signal: AbortSignal): Fold => ({
  signal,
  position,
  checkpoint: file?.store.checkpoint,
  withSource: async (use) => {
    if (!file) throw new KeyledgerError('STARTING', { expected: true });
    return withKeySource(file.path, use);
  },
});

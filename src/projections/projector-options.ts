import type { BaseLogger } from 'pino';
import type { EpochMs } from '../domain/time.js';
import type { EventStore } from '../event-store/event-store.js';
import type { BuildFile } from './local/local-projections.js';
import type { ReadModel } from './read-model.js';

export type ProjectorOptions = {
  readonly log: EventStore;
  /** Folder of the projections file. */
  readonly folder: string;
  /** Undefined: lists are served from the projections of this process. */
  readonly readModel: ReadModel | undefined;
  /** See LocalProjections. */
  readonly buildFile?: BuildFile | undefined;
  readonly logger: BaseLogger;
  readonly clock: () => EpochMs;
  /** Called if the log no longer holds what was folded: only a new process can start again. */
  readonly onLogReplaced: (error: Error) => void;
};

import type { ErrorCode } from '../domain/errors.js';
import type { ReadModelWriter } from './read-model-writer.js';

/** 'folding' until the projections first reach the end of the log. */
export type ProjectorState = 'starting' | 'folding' | 'following' | 'damaged' | 'log replaced';

type Readiness = { readonly ok: true } | { readonly ok: false; readonly code: ErrorCode; readonly reason: string };
/** What an instance can do now: verify keys, take traffic, serve lists. */
export type ProjectorStatus = Readonly<Record<'verify' | 'ready' | 'list', Readiness>>;

const OK: Readiness = { ok: true };
const notOk = (code: ErrorCode, reason: string): Readiness => ({ ok: false, code, reason });

/**
 * @param problem why the projections can neither be opened nor built
 * @param stalled why events cannot be written to them
 * @param writer undefined: lists are served from the projections
 */
export function projectorStatus(
  state: ProjectorState,
  problem: string | undefined,
  stalled: Error | undefined,
  writer: ReadModelWriter | undefined,
): ProjectorStatus {
  const unwritable = stalled && `The projections cannot be written: ${stalled.message}`;
  const verify = verifyStatus(state, problem ?? unwritable);
  if (!verify.ok) return { verify, ready: verify, list: verify };
  const written = unwritable === undefined ? OK : notOk('UNAVAILABLE', unwritable);
  if (!writer) return { verify, ready: written, list: OK };
  const ready = writer.firstSyncAttempted ? written : notOk('UNAVAILABLE', 'The read model is being built');
  const list = writer.isComplete ? OK : notOk('UNAVAILABLE', 'The read model is being restored from the log');
  return { verify, ready, list };
}

function verifyStatus(state: ProjectorState, problem: string | undefined): Readiness {
  switch (state) {
    case 'log replaced':
      return notOk('UNAVAILABLE', 'The log was restored from an older copy');
    case 'damaged':
      return notOk('PROJECTIONS_DAMAGED', problem ?? 'The projections were damaged and are being built anew');
    case 'following':
      return OK;
    default:
      return notOk('STARTING', problem ?? 'This instance is still reading the log');
  }
}

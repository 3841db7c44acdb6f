import { type Call, type Era, saysNothing } from '../history.js';
import type { KeyState, LifeEvent, Lives } from './lives.js';

/**
 * Each key is a register (https://jepsen.io/consistency/models/linearizable): one order of its changes must explain
 * every answer, and must keep the order of calls that ended before others began. The log states the order: a change has
 * its place there, and a call that changed nothing must have seen the key at a place no earlier than all that had been
 * answered before. The check picks the earliest such place, which constrains later calls least.
 */
export function checkChanges(era: Era, lives: Lives): string[] {
  const found: string[] = [];
  const calls = callsByKey(era, lives);
  for (const [apiKeyId, ofKey] of calls) {
    for (const what of checkKey(ofKey, lives.get(apiKeyId) ?? [], era.restored)) {
      found.push(`key ${apiKeyId}: ${what}`);
    }
  }
  return [...found, ...checkCauses(era, lives)];
}

const CHANGES = ['create', 'rename', 'rotate', 'suspend', 'resume', 'delete'];

/** Calls that change each key, including those without an answer that caused an event. */
function callsByKey({ calls }: Era, lives: Lives): Map<string, Call[]> {
  const caused = new Map<string, string>();
  for (const [apiKeyId, life] of lives) for (const { requestId } of life) caused.set(requestId, apiKeyId);
  const byKey = new Map<string, Call[]>();
  for (const call of calls) {
    if (!CHANGES.includes(call.kind)) continue;
    const id = caused.get(call.id) ?? call.apiKeyId ?? call.answer?.body['id'];
    if (typeof id !== 'string') continue;
    const ofKey = byKey.get(id) ?? [];
    byKey.set(id, ofKey);
    ofKey.push(call);
  }
  return byKey;
}

/** @param restored number of log entries that existed before the calls began */
function checkKey(calls: readonly Call[], life: readonly LifeEvent[], restored: number): string[] {
  const found: string[] = [];
  const caused = new Map(life.map(({ requestId }, revision) => [requestId, revision]));
  const begun = [...calls].sort((a, b) => a.startedAt - b.startedAt);
  const ended = calls.filter(({ answer }) => answer).sort((a, b) => a.endedAt - b.endedAt);
  const takenAt = new Map<Call, number>();
  let earliest = life.filter(({ place }) => place < restored).length - 1;
  let passed = 0;
  for (const call of begun) {
    for (; (ended[passed]?.endedAt ?? Number.POSITIVE_INFINITY) < call.startedAt; passed++) {
      earliest = Math.max(earliest, takenAt.get(ended[passed] as Call) ?? -1);
    }
    const revision = caused.get(call.id);
    const description = `${call.kind} (${call.id}) answered ${call.answer?.status ?? 'nothing'} ${call.answer?.code ?? ''}`;
    if (revision !== undefined) {
      takenAt.set(call, revision);
      if (revision <= earliest) {
        found.push(`${description} and has revision ${revision}, but ${earliest} had been seen before it began`);
      }
      const wrong = wrongCause(call, life[revision] as LifeEvent, life[revision - 1]?.state);
      if (wrong) found.push(`${description}: ${wrong}`);
      continue;
    }
    if (!call.answer || saysNothing(call.answer)) continue;
    const seen = firstFrom(Math.max(earliest, -1), life, (at) => explains(call, life, at));
    if (seen === undefined)
      found.push(`${description}, and nothing in the log from revision ${earliest} on explains it`);
    else takenAt.set(call, seen);
  }
  return found;
}

function firstFrom(from: number, life: readonly LifeEvent[], holds: (at: number) => boolean): number | undefined {
  for (let at = from; at < life.length; at++) if (holds(at)) return at;
  return undefined;
}

/** Contradiction between an event and the answer to the call that caused it, if any. */
function wrongCause({ kind, name, answer }: Call, event: LifeEvent, before: KeyState | undefined): string | undefined {
  const { type, data, position } = event;
  if (type !== CAUSED[kind]) return `it caused ${type}`;
  if (name !== undefined && data['name'] !== name) return `the event names it ${data['name']}`;
  if (before?.status === 'deleted') return 'the key was deleted before';
  if (!answer || answer.code === 'OUTCOME_UNKNOWN') return undefined;
  if (answer.status >= 300) return 'and yet it is in the log';
  if (answer.position !== position) return `the event is at ${position}, the answer says ${answer.position}`;
  return undefined;
}

const CAUSED: Readonly<Record<string, string>> = {
  create: 'ApiKeyCreated',
  rename: 'ApiKeyRenamed',
  rotate: 'ApiKeySecretRotated',
  suspend: 'ApiKeySuspended',
  resume: 'ApiKeyResumed',
  delete: 'ApiKeyDeleted',
};

/** Whether the state after a revision explains the answer to a call without an event; -1 is before the creation. */
function explains({ kind, name, answer }: Call, life: readonly LifeEvent[], revision: number): boolean {
  const event = life[revision];
  const status = event?.state.status;
  if (answer?.status === 404) return status === undefined || status === 'deleted';
  switch (answer?.code) {
    case 'KEY_QUARANTINED':
      return status === 'unavailable';
    case 'IDEMPOTENCY_KEY_USED':
    case 'CONFLICT':
      return event !== undefined;
    case undefined:
      break;
    default:
      return false;
  }
  if (!event || answer?.position !== event.position) return false;
  if (kind === 'rename') return event.state.name === name && status !== 'deleted' && status !== 'unavailable';
  if (kind === 'suspend') return status === 'suspended';
  if (kind === 'resume') return status === 'active';
  // A repeat: the idempotency check compares its answer with the first.
  return (kind === 'create' || kind === 'rotate') && (status === 'active' || status === 'suspended');
}

/** Every event after the restored ones belongs to a call, and each call caused at most one. */
function checkCauses({ calls, restored }: Era, lives: Lives): string[] {
  const asked = new Set(calls.map(({ id }) => id));
  const found: string[] = [];
  const seen = new Set<string>();
  for (const [apiKeyId, life] of lives) {
    for (const { place, requestId, type } of life) {
      if (place < restored || requestId.startsWith('unreadable-')) continue;
      if (!asked.has(requestId)) found.push(`key ${apiKeyId}: nobody asked for ${type} (${requestId})`);
      if (seen.has(requestId)) found.push(`key ${apiKeyId}: ${requestId} caused more than one event`);
      seen.add(requestId);
    }
  }
  return found;
}

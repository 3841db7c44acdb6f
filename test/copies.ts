import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { v4 as uuid } from 'uuid';
import { madeUp } from '../bench/make-log.js';
import { streamOf } from '../src/domain/ai-api-key.js';
import type { Append, EventStore, RecordedEvent } from '../src/event-store/event-store.js';
import { openEventStore } from '../src/event-store/open.js';
import { exportLines, type Header, withTrailer } from '../src/log-transfer/export.js';
import { CLI } from './child-service.js';
import { freshFolder } from './fresh.js';

/** Logs of a suite's own to copy, and the command line to copy them with. */

/** A file's log, open as long as it is used. */
export async function withLogAt<T>(url: string, use: (log: EventStore) => Promise<T>): Promise<T> {
  const failed = (error: Error) => {
    throw error;
  };
  const log = await openEventStore(url, { onFatal: failed, warn: () => undefined });
  try {
    return await use(log);
  } finally {
    await log.close();
  }
}

export const eventsAt = (url: string): Promise<RecordedEvent[]> => withLogAt(url, eventsIn);

export async function eventsIn(log: EventStore): Promise<RecordedEvent[]> {
  const found: RecordedEvent[] = [];
  for await (const recorded of log.readAll()) found.push(recorded);
  return found;
}

/** The life of many keys, of at least so many events, and of the appends behind it. */
export async function fill(log: EventStore, events: number, behind: readonly Append[] = []): Promise<void> {
  await log.appendInOrder(
    (async function* () {
      yield* madeUp(events);
      yield* behind;
    })(),
  );
}

/** Events as no release of today writes them, each in a key of its own that begins well in the repository. */
export function oddities(repoId: string): Append[] {
  const metadata = {
    schemaVersion: 1,
    occurredAt: '2026-01-01T00:00:00.000Z',
    actor: { issuer: 'keyledger', subject: 'ada' },
    requestId: 'r',
    $correlationId: 'r',
    $causationId: 'c',
  };
  const key = (name: string, ...then: { type: string; data: unknown; metadata: unknown }[]): Append => {
    const apiKeyId = uuid();
    const data = {
      apiKeyId,
      repoId,
      name,
      aiType: 'OPENAI',
      accessKey: `FB_AI_${name}`,
      secretHash: 'never say this hash',
      sealedSecret: 'never say this seal',
    };
    const created = { type: 'ApiKeyCreated', data, metadata };
    const events = [created, ...then].map((event) => ({ id: uuid(), ...event }) as Append['events'][number]);
    return { stream: streamOf(apiKeyId), events, expected: 'none' };
  };
  const secret = { secretHash: 'never say this hash', sealedSecret: 'never say this seal' };
  return [
    key('later version', {
      type: 'ApiKeyRenamed',
      data: secret,
      metadata: { ...metadata, schemaVersion: 99 },
    }),
    key('unknown type', { type: 'ApiKeyBlessed', data: { ...secret, repoId }, metadata }),
    key('no metadata', { type: 'ApiKeyRenamed', data: { repoId, name: 'x' }, metadata: {} }),
    key('no object', { type: 'ApiKeyRenamed', data: [1, null, 'x'], metadata: {} }),
  ];
}

export type Ended = { readonly code: number | null; readonly stdout: string; readonly stderr: string };

/** A folder, and `keyledger` run in it on the log in its file `name`. */
export function copyingPlace() {
  const folder = freshFolder();
  const at = (name: string) => join(folder.path, name);
  const urlOf = (name: string) => (name.includes('://') ? name : `sqlite:${at(name)}`);
  const environment = (log: string) => ({
    PATH: process.env['PATH'],
    DATA_DIR: folder.path,
    EVENT_STORE_URL: urlOf(log),
  });
  const children: ChildProcess[] = [];
  return {
    at,
    urlOf,
    run(log: string, args: readonly string[], input?: Buffer): Ended {
      const { status, stdout, stderr } = spawnSync(process.execPath, [CLI, 'log', ...args], {
        encoding: 'utf8',
        env: environment(log),
        maxBuffer: 2 ** 28,
        ...(input ? { input } : {}),
      });
      return { code: status, stdout, stderr };
    },
    /** The same as a process that runs meanwhile. */
    start(log: string, args: readonly string[]) {
      const child = spawn(process.execPath, [CLI, 'log', ...args], { env: environment(log) });
      children.push(child);
      let stderr = '';
      child.stderr.setEncoding('utf8').on('data', (text) => {
        stderr += text;
      });
      return { child, stderr: () => stderr, ended: once(child, 'close') as Promise<[number | null]> };
    },
    remove() {
      for (const child of children) if (child.exitCode === null) child.kill('SIGKILL');
      folder.remove();
    },
  };
}

/** An export with a good trailer, of whatever events. */
export async function exportOf(
  events: readonly unknown[],
  header: Partial<Record<keyof Header, unknown>> = {},
) {
  const whole = {
    format: 'keyledger-log',
    version: 1,
    logId: uuid(),
    from: null,
    to: 'end',
    repo: null,
    exportedAt: '2026-01-01T00:00:00.000Z',
    ...header,
  };
  const each = (async function* () {
    yield* events as RecordedEvent[];
  })();
  const chunks: Buffer[] = [];
  for await (const chunk of withTrailer(exportLines(whole as Header, each))) chunks.push(chunk);
  return Buffer.concat(chunks);
}

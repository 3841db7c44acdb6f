import { type DecodedAuditAccess, decodeAuditAccess } from '../../../src/event-store/codec.js';
import type { EventStore } from '../../../src/event-store/event-store.js';
import { openEventStore } from '../../../src/event-store/open.js';
import { classifyStream } from '../../../src/event-store/streams.js';

/** All AuditAccessed events of a log, oldest first. */
export async function accessesIn(log: EventStore): Promise<DecodedAuditAccess[]> {
  const found: DecodedAuditAccess[] = [];
  for await (const recorded of log.readAll()) {
    // Other suites put events of other types into such streams of a server that they share.
    if (classifyStream(recorded.stream)?.kind !== 'audit-access' || recorded.type !== 'AuditAccessed') continue;
    const access = decodeAuditAccess(recorded);
    if (access.type === 'Unreadable') throw new Error(access.reason);
    found.push(access);
  }
  return found;
}

/** All AuditAccessed events of a service's log, oldest first. */
export async function accessesOf({ EVENT_STORE_URL }: { readonly EVENT_STORE_URL: string }) {
  const failed = (error: Error) => {
    throw error;
  };
  const log = await openEventStore(EVENT_STORE_URL, { onFatal: failed, warn: () => undefined });
  try {
    return await accessesIn(log);
  } finally {
    await log.close();
  }
}

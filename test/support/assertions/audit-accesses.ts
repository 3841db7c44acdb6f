import { isAuditAccessStream } from '../../../src/domain/audit-access.js';
import { type DecodedAuditAccess, decodeAuditAccess } from '../../../src/event-store/codec.js';
import type { EventStore } from '../../../src/event-store/event-store.js';
import { openEventStore } from '../../../src/event-store/open.js';

/** Who looked, as the log says: every AuditAccessed, oldest first. */
export async function accessesIn(log: EventStore): Promise<DecodedAuditAccess[]> {
  const found: DecodedAuditAccess[] = [];
  for await (const recorded of log.readAll()) {
    // Other suites put events of other types into such streams of a server that they share.
    if (!isAuditAccessStream(recorded.stream) || recorded.type !== 'AuditAccessed') continue;
    const access = decodeAuditAccess(recorded);
    if (typeof access === 'string') throw new Error(access);
    found.push(access);
  }
  return found;
}

/** The same of a service's log. */
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

import { afterAll, beforeAll, describe } from '@jest/globals';
import { openEventStoreDbLog } from '../src/event-store/eventstoredb-log.js';
import { describeEventStore } from './event-store-contract.js';
import { type EventStoreDbServer, eventStoreDbSource, startEventStoreDb } from './eventstoredb-server.js';

const unexpected = (reason: Error | string) => {
  throw reason;
};

(eventStoreDbSource ? describe : describe.skip)('the contract', () => {
  let server: EventStoreDbServer;
  beforeAll(async () => {
    server = await startEventStoreDb();
  }, 120_000);
  afterAll(() => server.stop());
  describeEventStore('EventStoreDB', () => openEventStoreDbLog(server.url, unexpected, unexpected));
});

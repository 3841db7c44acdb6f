import { describe } from '@jest/globals';
import { openEventStoreDbLog } from '../src/event-store/eventstoredb-log.js';
import { describeEventStore } from './event-store-contract.js';

const URL = process.env['EVENTSTORE_TEST_URL'];
if (!URL) {
  process.stderr.write(
    'The EventStoreDB suites are skipped: set EVENTSTORE_TEST_URL, for example to esdb://127.0.0.1:2113?tls=false\n',
  );
}
const unexpected = (problem: Error | string) => {
  throw problem;
};
const whereThereIsOne = URL ? describe : describe.skip;
whereThereIsOne('EventStoreDB', () => {
  describeEventStore('EventStoreDB', () => openEventStoreDbLog(URL ?? '', unexpected, unexpected));
});

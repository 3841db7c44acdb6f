import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { expectCopy } from './support/assertions/expect-copy.js';
import { eventsAt, fill, logCopyWorkspace, unreadableEvents, withLogAt } from './support/fixtures/log-copies.js';
import {
  type EventStoreDbServer,
  emptyEventStoreDbSource,
  startEmptyEventStoreDb,
} from './support/servers/eventstoredb-server.js';

if (!emptyEventStoreDbSource) {
  process.stderr.write(
    'The import into EventStoreDB is skipped: set EVENTSTORE_EMPTY_TEST_URL to a server that holds nothing, or start Docker\n',
  );
}
const EVENTS = 20_000;
const place = logCopyWorkspace();
let server: EventStoreDbServer | undefined;
beforeAll(async () => {
  if (emptyEventStoreDbSource) server = await startEmptyEventStoreDb();
}, 120_000);
afterAll(async () => {
  await server?.stop();
  place.remove();
});

(emptyEventStoreDbSource ? it : it.skip)(
  'a log moves from SQLite to EventStoreDB, killed on its way, and back',
  async () => {
    const [log, file] = [place.urlOf('log.db'), place.at('log.ndjson.gz')];
    const url = server?.url as string;
    await withLogAt(log, (original) => fill(original, EVENTS, unreadableEvents('shop')));
    expect(place.run('log.db', ['export', '--output', file]).code).toBe(0);
    const total = (await eventsAt(log)).length;

    const counts: number[] = [];
    for (const enough of [1, 3000, 9000, 12_000]) {
      const { child } = place.start(url, ['import', file]);
      const stop = new AbortController();
      child.on('exit', () => stop.abort());
      await withLogAt(url, async (target) => {
        let held = 0;
        for await (const { events } of target.subscribe(undefined, stop.signal)) {
          held += events.length;
          if (held >= enough) stop.abort();
        }
      });
      child.kill('SIGKILL');
      counts.push((await eventsAt(url)).length);
    }
    expect(counts.some((count) => count > 0 && count < total)).toBe(true);
    expect(place.run(url, ['import', file])).toMatchObject({ code: 0, stderr: '' });
    await expectCopy(log, url);

    expect(place.run(url, ['import', file])).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('already'),
    });
    const back = place.at('back.ndjson');
    expect(place.run(url, ['export', '--output', back]).code).toBe(0);
    expect(place.run('back.db', ['import', back])).toMatchObject({ code: 0, stderr: '' });
    const again = await eventsAt(place.urlOf('back.db'));
    expect(again.slice(0, total).map(({ metadata }) => metadata)).toEqual(
      (await eventsAt(url)).slice(0, total).map(({ metadata }) => metadata),
    );
    expect(again.at(-1)).toMatchObject({ type: 'AuditAccessed', data: { access: 'export' } });
    expect(readFileSync(back, 'utf8').split('\n')).toHaveLength(again.length + 3);

    const refused = place.run(url, ['import', file]);
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('it has grown since') });
  },
  120_000,
);

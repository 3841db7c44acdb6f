import { openEventStore } from '../../event-store/open.js';
import { buildProjections } from './build.js';
import type { BuildReply, BuildRequest } from './build-in-process.js';

/** The process that builds a projections file: it ends with its parent, and its memory with it. */

/** The parent may be gone already, of which 'disconnect' tells. */
const send = (reply: BuildReply) => void process.send?.(reply, undefined, undefined, () => undefined);

process.once('disconnect', () => process.exit(1));
process.once('message', (request: BuildRequest) => {
  build(request).then(
    () => process.disconnect(),
    (error: Error) => {
      send({ failure: error.message });
      process.disconnect();
    },
  );
});

async function build({ url, prefix, path }: BuildRequest): Promise<void> {
  const log = await openEventStore(url, {
    prefix,
    onFatal: (error) => {
      send({ failure: error.message });
      process.exit(1);
    },
    warn: () => undefined,
  });
  await buildProjections(log, path, (progress) => send({ progress }));
  send('whole');
  await log.close();
}

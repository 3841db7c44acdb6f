import type { Command } from 'commander';
import { apiKeyStream, isApiKeyId } from '../domain/ai-api-key.js';
import { fractionBefore } from '../event-store/position.js';
import { apiKeyIdOf } from '../event-store/streams.js';
import { type ProjectionStatus, projectionStatus } from '../maintenance/projection-status.js';
import { inspectQuarantine, liftQuarantine, type Quarantined } from '../maintenance/quarantine.js';
import { rebuild } from '../maintenance/rebuild.js';
import { count, countOf } from '../quantity.js';
import { jsonText, print } from '../terminal-text.js';
import { withLog, withRedis } from './context.js';
import { duration, type ProgressBar, startProgressBar } from './progress-bar.js';

const IN_MEMORY =
  'The read model is in the memory of each instance (READ_MODEL_URL is memory:), which builds it from the log when it starts';

type Json = { readonly json?: boolean };

/** `keyledger projection`: the read model that serves lists. */
export function addProjectionCommands(program: Command): void {
  const projection = program
    .command('projection')
    .description('inspect and rebuild the read model, which serves lists');

  projection
    .command('status')
    .description('show the position and lag of the read model, and the quarantined streams')
    .option('--json', 'one JSON object')
    .action(status);

  projection
    .command('rebuild')
    .description('build the read model from the log beside the live one, then replace the live one')
    .option('--json', 'one JSON object')
    .action(rebuildProjection);

  projection
    .command('release')
    .description('fold a quarantined stream again, with a release that can read it')
    .argument('<stream>', 'aiApiKey-<id>, or only the id')
    .option('--json', 'one JSON object')
    .action(releaseStream);
}

function status({ json }: Json): Promise<void> {
  return withLog(async (log, settings) => {
    const found = await withRedis(settings, (redis) => projectionStatus(log, redis, settings.REDIS_PREFIX, Date.now()));
    if (json) print(jsonText(found ?? { inMemory: true }));
    else {
      const lines = found ? describeStatus(found) : [`${IN_MEMORY}; /metrics shows its position`];
      for (const line of lines) print(line);
    }
  });
}

function describeStatus(found: ProjectionStatus): string[] {
  const { version, generations, others, position, isOfThisLog, lag, quarantined } = found;
  const served = Object.entries(generations).map(
    ([name, partitions]) => `${name || 'nothing'} (${countOf(partitions, 'partitions')})`,
  );
  const lagText = `${countOf(lag.events, 'events')}, ${lag.events === 1 ? 'which is' : 'the first of them'} ${duration(lag.seconds)} old`;
  return [
    `Version     ${version}`,
    `Serves      ${served.join(', ')}`,
    ...(others.length > 0 ? [`Beside it   ${others.join(', ')} (being built, or to be removed)`] : []),
    `Position    ${position ?? 'none'}${isOfThisLog ? '' : ', which this log does not hold: run keyledger projection rebuild'}`,
    `Lag         ${lag.events === 0 ? 'none' : lagText}`,
    `Quarantine  ${quarantined.length === 0 ? 'empty' : countOf(quarantined.length, 'streams')}`,
    ...quarantined.map((one) => `  ${one.stream}  repository ${one.repoId}  ${causeText(one)}`),
  ];
}

const causeText = ({ cause, stream }: Quarantined): string =>
  cause
    ? `${cause.type} at revision ${cause.revision}: ${cause.fault.replaceAll('\n', ' ')}`
    : `this release can read it: keyledger projection release ${stream}`;

function rebuildProjection({ json }: Json): Promise<void> {
  return withLog(async (log, settings) => {
    const started = performance.now();
    const end = await log.end();
    const folding = startProgressBar('Folding the log');
    let writing: ProgressBar | undefined;
    const done = await withRedis(settings, (redis) =>
      rebuild(log, redis, settings.REDIS_PREFIX, {
        onFold: ({ position }) => folding.add(1, fractionBefore(position, end)),
        onWrite: (keys, total) => {
          writing ??= startProgressBar('Writing to Redis', total, 'keys');
          writing.add(keys);
        },
      }),
    ).finally(() => {
      folding.end();
      writing?.end();
    });
    const seconds = (performance.now() - started) / 1000;
    if (!done) print(json ? jsonText({ inMemory: true }) : `${IN_MEMORY}: there is nothing to rebuild`);
    else if (json) print(jsonText({ ...done, seconds, eventsPerSecond: done.events / seconds }));
    else {
      print(
        `Generation ${done.generation} is live: ${countOf(done.keys, 'keys')} of ${countOf(done.events, 'events')}, in ${duration(seconds)} (${count(done.events / seconds)} events/s)`,
      );
    }
  });
}

function releaseStream(given: string, { json }: Json): Promise<void> {
  const stream = isApiKeyId(given.toLowerCase()) ? given.toLowerCase() : given;
  const apiKeyId = isApiKeyId(stream) ? stream : apiKeyIdOf(stream);
  if (!apiKeyId) throw new Error(`${stream} is not the stream of a key`);
  return withLog(async (log, settings) => {
    const report =
      (await withRedis(settings, (redis) => liftQuarantine(log, redis, settings.REDIS_PREFIX, apiKeyId))) ??
      (await inspectQuarantine(log, apiKeyId));
    if (!report) throw new Error(`The log holds no stream ${apiKeyStream(apiKeyId)}`);
    const { quarantined, status } = report;
    if (json) print(jsonText({ ...quarantined, status }));
    if (quarantined.cause) {
      throw new Error(
        `${quarantined.stream} stays in quarantine: ${causeText(quarantined)}. Run this command with a release of Keyledger that can read it`,
      );
    }
    if (!json) print(`This release can read ${quarantined.stream}: the key is ${status}`);
  });
}

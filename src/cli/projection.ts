import type { Command } from 'commander';
import { apiKeyStream, isApiKeyId } from '../domain/ai-api-key.js';
import type { EventStore } from '../event-store/event-store.js';
import { fractionBefore } from '../event-store/position.js';
import { apiKeyIdOf } from '../event-store/streams.js';
import { findProjectionsFiles, type ProjectionsFile } from '../maintenance/compare-projections.js';
import { type ProjectionStatus, projectionStatus } from '../maintenance/projection-status.js';
import { inspectQuarantine, liftQuarantine, type Quarantined } from '../maintenance/quarantine.js';
import { rebuild } from '../maintenance/rebuild.js';
import { type RebuiltFile, rebuildProjections } from '../maintenance/rebuild-projections.js';
import { count, countOf } from '../quantity.js';
import type { Settings } from '../settings.js';
import { jsonText, print } from '../terminal-text.js';
import { withLog, withRedis } from './context.js';
import { duration, type ProgressBar, startProgressBar } from './progress-bar.js';

type Json = { readonly json?: boolean };

/** `keyledger projection`: the projections of each process, and the read model in Redis that serves lists. */
export function addProjectionCommands(program: Command): void {
  const projection = program
    .command('projection')
    .description('inspect and rebuild the projections, and the read model in Redis');

  projection
    .command('status')
    .description(
      'show how far the projections in DATA_DIR are; of a read model in Redis also lag and quarantined streams',
    )
    .option('--json', 'one JSON object')
    .action(status);

  projection
    .command('rebuild')
    .description(
      'build the projections, and the read model in Redis, from the log beside those in use, then replace them',
    )
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
    const files = findProjectionsFiles(settings.DATA_DIR);
    const found = await withRedis(settings, (redis) => projectionStatus(log, redis, settings.REDIS_PREFIX, Date.now()));
    if (json) return print(jsonText({ ...found, files }));
    for (const line of found ? describeStatus(found) : []) print(line);
    for (const line of files.map(describeFile)) print(line);
    if (files.length === 0) print(`${settings.DATA_DIR} holds no projections: a service builds them when it starts`);
  });
}

function describeFile({ path, isInUse, held }: ProjectionsFile): string {
  const use = isInUse ? 'in use' : 'not in use';
  if (!held) return `${path}  ${use}, cannot be read`;
  const { events, keys, position, quarantined } = held;
  const quarantine = quarantined === 0 ? '' : `, ${countOf(quarantined, 'keys')} in quarantine`;
  return `${path}  ${use}, ${countOf(events, 'events')} of ${countOf(keys, 'keys')} up to ${position ?? 'the beginning'}${quarantine}`;
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
    const files = await rebuildFiles(log, settings.DATA_DIR);
    const generation = await rebuildRedis(log, settings);
    if (json) return print(jsonText({ ...generation, files }));
    if (generation) {
      const { generation: name, keys, events, seconds } = generation;
      print(
        `Generation ${name} is live: ${countOf(keys, 'keys')} of ${countOf(events, 'events')}, in ${duration(seconds)} (${count(events / seconds)} events/s)`,
      );
    }
    for (const { path, isInUse } of files) {
      print(`${path} is built anew${isInUse ? ', and its process has taken it over' : ''}`);
    }
    if (!generation && files.length === 0) {
      print(
        `${settings.DATA_DIR} holds no projections: there is nothing to rebuild, a service builds them when it starts`,
      );
    }
  });
}

async function rebuildFiles(log: EventStore, folder: string): Promise<RebuiltFile[]> {
  const progress = startProgressBar('Building the projections');
  let shown = 0;
  return rebuildProjections(log, folder, ({ events, of }) => {
    progress.add(events - shown, events / of);
    shown = events;
  }).finally(() => progress.end());
}

async function rebuildRedis(log: EventStore, settings: Settings) {
  const started = performance.now();
  const end = await log.end();
  let folding: ProgressBar | undefined;
  let writing: ProgressBar | undefined;
  const done = await withRedis(settings, (redis) =>
    rebuild(log, redis, settings.REDIS_PREFIX, {
      onFold: ({ position }) => {
        folding ??= startProgressBar('Folding the log');
        folding.add(1, fractionBefore(position, end));
      },
      onWrite: (keys, total) => {
        writing ??= startProgressBar('Writing to Redis', total, 'keys');
        writing.add(keys);
      },
    }),
  ).finally(() => {
    folding?.end();
    writing?.end();
  });
  const seconds = (performance.now() - started) / 1000;
  return done && { ...done, seconds, eventsPerSecond: done.events / seconds };
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

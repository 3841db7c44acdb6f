import { type Command, Option } from 'commander';
import { apiKeyAsOfView, repositoryAsOf } from '../audit/as-of.js';
import { type CouldUse, couldUse } from '../audit/could-use.js';
import { formatPointInTime, parsePointInTime } from '../audit/point-in-time.js';
import { STATUSES, type Status } from '../domain/ai-api-key.js';
import { matchesFilter } from '../projections/list-query.js';
import { isAccessKey } from '../security/credentials.js';
import { jsonText, print, printError, terminalText } from '../terminal-text.js';
import { recordCommandLineAccess, withLog } from './context.js';
import { repository } from './options.js';

const AT = 'a time with its zone, such as 2030-01-31T12:00:00Z, or a position of the log';

/** `keyledger audit as-of` and `keyledger audit could-use`: the state at a point in time. */
export function addAsOfCommands(audit: Command): void {
  audit
    .command('as-of')
    .description('the keys of a repository at a point in time, each with the event that led to its state')
    .requiredOption('--repo <id>', 'repository id', repository)
    .requiredOption('--at <time or position>', AT)
    .option('--deleted', 'include deleted keys')
    .addOption(new Option('--status <status>', 'only keys of this status').choices(STATUSES))
    .option('--json', 'one JSON object per line')
    .action(auditAsOf);

  audit
    .command('could-use')
    .description('whether a key could be used at a point in time, and the event that decides it')
    .argument('<access key>', 'FB_AI_…')
    .requiredOption('--at <time or position>', AT)
    .option('--json', 'one JSON object')
    .action(auditCouldUse);
}

type AsOfOptions = { repo: string; at: string; deleted?: boolean; status?: Status; json?: boolean };

async function auditAsOf({ repo, at, deleted, status, json }: AsOfOptions): Promise<void> {
  await withLog(async (log) => {
    const pointInTime = await parsePointInTime(at, log, Date.now());
    const includeDeleted = deleted === true || status === 'deleted';
    const filters = { ...(deleted ? { include: 'deleted' } : {}), ...(status ? { status } : {}) };
    const query = { asOf: formatPointInTime(pointInTime), ...filters };
    await recordCommandLineAccess(log, { access: 'as-of', repoId: repo, apiKeyId: null, query });
    const keys = (await repositoryAsOf(log, repo, pointInTime))
      .filter((key) => matchesFilter(key, { includeDeleted, status }, pointInTime.time))
      .map((key) => apiKeyAsOfView(key, pointInTime));
    if (json) for (const key of keys) print(jsonText(key));
    else if (keys.length === 0) printError(`No key of ${repo} at ${formatPointInTime(pointInTime)}`);
    else {
      const cells = keys.map((key) => [key.id, key.name, key.key, key.aiType, key.status, key.position]);
      printTable([['id', 'name', 'key', 'type', 'status', 'position'], ...cells]);
    }
  });
}

function printTable(raw: readonly (readonly string[])[]): void {
  // Escapes first, because a column is as wide as the text that it shows.
  const rows = raw.map((row) => row.map(terminalText));
  const widths = rows.reduce<number[]>(
    (widest, row) => row.map((cell, i) => Math.max(cell.length, widest[i] ?? 0)),
    [],
  );
  for (const row of rows) {
    print(
      row
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join('  ')
        .trimEnd(),
    );
  }
}

async function auditCouldUse(
  accessKey: string,
  { at, json }: { readonly at: string; readonly json?: boolean },
): Promise<void> {
  // Does not quote the argument: it may be a secret by mistake.
  if (!isAccessKey(accessKey)) throw new Error('This is not an access key, which starts with FB_AI_');
  await withLog(async (log) => {
    const pointInTime = await parsePointInTime(at, log, Date.now());
    const answer = await couldUse(log, accessKey, pointInTime);
    const { repoId, apiKeyId } = answer;
    const asOf = formatPointInTime(pointInTime);
    await recordCommandLineAccess(log, {
      access: 'could-use',
      repoId,
      apiKeyId,
      query: { asOf, key: accessKey },
    });
    if (json) print(jsonText({ key: accessKey, asOf, ...answer }));
    else for (const line of describeAnswer(answer, asOf)) print(line);
  });
}

function describeAnswer({ couldUse, status, apiKeyId, repoId, expiresAt, event }: CouldUse, asOf: string): string[] {
  const is = status === 'expired' ? `expired at ${expiresAt}` : status;
  const first = `${couldUse ? 'yes' : 'no'}: at ${asOf} it was ${is}`;
  if (!event) return ['no: no key has this access key'];
  const who = event.actor ? `${event.actor.subject} (${event.actor.issuer})` : 'unknown';
  return [
    first,
    `key      ${apiKeyId} of ${repoId ?? 'an unknown repository'}`,
    `decided  by ${event.type} at ${event.at}, caused by ${who}, position ${event.position}`,
  ];
}

import { type Command, InvalidArgumentError } from 'commander';
import type { HistoryEntry } from '../audit/describe-event.js';
import { parseBound } from '../audit/event-range.js';
import { history, webhookHistory } from '../audit/history.js';
import { repositoryHistory } from '../audit/repository-history.js';
import { isApiKeyId } from '../domain/ai-api-key.js';
import { EVENT_TYPES } from '../event-store/event-schemas.js';
import { jsonText, print } from '../terminal-text.js';
import { addAsOfCommands } from './audit-as-of.js';
import { auditVerify } from './audit-verify.js';
import { recordCommandLineAccess, withLog } from './context.js';
import { repository } from './options.js';

/** `keyledger audit`: queries of the log. */
export function addAuditCommands(program: Command): void {
  const audit = program.command('audit').description('query and verify the log');

  audit
    .command('history')
    .description('every event of a key or webhook, including a deleted one')
    .argument('<id>', 'id of the key or webhook')
    .option('--json', 'one JSON object per line')
    .action(auditHistory);

  audit
    .command('events')
    .description('every event of a repository, oldest first')
    .requiredOption('--repo <id>', 'repository id', repository)
    .option('--from <time or position>', 'events that occurred then or later, or follow this position')
    .option('--to <time or position>', 'events that occurred then or before, or up to and including this position')
    .option('--type <types>', 'event types, separated by commas', eventTypes)
    .option('--actor <subject>', 'only events that this subject caused')
    .option('--key <id>', 'only events of this key', keyId)
    .option('--json', 'one JSON object per line')
    .action(auditEvents);

  audit
    .command('verify')
    .description(
      'check the log, and compare what Redis serves with it. Exit code 0: equal; 1: different, or the log has a fault; 2: cannot tell',
    )
    .option('--json', 'one JSON object per line')
    .action(auditVerify);

  addAsOfCommands(audit);
}

async function auditHistory(given: string, { json }: { json?: boolean }): Promise<void> {
  const id = given.toLowerCase();
  if (!isApiKeyId(id)) throw new Error(`${given} is not the id of a key or webhook`);
  await withLog(async (log) => {
    const isWebhook = !(await any(history(log, id))) && (await any(webhookHistory(log, id)));
    await recordCommandLineAccess(log, {
      access: 'history',
      repoId: null,
      apiKeyId: isWebhook ? null : id,
      query: isWebhook ? { webhookId: id } : {},
    });
    let events = 0;
    for await (const entry of (isWebhook ? webhookHistory : history)(log, id)) {
      events++;
      print(json ? jsonText(entry) : formatEntry(entry));
    }
    if (events === 0) throw new Error(`The log holds no key or webhook ${id}`);
  });
}

async function any(entries: AsyncIterable<unknown>): Promise<boolean> {
  for await (const _ of entries) return true;
  return false;
}

type EventsOptions = {
  readonly repo: string;
  readonly from?: string;
  readonly to?: string;
  readonly type?: readonly string[];
  readonly actor?: string;
  readonly key?: string;
  readonly json?: boolean;
};

async function auditEvents({ repo, from, to, type, actor, key, json }: EventsOptions): Promise<void> {
  await withLog(async (log) => {
    const bound = (text: string | undefined) => (text === undefined ? undefined : parseBound(text, log.logId));
    const query = { from: bound(from), to: bound(to), types: type, subject: actor, apiKeyId: key };
    const end = await log.end();
    const asked = { from, to, type: type?.join(), actor };
    await recordCommandLineAccess(log, {
      access: 'audit',
      repoId: repo,
      apiKeyId: key ?? null,
      query: Object.fromEntries(Object.entries(asked).flatMap(([name, value]) => (value ? [[name, value]] : []))),
    });
    for await (const entry of repositoryHistory(log, repo, query, end)) {
      print(json ? jsonText(entry) : `${formatEntry(entry)}  ${entry.apiKeyId ?? entry.webhookId ?? ''}`);
    }
  });
}

function formatEntry({ type, at, actor, changes, reason, unreadable, accessed }: HistoryEntry): string {
  const fields = Object.entries(changes).map(([name, { from, to }]) =>
    from === null ? `${name}=${JSON.stringify(to)}` : `${name} ${JSON.stringify(from)} -> ${JSON.stringify(to)}`,
  );
  if (reason != null) fields.push(`reason=${JSON.stringify(reason)}`);
  if (unreadable !== undefined) fields.push(`unreadable: ${unreadable.replaceAll('\n', ' ')}`);
  if (accessed) fields.push(`${accessed.access} from ${accessed.from}${accessed.verified ? '' : ' (not verified)'}`);
  const who = actor ? `${actor.subject} (${actor.issuer})` : 'unknown';
  return `${at}  ${type.padEnd(19)} by ${who}  ${fields.join(', ')}`;
}

function keyId(text: string): string {
  const id = text.toLowerCase();
  if (!isApiKeyId(id)) throw new InvalidArgumentError('It must be the id of a key, a UUID.');
  return id;
}

function eventTypes(text: string): string[] {
  const types = text.split(',').map((type) => type.trim());
  if (types.every((type) => EVENT_TYPES.includes(type))) return types;
  throw new InvalidArgumentError(`It must be one or more of ${EVENT_TYPES.join(', ')}, separated by commas.`);
}

import type { Command } from 'commander';
import { history } from '../audit/history.js';
import { recordAccess } from '../commands/record-access.js';
import { isApiKeyId } from '../domain/ai-api-key.js';
import { addAsOfCommands } from './audit-as-of.js';
import { commandLine, withLog } from './tools.js';

/** Exit code of a program that SIGPIPE ends, in a shell. */
const READER_GONE = 141;

/** `keyledger audit`: what the log says. */
export function addAuditCommands(program: Command): void {
  const audit = program.command('audit').description('what the log says');
  audit.hook('preAction', () => void process.stdout.on('error', endWithReader));

  audit
    .command('history')
    .description('every event of a key, a deleted one too')
    .argument('<apiKeyId>', 'id of the key')
    .option('--json', 'one JSON object a line')
    .action(auditHistory);

  addAsOfCommands(audit);
}

/** Whoever reads what is printed may stop, such as `head`: then this ends as a program ends that SIGPIPE ends. */
function endWithReader(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EPIPE') throw error;
  process.exit(READER_GONE);
}

async function auditHistory(apiKeyId: string, { json }: { json?: boolean }): Promise<void> {
  if (!isApiKeyId(apiKeyId)) throw new Error(`${apiKeyId} is not the id of a key`);
  await withLog(async (log) => {
    await recordAccess(commandLine(log), { access: 'history', repoId: null, apiKeyId, query: {} });
    let events = 0;
    for await (const entry of history(log, apiKeyId)) {
      events++;
      const { type, at, actor, says } = entry;
      const facts = Object.entries(says).map(([name, value]) => `${name}=${JSON.stringify(value)}`);
      const who = actor ? `${actor.subject} (${actor.issuer})` : 'unknown';
      console.log(json ? JSON.stringify(entry) : `${at}  ${type.padEnd(19)} by ${who}  ${facts.join(' ')}`);
    }
    if (events === 0) throw new Error(`There is no key ${apiKeyId} in this log`);
  });
}

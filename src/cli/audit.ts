import type { Command } from 'commander';
import { history } from '../audit/history.js';
import { recordAccess } from '../commands/record-access.js';
import { isApiKeyId } from '../domain/ai-api-key.js';
import { addAsOfCommands } from './audit-as-of.js';
import { auditVerify } from './audit-verify.js';
import { commandLine, withLog } from './tools.js';

/** `keyledger audit`: what the log says. */
export function addAuditCommands(program: Command): void {
  const audit = program.command('audit').description('what the log says');

  audit
    .command('history')
    .description('every event of a key, a deleted one too')
    .argument('<apiKeyId>', 'id of the key')
    .option('--json', 'one JSON object a line')
    .action(auditHistory);

  audit
    .command('verify')
    .description(
      'is the log sound, and is what Redis serves what the log says? Exit code 0 yes, 1 no, 2 cannot tell',
    )
    .option('--json', 'one JSON object a line')
    .action(auditVerify);

  addAsOfCommands(audit);
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

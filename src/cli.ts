#!/usr/bin/env node
import { resolve } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { Command, InvalidArgumentError } from 'commander';
import { addAuditCommands } from './cli/audit.js';
import { endWhenOutputFails, explain, LOG_FAILED } from './cli/context.js';
import { addLogCommands } from './cli/log.js';
import { operatingSystemUser, refuseRepeatedOptions, repository } from './cli/options.js';
import { ownCommand } from './cli/own-command.js';
import { addProjectionCommands } from './cli/projection.js';
import { type Config, loadConfig } from './config.js';
import { isSubject, ROLES, type Role } from './domain/authorization.js';
import { LogOutput } from './log-output.js';
import { type Service, startService } from './main.js';
import { redactUrl } from './security/redact-url.js';
import { mintToken } from './security/tokens.js';
import { ConfigError } from './settings.js';
import { print, printError, terminalOutput, terminalText } from './terminal-text.js';
import { VERSION } from './version.js';

const STOP_LIMIT_MS = 9500;
/** Time to write the last log lines. */
const FLUSH_MS = 1000;

// V8 lets the heap double or more before it collects garbage; the memory is worth more than the time.
setFlagsFromString('--heap-growing-percent=40');

const program = new Command('keyledger')
  .configureOutput(terminalOutput)
  .description('Event-sourced AI API keys. Settings come from the environment: see docs/reference/configuration.md')
  .version(VERSION, '--version', 'print the release of Keyledger')
  .showHelpAfterError();

program.command('serve').description('run the service').action(serve);

program
  .command('token')
  .description('print a bearer token for a role in a repository')
  .requiredOption('--repo <id>', 'repository id, or * for every repository', (text) =>
    text === '*' ? text : repository(text),
  )
  .requiredOption('--role <role>', ROLES.join(', '), role)
  .option('--subject <subject>', 'subject of the token', subject, operatingSystemUser())
  .option('--ttl <duration>', 'lifetime: 90s, 15m, 1h or 7d', seconds, 3600)
  .action(token);

addAuditCommands(program);
addProjectionCommands(program);
addLogCommands(program);
refuseRepeatedOptions(program);

process.stdout.on('error', endWhenOutputFails);
try {
  await program.parseAsync();
} catch (error) {
  const lines = error instanceof ConfigError ? error.problems : [`keyledger: ${explain(error)}`];
  for (const line of lines) printError(line);
  // Open handles must not keep the process alive.
  process.exit(1);
}

async function serve(): Promise<void> {
  const config = loadConfig(process.env);
  let service: Service | undefined;
  let stopping = false;
  const stop = async (code: number) => {
    if (stopping) return;
    stopping = true;
    setTimeout(() => process.exit(code), STOP_LIMIT_MS).unref();
    await service?.stop();
    await output.end(FLUSH_MS);
    process.exit(code);
  };
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => void stop(0));
  process.stdout.off('error', endWhenOutputFails);
  const output = new LogOutput(1);
  try {
    service = await startService(config, output, () => void stop(LOG_FAILED));
  } catch (error) {
    await output.end(FLUSH_MS);
    throw error;
  }
  output.write(greeting(config, service));
}

function greeting({ EVENT_STORE_URL, DATA_DIR, generated, tokens }: Config, { url, metricsUrl }: Service): string {
  const mint =
    tokens.key instanceof URL ? `comes from ${tokens.issuer}` : `${ownCommand()} token --repo demo --role admin`;
  const lines = [
    `Keyledger listens on   ${url}`,
    `Its log is             ${redactUrl(EVENT_STORE_URL)}`,
    `Its data directory is  ${resolve(DATA_DIR)}`,
    ...generated.map(
      (file) => `It created the key     ${resolve(file)} (keep a copy: what it seals or signs is lost without it)`,
    ),
    `Its docs are at        ${url}/docs`,
    ...(metricsUrl === undefined ? [] : [`Its metrics are at     ${metricsUrl}`]),
    `A token                ${mint}`,
  ];
  return `\n${lines.map(terminalText).join('\n')}\n\n`;
}

async function token({ repo, role, subject, ttl }: { repo: string; role: Role; subject: string; ttl: number }) {
  const { tokens, generated, JWT_REPOS_CLAIM } = loadConfig(process.env);
  for (const file of generated) printError(`Created the key ${resolve(file)}`);
  const { key } = tokens;
  if (key instanceof URL) throw new ConfigError('JWT_JWKS_URL is set: tokens come from the issuer of that key set');
  const grant = { subject, grants: { [repo]: role }, claim: JWT_REPOS_CLAIM, ttlSeconds: ttl };
  print(await mintToken({ ...tokens, key }, grant, Date.now()));
}

function subject(text: string): string {
  if (!isSubject(text)) throw new InvalidArgumentError('It must not be empty or contain control characters.');
  return text;
}

function role(text: string): Role {
  const known = ROLES.find((name) => name === text);
  if (!known) throw new InvalidArgumentError(`It must be one of ${ROLES.join(', ')}.`);
  return known;
}

function seconds(text: string): number {
  const [, amount, unit] = /^(\d{1,6})([smhd])$/.exec(text) ?? [];
  if (!amount || Number(amount) === 0) throw new InvalidArgumentError('Write it like 90s, 15m, 1h or 7d.');
  return Number(amount) * { s: 1, m: 60, h: 3600, d: 86400 }[unit as 's' | 'm' | 'h' | 'd'];
}

import { execFile } from 'node:child_process';
import { userInfo } from 'node:os';
import { promisify } from 'node:util';
import { cell, sentence, table } from './markdown.js';
import { CLI } from './service.js';

/** A command as its own help describes it. */
export type CommandHelp = {
  readonly command: string;
  readonly usage: string;
  readonly description: string;
  readonly arguments: readonly Term[];
  readonly options: readonly Term[];
  readonly commands: readonly Term[];
};
/** What the help lists: the words to write, and what they mean. */
type Term = readonly [words: string, meaning: string];

/** A section for each command. */
export async function cliReference(): Promise<string> {
  const all = await commandHelp();
  return all
    .map(({ command, usage, description, ...lists }) =>
      [
        `## \`${command}\``,
        sentence(description),
        `\`\`\`text\n${usage}\n\`\`\``,
        ...Object.entries(lists)
          .filter(([, terms]) => terms.length > 0)
          .map(([name, terms]) => {
            const rows = terms.map(([words, meaning]) => [`\`${words}\``, cell(meaning)]);
            return table([name.replace(/^(.)(.*)s$/, (_, a, b) => a.toUpperCase() + b), 'Meaning'], rows);
          }),
      ].join('\n\n'),
    )
    .join('\n\n');
}

/** The help of a command and of all below it, in the order in which it lists them. */
export async function commandHelp(path: readonly string[] = []): Promise<CommandHelp[]> {
  const { stdout } = await promisify(execFile)(process.execPath, [CLI, ...path, '--help']);
  const [usage = '', description = '', ...rest] = stdout.trim().split('\n\n');
  const terms = (title: string) => termsOf(rest.find((part) => part.startsWith(`${title}:\n`)) ?? '');
  const commands = terms('Commands').filter(([words]) => !words.startsWith('help '));
  const names = commands.map(([words]) => words.split(' ')[0] ?? '');
  const below = await Promise.all(names.map((name) => commandHelp([...path, name])));
  const own = {
    command: ['keyledger', ...path].join(' '),
    usage: joined(usage).replace(/^Usage: /, ''),
    description: joined(description),
    arguments: terms('Arguments'),
    options: terms('Options').filter(([words]) => words !== '-h, --help'),
    commands,
  };
  return [own, ...below.flat()];
}

/** An entry begins two columns in; its meaning follows after two spaces or more, and goes on further in. */
function termsOf(part: string): Term[] {
  const entries = part.split(/\n(?= {2}\S)/).slice(1);
  return entries.map((entry): Term => {
    const [, words = '', meaning = ''] = /^ {2}(.+?)(?: {2,}([\s\S]*))?$/.exec(entry) ?? [];
    return [words.trim(), joined(meaning).replace(`"${userInfo().username}"`, "the operating system's user")];
  });
}

const joined = (text: string): string => text.replaceAll(/\s+/g, ' ').trim();

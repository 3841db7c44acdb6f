/**
 * What the command line prints. Names, subjects, reasons, paths and the messages of others come from outside: raw, a line
 * feed in one of them would be a false line of the audit, an escape sequence would command the terminal, and a
 * bidirectional or invisible character would make one name look like another.
 */

/** Controls (C0, DEL, C1), lone surrogates, separators of lines, and what is formatting or has no form of its own. */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu;

const codeUnits = (text: string): string =>
  Array.from(
    { length: text.length },
    (_, i) => `\\u${text.charCodeAt(i).toString(16).padStart(4, '0')}`,
  ).join('');

/** Text on one line of a terminal: unsafe characters as `\uXXXX`, line feeds among them. */
export const terminalText = (text: string): string => text.replaceAll(UNSAFE, codeUnits);

/** The same, line by line: for a text whose line feeds are ours. */
export const terminalLines = (text: string): string => text.split(/\r?\n/).map(terminalText).join('\n');

/** JSON on one line, in which unsafe characters stand as `\uXXXX`, too: it is the same value for who parses it. */
export const jsonText = (value: unknown): string => terminalText(JSON.stringify(value));

/** Prints one line on standard output. */
export const print = (line: string): void => console.log(terminalText(line));

/** Prints one line on standard error. */
export const printError = (line: string): void => console.error(terminalText(line));

const SUGGESTION = '\n(Did you mean ';

/** For commander: its help is ours, and its errors quote arguments. */
export const terminalOutput = {
  writeOut: (text: string): void => void process.stdout.write(terminalLines(text)),
  writeErr: (text: string): void => void process.stderr.write(terminalLines(text)),
  outputError: (text: string, write: (text: string) => void): void =>
    write(`${text.trimEnd().split(SUGGESTION).map(terminalText).join(SUGGESTION)}\n`),
};

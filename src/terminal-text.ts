/**
 * Safe output of the command line. Names, subjects, reasons, paths and messages come from outside: raw, a line feed in
 * one of them would forge a line of the audit, an escape sequence would control the terminal, and a bidirectional or
 * invisible character would make one name look like another.
 */

/** Controls (C0, DEL, C1), lone surrogates, line separators, format characters, and invisible characters. */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]/gu;

const codeUnits = (text: string): string =>
  Array.from({ length: text.length }, (_, i) => `\\u${text.charCodeAt(i).toString(16).padStart(4, '0')}`).join('');

/** Text on one line of a terminal, with unsafe characters, including line feeds, as `\uXXXX`. */
export const terminalText = (text: string): string => text.replaceAll(UNSAFE, codeUnits);

/** Escapes each line, for a text with line feeds of our own. */
export const terminalLines = (text: string): string => text.split(/\r?\n/).map(terminalText).join('\n');

/** JSON on one line, with unsafe characters as `\uXXXX`; it parses to the same value. */
export const jsonText = (value: unknown): string => terminalText(JSON.stringify(value));

/** Prints one line on standard output. */
export const print = (line: string): void => console.log(terminalText(line));

/** Prints one line on standard error. */
export const printError = (line: string): void => console.error(terminalText(line));

const SUGGESTION = '\n(Did you mean ';

/** Output for commander: its help is our own text, and its errors quote arguments. */
export const terminalOutput = {
  writeOut: (text: string): void => void process.stdout.write(terminalLines(text)),
  writeErr: (text: string): void => void process.stderr.write(terminalLines(text)),
  outputError: (text: string, write: (text: string) => void): void =>
    write(`${text.trimEnd().split(SUGGESTION).map(terminalText).join(SUGGESTION)}\n`),
};

import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { hostname, userInfo } from 'node:os';
import { join, resolve } from 'node:path';
import { fromMarkdown } from 'mdast-util-from-markdown';

/** A block of commands, the output that the page documents for it, and where both stand in the text. */
export type Block = {
  readonly commands: string;
  readonly output: string;
  readonly line: number;
  readonly begin: number;
  readonly end: number;
};

/** Every `sh` block of a page, with the `text` or `json` block that follows it directly. */
export function blocksOf(markdown: string): Block[] {
  const nodes = fromMarkdown(markdown).children;
  return nodes.flatMap((node, i): Block[] => {
    if (node.type !== 'code' || node.lang !== 'sh' || !node.position) return [];
    const next = nodes[i + 1];
    const shown = next?.type === 'code' && next.lang !== 'sh' ? next : undefined;
    const { start, end } = node.position;
    return [
      {
        commands: node.value,
        output: shown?.value ?? '',
        line: start.line,
        begin: end.offset ?? 0,
        end: shown?.position?.end.offset ?? end.offset ?? 0,
      },
    ];
  });
}

/**
 * Runs blocks in one bash, in order, as a reader pastes them.
 * @param folder where bash runs; the tour writes below its `data`
 * @returns the output of each block, as on port 8080
 */
export async function runBlocks(
  blocks: readonly Block[],
  { url, dataDir, folder }: { readonly url: string; readonly dataDir: string; readonly folder: string },
): Promise<string[]> {
  mkdirSync(join(folder, 'data'), { recursive: true });
  const address = url.replace('http://', '');
  const env = { PATH: process.env['PATH'], HOME: folder, DATA_DIR: dataDir };
  const bash = spawn('bash', ['--noprofile', '--norc'], {
    cwd: folder,
    env,
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const output = bash.stdout.setEncoding('utf8')[Symbol.asyncIterator]();
  const cli = [process.execPath, resolve('dist/src/cli.js')].map((word) => JSON.stringify(word)).join(' ');
  // In a clone npx finds the command of the clone; here it is the built one.
  bash.stdin.write(`exec 2>&1\nnpx() { shift; ${cli} "$@"; }\n`);
  const outputs: string[] = [];
  let printed = '';
  for (const [i, { commands }] of blocks.entries()) {
    const mark = `-- end of block ${i} --`;
    bash.stdin.write(`${commands.replaceAll('127.0.0.1:8080', address)}\nprintf '%s\\n' '${mark}'\n`);
    while (!printed.includes(mark)) {
      const { value, done } = await output.next();
      if (done) throw new Error(`bash ended in block ${i}: ${commands}\n${printed}`);
      printed += value;
    }
    const [own = '', rest = ''] = printed.split(`${mark}\n`);
    outputs.push(own.replaceAll(address, '127.0.0.1:8080').trim());
    printed = rest;
  }
  bash.stdin.end();
  return outputs;
}

const UUID = '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}';
/**
 * What differs from run to run, and what stands for it. Ids are numbered, so that one that should be another's shows.
 */
const VOLATILE: readonly (readonly [pattern: RegExp, name: string])[] = [
  [/secret_[A-Za-z0-9]+…?|secret_…/g, 'secret'],
  [/eyJ[\w.-]*…?/g, 'token'],
  [/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/g, 'time'],
  [new RegExp(`(?<=${UUID}):[0-9a-f]{16,}(?:\\.[0-9a-f]+)?`, 'g'), 'place'],
  [/(?<="(?:staleness|elapsed)": ?)[\d.]+/g, 'seconds'],
  [/\b[0-9a-f]{64}\b/g, 'hash'],
  [/[\d.]+(?= s$)/gm, 'seconds'],
];
const NUMBERED = new RegExp(`${UUID}|FB_AI_[A-Za-z0-9]+`, 'g');

/** Outputs of one run with stand-ins for what is another in every run. JSON is compared without its white space. */
export function shapesOf(outputs: readonly string[]): string[] {
  const seen = new Map<string, string>();
  const numbered = (id: string) => {
    const known = seen.get(id) ?? `<id ${seen.size + 1}>`;
    seen.set(id, known);
    return known;
  };
  return outputs.map((output) =>
    VOLATILE.reduce((text, [pattern, name]) => text.replace(pattern, `<${name}>`), compact(output)).replace(
      NUMBERED,
      numbered,
    ),
  );
}

function compact(output: string): string {
  const json = parsed(output);
  return json === undefined ? output : JSON.stringify(json);
}

/** The JSON object that an output is; undefined if it is anything else. */
function parsed(output: string): unknown {
  try {
    return output.startsWith('{') ? JSON.parse(output) : undefined;
  } catch {
    return undefined;
  }
}

/** An output as the page shows it: indented JSON, no secret, and no name of the machine that it ran on. */
export function shown(output: string): string {
  const text = output
    .replaceAll(/secret_[A-Za-z0-9]+/g, 'secret_…')
    .replaceAll(/eyJ[\w.-]+/g, 'eyJ…')
    .replaceAll(`command line on ${hostname()}`, 'command line on workstation')
    .replaceAll(`"subject":"${userInfo().username}"`, '"subject":"operator"');
  const json = parsed(text);
  if (json !== undefined) return `\`\`\`json\n${JSON.stringify(json, null, 2)}\n\`\`\``;
  return text === '' ? '' : `\`\`\`text\n${text}\n\`\`\``;
}

/** Writes the outputs of a run into the page that the blocks are of. */
export function writeOutputs(file: string, blocks: readonly Block[], outputs: readonly string[]): void {
  const page = readFileSync(file, 'utf8');
  const written = blocks.reduceRight((text, { begin, end }, i) => {
    const output = shown(outputs[i] ?? '');
    return `${text.slice(0, begin)}${output === '' ? '' : `\n\n${output}`}${text.slice(end)}`;
  }, page);
  writeFileSync(file, written);
}

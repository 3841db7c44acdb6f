import { createReadStream, existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** A secret as it is given: nothing else looks like it. */
const SECRET = /secret_[0-9A-Za-z]{43,}/;
const LONGEST = 64;

/** No secret is in what was printed. */
export function checkOutputs(outputs: Readonly<Record<string, string>>): string[] {
  return Object.entries(outputs).flatMap(([name, text]) => {
    const [secret] = SECRET.exec(text) ?? [];
    return secret ? [`${name} holds ${secret.slice(0, 12)}…`] : [];
  });
}

/** No secret is in any file: those of the log, of Redis, of the service, and those of the torture itself. */
export async function checkFiles(folder: string): Promise<string[]> {
  const found: string[] = [];
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    // What is gone meanwhile, as what SQLite has beside its file, was put into others.
    if (!entry.isFile() || !existsSync(path)) continue;
    const secret = await secretIn(path);
    if (secret) found.push(`${path.slice(folder.length + 1)} holds ${secret.slice(0, 12)}…`);
  }
  return found;
}

async function secretIn(path: string): Promise<string | undefined> {
  let before = '';
  for await (const chunk of createReadStream(path, { encoding: 'latin1', highWaterMark: 2 ** 20 })) {
    const text = before + chunk;
    const [secret] = SECRET.exec(text) ?? [];
    if (secret) return secret;
    before = text.slice(-LONGEST);
  }
  return undefined;
}

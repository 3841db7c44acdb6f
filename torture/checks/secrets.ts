import { createReadStream, existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** Pattern of an issued secret; nothing else matches it. */
const SECRET = /secret_[0-9A-Za-z]{43,}/;
const LONGEST = 64;

/** No output holds a secret. */
export function checkOutputs(outputs: Readonly<Record<string, string>>): string[] {
  return Object.entries(outputs).flatMap(([name, text]) => {
    const [secret] = SECRET.exec(text) ?? [];
    return secret ? [`${name} holds ${secret.slice(0, 12)}…`] : [];
  });
}

/** No file holds a secret: of the log, of Redis, of the service, or of the torture itself. */
export async function checkFiles(folder: string): Promise<string[]> {
  const found: string[] = [];
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    // A file that has disappeared, such as those that SQLite keeps beside its own, has been merged into others.
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

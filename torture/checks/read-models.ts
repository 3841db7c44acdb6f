import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout } from 'node:timers/promises';
import type { World } from '../world.js';
import type { Lives } from './lives.js';

/** Time for a read model to recover from any fault (milliseconds). */
const RECOVERY_TIMEOUT_MS = 60_000;

/** In the end both instances list what the log says, and Redis holds the same. */
export async function checkReadModels(world: World, lives: Lives, end: string): Promise<string[]> {
  const found: string[] = [];
  const expected = expectedLists(lives);
  const token = await world.tokenOf('admin');
  for (const [number, { url }] of world.instances.entries()) {
    for (const [repoId, list] of expected) {
      const shown = await listOf(`${url}/repo/${repoId}/ai/apikey?include=deleted`, token, end);
      if (typeof shown === 'string') {
        found.push(`instance ${number} lists nothing of ${repoId}: ${shown}`);
        return found;
      }
      const differing = [...new Set([...shown, ...list])].filter((one) => !(shown.has(one) && list.has(one)));
      if (differing.length > 0) {
        found.push(`instance ${number}, ${repoId}: differs from the log in ${differing.slice(0, 4).join('; ')}`);
      }
    }
  }
  return [...found, ...(await auditVerify(world, lives))];
}

type Shown = { readonly id: string; readonly name: string; readonly status: string };
const textOf = ({ id, name, status }: Shown) => `${id} ${status} ${name}`;

function expectedLists(lives: Lives): Map<string, Set<string>> {
  const lists = new Map<string, Set<string>>();
  for (const [id, life] of lives) {
    const state = life.at(-1)?.state;
    if (!state) continue;
    const { repoId, name, status } = state;
    const list = lists.get(repoId) ?? new Set();
    lists.set(repoId, list.add(textOf({ id, name, status })));
  }
  return lists;
}

/** @returns the list, or why there is none */
async function listOf(url: string, token: string, minPosition: string): Promise<Set<string> | string> {
  const headers = { authorization: `Bearer ${token}`, 'keyledger-min-position': minPosition };
  const giveUpAt = performance.now() + RECOVERY_TIMEOUT_MS;
  for (;;) {
    const response = await fetch(url, { headers }).catch(() => undefined);
    const answer = (await response?.json().catch(() => undefined)) as { apiKeys?: Shown[]; code?: string };
    if (answer?.apiKeys) return new Set(answer.apiKeys.map(textOf));
    if (performance.now() > giveUpAt) return answer?.code ?? 'no answer';
    await setTimeout(100);
  }
}

/** `keyledger audit verify` finds no violation in the log but the unreadable events, and no difference in Redis. */
async function auditVerify({ settings }: World, lives: Lives): Promise<string[]> {
  const verify = spawn(process.execPath, ['dist/src/cli.js', 'audit', 'verify', '--json'], {
    env: { PATH: process.env['PATH'], ...settings },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let printed = '';
  verify.stdout.setEncoding('utf8').on('data', (text) => {
    printed += text;
  });
  const [code] = await once(verify, 'close');
  const isQuarantined = (stream: string) =>
    lives.get(stream.replace('aiApiKey-', ''))?.some(({ state }) => state.status === 'unavailable');
  const lines = printed
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as AuditLine);
  const wrong = lines.filter(
    ({ kind, stream, verdict }) =>
      kind === 'difference' ||
      kind === 'reason' ||
      (kind === 'fault' && !isQuarantined(stream ?? '')) ||
      verdict === 'could not tell',
  );
  if (!lines.some(({ verdict }) => verdict)) return [`audit verify ended with ${code} and no verdict`];
  return wrong.map((line) => `audit verify: ${JSON.stringify(line)}`);
}

type AuditLine = { readonly kind: string; readonly stream?: string; readonly verdict?: string };

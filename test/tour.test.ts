import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { type Block, blocksOf, runBlocks, shapesOf, shown, writeOutputs } from '../scripts/tour.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';
import { type Child, spawnService } from './support/servers/child-service.js';

/**
 * The pages that a reader pastes, block by block into one bash, each over a log of its own. `UPDATE_TOUR=1` writes the
 * outputs into the pages before they are compared.
 */
const PAGES = ['README.md', 'docs/tour.md'];

/** The blocks that the service has to run for already. */
const pasted = (file: string): Block[] =>
  blocksOf(readFileSync(file, 'utf8')).filter(({ commands }) => !/^(npm ci|docker) /m.test(commands));

describe.each(PAGES)('%s', (file) => {
  const blocks = pasted(file);
  const data = temporaryFolder();
  const folder = temporaryFolder();
  let service: Child;
  let printed: string[];
  let documented: string[];
  beforeAll(async () => {
    service = await spawnService(data.path);
    const outputs = await runBlocks(blocks, { url: service.url, dataDir: data.path, folder: folder.path });
    if (process.env['UPDATE_TOUR']) writeOutputs(file, blocks, outputs);
    // The page has been through the same, so that names of this machine are no difference.
    const asShown = outputs.map((output) => blocksOf(`\`\`\`sh\n\`\`\`\n\n${shown(output)}`)[0]?.output ?? '');
    printed = shapesOf(asShown);
    documented = shapesOf(pasted(file).map(({ output }) => output));
  }, 120_000);
  afterAll(async () => {
    await service?.end('SIGTERM');
    data.remove();
    folder.remove();
  });

  it.each(blocks.map(({ line }, i) => [line, i] as const))('prints what it shows at line %d', (_, i) => {
    expect(printed[i]).toBe(documented[i]);
  });

  it('shows outputs, and no secret in them', () => {
    expect(documented.filter((output) => output !== '').length).toBeGreaterThan(2);
    expect(readFileSync(file, 'utf8')).not.toMatch(/secret_[A-Za-z0-9]{10}|whsec_[A-Za-z0-9]{10}|eyJ\w{10}/);
  });
});

it('the quick start shows lines that the service greets with', async () => {
  const [start] = blocksOf(readFileSync('README.md', 'utf8'));
  const data = temporaryFolder();
  const service = await spawnService(data.path);
  // Up to its address or path, which differ.
  const labels = (start?.output ?? '').split('\n').filter((line) => line !== '…');
  for (const line of labels) expect(service.output()).toContain(line.split('  ')[0]);
  expect(labels.length).toBeGreaterThan(2);
  await service.end('SIGTERM');
  data.remove();
});

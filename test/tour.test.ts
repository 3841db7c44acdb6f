import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { blocksOf, runBlocks, shapesOf, shown, TOUR, writeOutputs } from '../scripts/tour.js';
import { type Child, spawnService } from './child-service.js';
import { freshFolder } from './fresh.js';

/** The tour, pasted block by block into one bash. `UPDATE_TOUR=1` writes the outputs into the page instead. */

const blocks = blocksOf(readFileSync(TOUR, 'utf8'));
const data = freshFolder();
const folder = freshFolder();
let service: Child;
let outputs: string[];
let documented: string[];
beforeAll(async () => {
  service = await spawnService(data.path);
  outputs = await runBlocks(blocks, { url: service.url, dataDir: data.path, folder: folder.path });
  if (process.env['UPDATE_TOUR']) writeOutputs(blocks, outputs);
  // As shown, so that names of this machine are no difference; the page has been through this, too.
  const asShown = outputs.map((output) => blocksOf(`\`\`\`sh\n\`\`\`\n\n${shown(output)}`)[0]?.output ?? '');
  outputs = shapesOf(asShown);
  documented = shapesOf(blocksOf(readFileSync(TOUR, 'utf8')).map(({ output }) => output));
}, 120_000);
afterAll(async () => {
  await service?.end('SIGTERM');
  data.remove();
  folder.remove();
});

describe('the tour', () => {
  it('has blocks, most of them with an output', () => {
    expect(blocks.length).toBeGreaterThan(20);
    expect(documented.filter((output) => output !== '').length).toBeGreaterThan(20);
  });

  it.each(blocks.map(({ line }, i) => [line, i] as const))('line %d prints what the page shows', (_, i) => {
    expect(outputs[i]).toBe(documented[i]);
  });

  it('shows no secret', () => {
    expect(readFileSync(TOUR, 'utf8')).not.toMatch(/secret_[A-Za-z0-9]{10}|whsec_[A-Za-z0-9]{10}|eyJ\w{10}/);
  });
});

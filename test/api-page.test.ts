import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { type Running, runService } from './support/servers/service.js';

let service: Running;
let page: string;
beforeAll(async () => {
  service = await runService();
  page = (await service.ask('GET', '/docs/')).text;
});
afterAll(() => service.stop());

/** The addresses that an element of the page names in this attribute, as paths of the service. */
const linked = (element: string, attribute: string): string[] =>
  [...page.matchAll(new RegExp(`<${element} [^>]*${attribute}="([^"]+)"`, 'g'))].map(
    ([, target = '']) => new URL(target, `${service.url}/docs/`).pathname,
  );

describe('the API page', () => {
  it('is titled after the product', async () => {
    expect(/<title>(.*)<\/title>/.exec(page)?.[1]).toBe('Keyledger API');
    const { info } = (await service.ask('GET', '/openapi.json')).json as { info?: { title?: string } };
    expect(info?.title).toBe('Keyledger API');
  });

  it('has an icon of its own and links no other', async () => {
    const icons = [...page.matchAll(/<link rel="icon"[^>]*href="([^"]+)"/g)].map(([, href]) => href);
    expect(icons).toEqual(['./static/theme/keyledger.svg']);
    const { status, text, headers } = await service.ask('GET', '/docs/static/theme/keyledger.svg');
    expect([status, headers.get('content-type')]).toEqual([200, 'image/svg+xml']);
    expect(text).toMatch(/^<svg .*aria-label="Keyledger"/);
  });

  it("shows the product's mark beside the title, and not the bar with the framework's logo", async () => {
    const style = await service.ask('GET', '/docs/static/theme/keyledger.css');
    expect(style.text).toContain('url(keyledger.svg)');
    expect(linked('link', 'href')).toContain('/docs/static/theme/keyledger.css');
    const { text } = await service.ask('GET', '/docs/static/swagger-initializer.js');
    expect(/const config = (\{.*\})/.exec(text)?.[1]).toMatch(/"layout":\s*"BaseLayout"/);
  });

  it('loads only what its content security policy allows', async () => {
    const targets = [...linked('link', 'href'), ...linked('script', 'src')];
    expect(targets.length).toBeGreaterThan(5);
    for (const target of targets) expect([target, (await service.ask('GET', target)).status]).toEqual([target, 200]);
    const policy = (await service.ask('GET', '/docs/')).headers.get('content-security-policy');
    expect(policy).toContain("default-src 'self'");
    expect(policy).toMatch(/img-src 'self'/);
  });

  it('describes every tag that a call has', async () => {
    const document = (await service.ask('GET', '/openapi.json')).json as {
      tags?: { name: string; description?: string }[];
      paths?: Record<string, Record<string, { tags?: string[] }>>;
    };
    const described = (document.tags ?? []).filter(({ description }) => description).map(({ name }) => name);
    const used = Object.values(document.paths ?? {}).flatMap((calls) =>
      Object.values(calls).flatMap(({ tags = [] }) => tags),
    );
    expect([...new Set(used)].sort()).toEqual(described.sort());
  });
});

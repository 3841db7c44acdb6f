import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { addressGroup, parseAddress, trustedProxies } from '../src/http/plugins/client-address.js';
import { type Json, type Running, runService } from './support/servers/service.js';

describe('an address', () => {
  it.each([
    ['192.0.2.7', '192.0.2.7'],
    ['192.0.2.7:4711', '192.0.2.7'],
    ['::ffff:192.0.2.7', '192.0.2.7'],
    ['::FFFF:C000:0207', '192.0.2.7'],
    ['[::ffff:192.0.2.7]:4711', '192.0.2.7'],
    ['2001:DB8::1', '2001:db8::1'],
    ['[2001:db8::1]', '2001:db8::1'],
    ['[2001:db8::1]:4711', '2001:db8::1'],
    ['fe80::1%eth0', 'fe80::1'],
    ['"><script>', undefined],
    ['192.0.2.7, 10.0.0.1', undefined],
    ['192.0.2', undefined],
    ['0300.0.2.7', undefined],
    ['unknown', undefined],
    ['', undefined],
  ])('%j is %j', (text, address) => expect(parseAddress(text)).toBe(address));

  it('of one IPv6 network counts as one, of two networks as two; each IPv4 address for itself', () => {
    fc.assert(
      fc.property(fc.ipV6(), fc.ipV6(), (a, b) => {
        const [one, two] = [parseAddress(a), parseAddress(b)];
        fc.pre(one !== undefined && two !== undefined && one.includes(':') && two.includes(':'));
        const networkOf = (address: string) => BigInt(`0x${wide(address)}`) >> 64n;
        expect(addressGroup(one ?? '') === addressGroup(two ?? '')).toBe(networkOf(one ?? '') === networkOf(two ?? ''));
      }),
    );
    expect(addressGroup('2001:db8::1')).toBe(addressGroup('2001:db8::ffff:1'));
    expect(addressGroup('2001:db8::1')).not.toBe(addressGroup('2001:db8:0:1::1'));
    expect(addressGroup('192.0.2.7')).not.toBe(addressGroup('192.0.2.8'));
  });

  it('of a trusted proxy is trusted with a port and mapped, too', () => {
    const trusts = trustedProxies('10.0.0.0/8, 2001:db8::/32, 192.0.2.1') as (address: string) => boolean;
    for (const address of ['10.1.2.3', '10.1.2.3:80', '::ffff:10.1.2.3', '[2001:db8::5]:1', '192.0.2.1'])
      expect([address, trusts(address)]).toEqual([address, true]);
    for (const address of ['11.0.0.1', '192.0.2.2', '2001:db9::1', 'x', ''])
      expect([address, trusts(address)]).toEqual([address, false]);
  });
});

/** All 32 hex digits of an IPv6 address. */
function wide(address: string): string {
  const [head = '', tail = ''] = address.split('::');
  const parts = (text: string) => text.split(':').filter(Boolean);
  const zeros = address.includes('::') ? 8 - parts(head).length - parts(tail).length : 0;
  return [...parts(head), ...Array<string>(zeros).fill('0'), ...parts(tail)]
    .map((part) => part.padStart(4, '0'))
    .join('');
}

describe('behind a proxy', () => {
  const withService = async (settings: NodeJS.ProcessEnv, use: (service: Running) => Promise<void>) => {
    const service = await runService(settings);
    try {
      await use(service);
    } finally {
      await service.stop();
    }
  };
  const refusedAs = (service: Running, from: string) =>
    service.ask('GET', '/repo/shop/ai/apikey', { token: 'x', headers: { 'x-forwarded-for': from } });

  it.each([
    ['each with its port', (n: number) => `192.0.2.7:${4000 + n}`],
    ['from one IPv6 network', (n: number) => `2001:db8::${n}`],
    ['as IPv4 and mapped into IPv6', (n: number) => (n % 2 ? '192.0.2.7' : '::ffff:192.0.2.7')],
    ['as what is no address', (n: number) => `<script>${n}`],
  ])('callers %s share a limit', async (_, from) => {
    await withService({ TRUST_PROXY: 'true', RATE_LIMIT: '3' }, async (service) => {
      const statuses = [];
      for (let n = 1; n <= 4; n++) statuses.push((await refusedAs(service, from(n))).status);
      expect(statuses).toEqual([401, 401, 401, 429]);
    });
  });

  it.each([
    ['203.0.113.9:4711', '203.0.113.9'],
    ['"><script>alert(1)</script>', '127.0.0.1'],
    ['203.0.113.9, 127.0.0.1:5000', '203.0.113.9'],
  ])('%j is written down as %s', async (forwarded, from) => {
    await withService({ TRUST_PROXY: '127.0.0.1' }, async (service) => {
      const token = await service.token('admin');
      const path = '/repo/shop/ai/audit';
      await service.ask('GET', path, { token, headers: { 'x-forwarded-for': forwarded } });
      const { json } = await service.ask('GET', `${path}?type=AuditAccessed`, { token });
      expect((json['events'] as Json[])[0]?.['accessed']).toMatchObject({ from });
    });
  });
});

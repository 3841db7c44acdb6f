import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo, LookupFunction, Socket } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { WebhookSender } from '../src/subscribers/webhooks/sender.js';
import { isPublic } from '../src/subscribers/webhooks/ssrf-guard.js';
import { eventually } from './support/assertions/eventually.js';
import { temporaryFolder } from './support/fixtures/temp-folder.js';
import { type RawServer, startRawServer } from './support/servers/raw-server.js';
import { selfSigned } from './support/servers/self-signed.js';

const FORBIDDEN = 'its address is neither public nor in WEBHOOK_ALLOWED_NETWORKS';
const REFUSED = { status: null, error: FORBIDDEN };
const answering = (head: string) => (socket: Socket) => {
  socket.on('data', () => socket.write(`HTTP/1.1 204 No Content\r\n${head}\r\n`));
};

/** Addresses that no endpoint may have, in the forms that a resolver returns. */
const NOT_PUBLIC: readonly (readonly [string, readonly string[]])[] = [
  ['this host', ['0.0.0.0', '0.1.2.3', '::']],
  ['loopback', ['127.0.0.1', '127.255.255.254', '::1']],
  ['private', ['10.0.0.0', '10.255.255.255', '172.16.0.1', '172.31.255.255', '192.168.0.1', '192.168.255.255']],
  ['link-local', ['169.254.0.1', '169.254.255.255', 'fe80::1', 'febf::1', 'fe80::1%lo']],
  ['carrier-grade', ['100.64.0.0', '100.127.255.255']],
  ['metadata', ['169.254.169.254', '168.63.129.16', '100.100.100.200', 'fd00:ec2::254', 'fd20:ce::254']],
  ['protocols', ['192.0.0.1', '192.0.0.192', '192.88.99.1', '5f00::1', '2001:20::1', '2001:10::1']],
  ['mapped', ['::ffff:127.0.0.1', '::ffff:7f00:1', '::ffff:8.8.8.8', '::ffff:0:7f00:1']],
  ['compatible', ['::127.0.0.1', '::7f00:1', '::a9fe:a9fe', '::2']],
  ['NAT64', ['64:ff9b::7f00:1', '64:ff9b::808:808', '64:ff9b:1::a00:1']],
  ['6to4', ['2002:7f00:1::', '2002:a9fe:a9fe::1']],
  ['Teredo', ['2001::1', '2001:0:53aa:64c::80ff:fffe']],
  ['unique local', ['fc00::1', 'fd12:3456::1']],
  ['site local', ['fec0::1', 'feff::1']],
  ['multicast', ['224.0.0.1', '239.255.255.255', 'ff02::1', 'ff0e::1']],
  ['broadcast', ['255.255.255.255']],
  ['reserved', ['240.0.0.1', '255.255.255.254']],
  ['documentation', ['192.0.2.1', '198.51.100.1', '203.0.113.1', '2001:db8::1', '3fff::1']],
  ['benchmark', ['198.18.0.1', '198.19.255.255', '2001:2::1']],
  ['discard', ['100::1', '100:0:0:1::1']],
  ['unassigned', ['4000::1', '8000::1', '200::1', '1::1']],
];
const PUBLIC = [
  '1.1.1.1',
  '8.8.8.8',
  '9.255.255.255',
  '11.0.0.0',
  '100.63.255.255',
  '100.128.0.0',
  '126.255.255.255',
  '128.0.0.1',
  '169.253.255.255',
  '169.255.0.0',
  '172.15.255.255',
  '172.32.0.0',
  '192.167.255.255',
  '192.169.0.0',
  '198.17.255.255',
  '198.20.0.0',
  '223.255.255.255',
  '2606:4700:4700::1111',
  '2a00:1450:4001::200e',
];

let trap: RawServer;
const opened: { close?(): void; stop?(): Promise<void> }[] = [];
beforeEach(async () => {
  trap = await startRawServer(answering(''));
  opened.push(trap);
});
afterEach(async () => {
  for (const each of opened.splice(0)) {
    each.close?.();
    await each.stop?.();
  }
});

function make(networks: readonly string[], lookup?: LookupFunction): WebhookSender {
  const sender = new WebhookSender(networks, 10_000, lookup);
  opened.push(sender);
  return sender;
}

const post = async (sender: WebhookSender, url: string) => {
  const message = { url, id: 'msg_1', body: '{}', secrets: ['whsec_AAAA'] };
  const { status, error } = await sender.send(message, Date.now(), new AbortController().signal);
  return { status, error };
};

/** A resolver that returns these addresses, one list a question, and then repeats the last list. */
function resolver(...answers: readonly (readonly string[])[]): LookupFunction & { readonly asked: () => number } {
  let asked = 0;
  const lookup: LookupFunction = (_, __, callback) => {
    const found = answers[Math.min(asked++, answers.length - 1)] ?? [];
    const list = found.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));
    process.nextTick(callback, null, list);
  };
  return Object.assign(lookup, { asked: () => asked });
}

describe.each(NOT_PUBLIC)('an address that is not public: %s', (_, addresses) => {
  it.each(addresses)('%s is refused, in a URL and as the address of a name', async (address) => {
    expect(isPublic(address)).toBe(false);
    for (const scheme of ['http', 'https']) {
      if (!address.includes('%')) {
        const host = address.includes(':') ? `[${address}]` : address;
        expect(await post(make([]), `${scheme}://${host}:${trap.port}/`)).toEqual(REFUSED);
      }
      const guarded = make(['10.9.8.7'], resolver([address]));
      expect(await post(guarded, `${scheme}://name.example:${trap.port}/`)).toEqual(REFUSED);
    }
    expect(trap.connections).toBe(0);
  });
});

describe('addresses', () => {
  it.each(PUBLIC)('%s is public; over http it is refused', async (address) => {
    expect(isPublic(address)).toBe(true);
    const host = address.includes(':') ? `[${address}]` : address;
    expect(await post(make(['10.0.0.0/8']), `http://${host}/`)).toEqual(REFUSED);
    expect(await post(make([], resolver([address])), 'http://name.example/')).toEqual(REFUSED);
  });

  it('of IPv4 in any dress of IPv6 are not public, whichever they are', () => {
    const hex = (address: string) => {
      const [a = 0, b = 0, c = 0, d = 0] = address.split('.').map(Number);
      return `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
    };
    const prefixes = ['::', '::ffff:', '::ffff:0:', '64:ff9b::', '64:ff9b:1::', '2002:', '2001::'];
    fc.assert(
      fc.property(fc.ipV4(), fc.constantFrom(...prefixes), (address, prefix) => {
        const rest = prefix === '2002:' ? '::1' : '';
        const text = new URL(`http://[${prefix}${hex(address)}${rest}]/`).hostname.slice(1, -1);
        expect([text, isPublic(text)]).toEqual([text, false]);
      }),
      { numRuns: 1000 },
    );
  });

  it.each([
    '0x7f.1',
    '0x7f000001',
    '2130706433',
    '017700000001',
    '0177.0.0.1',
    '127.1',
    '127.0.0.1.',
    '0',
    '①②⑦.0.0.1',
    '127。0。0。1',
    '%31%32%37.0.0.1',
    '[::]',
    '[::1]',
    '[0:0:0:0:0:0:0:1]',
    '[::ffff:7f00:1]',
    '[::ffff:127.0.0.1]',
    '[::127.0.0.1]',
    'localhost',
    'LOCALHOST',
  ])('spelled as %s do not lead to this machine', async (host) => {
    for (const scheme of ['http', 'https']) {
      expect(await post(make([]), `${scheme}://${host}:${trap.port}/`)).toEqual(REFUSED);
    }
    expect(trap.connections).toBe(0);
  });

  it('of a name with a trailing dot are checked, too', async () => {
    for (const host of ['localhost.', 'name.example.']) {
      const sender = make([], resolver(['127.0.0.1']));
      expect(await post(sender, `https://${host}:${trap.port}/`)).toEqual(REFUSED);
    }
    // Not every machine resolves this name; none may reach itself through it.
    expect((await post(make([]), `https://localhost.:${trap.port}/`)).status).toBeNull();
    expect(trap.connections).toBe(0);
  });

  it('of the networks that are allowed are called, over http too, and no others', async () => {
    const url = (host: string) => `http://${host}:${trap.port}/`;
    expect(await post(make(['127.0.0.1']), url('127.0.0.1'))).toEqual({ status: 204, error: null });
    expect(await post(make(['127.0.0.0/8', '::1/128']), url('localhost'))).toEqual({
      status: 204,
      error: null,
    });
    expect(trap.connections).toBe(2);
    for (const networks of [['10.0.0.0/8'], ['127.0.0.2/31'], ['::1/128'], ['fd00::/8', '192.168.0.0/16']]) {
      expect(await post(make(networks), url('127.0.0.1'))).toEqual(REFUSED);
    }
    expect(trap.connections).toBe(2);
  });
});

describe('a name', () => {
  const NEAR = '127.0.0.2';
  const url = () => `http://name.example:${trap.port}/`;
  const near = async (head: string) => {
    const server = await startRawServer(answering(head), NEAR, trap.port);
    opened.push(server);
    return server;
  };

  it('that leads to an address that may be called first and to this machine next is refused then', async () => {
    const server = await near('connection: close\r\n');
    const lookup = resolver([NEAR], ['127.0.0.1']);
    const sender = make([NEAR], lookup);
    expect(await post(sender, url())).toEqual({ status: 204, error: null });
    expect(lookup.asked()).toBe(1);
    expect(await post(sender, url())).toEqual(REFUSED);
    expect([server.connections, trap.connections]).toEqual([1, 0]);
  });

  it('of a kept connection goes to the checked address, and nowhere else', async () => {
    const server = await near('');
    const sender = make([NEAR], resolver([NEAR], ['127.0.0.1']));
    for (let n = 0; n < 3; n++) expect(await post(sender, url())).toEqual({ status: 204, error: null });
    expect([server.connections, trap.connections]).toEqual([1, 0]);
    await server.stop();
    opened.splice(opened.indexOf(server), 1);
    await eventually(async () => (await post(sender, url())).error === FORBIDDEN);
    expect(trap.connections).toBe(0);
  });

  it.each([
    ['a public and a private address', ['8.8.8.8', '127.0.0.1']],
    ['a private and a public address', ['127.0.0.1', '8.8.8.8']],
    ['an address of each family, one of them private', ['2606:4700::1111', '127.0.0.1']],
    ['no address', []],
  ])('with %s is refused', async (_, addresses) => {
    const secure = url().replace('http:', 'https:');
    expect(await post(make([], resolver(addresses)), secure)).toEqual(REFUSED);
    expect(trap.connections).toBe(0);
  });

  it('that nobody knows, and one that is never looked up to the end, are failures', async () => {
    const unknown: LookupFunction = (name, _, callback) => {
      const error = Object.assign(new Error(`getaddrinfo ENOTFOUND ${name}`), { code: 'ENOTFOUND' });
      process.nextTick(callback, error, []);
    };
    expect((await post(make([], unknown), url())).error).toBe('getaddrinfo ENOTFOUND name.example');
    const hasty = new WebhookSender([], 50, () => undefined);
    opened.push(hasty);
    expect(await post(hasty, url())).toEqual({ status: null, error: 'no answer within 50 ms' });
  });
});

describe('over https', () => {
  let port: number;
  let calls: number;
  beforeEach(async () => {
    calls = 0;
    const server = createServer(selfSigned, (_, response) => {
      calls++;
      response.writeHead(204).end();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    port = (server.address() as AddressInfo).port;
    opened.push({ close: () => server.close().closeAllConnections() });
  });

  it('a server whose certificate nobody has signed gets no call', async () => {
    const { status, error } = await post(make(['127.0.0.0/8']), `https://localhost:${port}/`);
    expect([status, error]).toEqual([null, expect.stringMatching(/^DEPTH_ZERO_SELF_SIGNED_CERT/)]);
    expect(calls).toBe(0);
  });

  it('a server that the machine trusts is called by the name in its certificate only', async () => {
    const folder = temporaryFolder();
    const trusted = join(folder.path, 'trusted.pem');
    writeFileSync(trusted, selfSigned.cert);
    const script = `
      import { WebhookSender } from './dist/src/subscribers/webhooks/sender.js';
      const sender = new WebhookSender(['127.0.0.0/8']);
      for (const url of process.argv.slice(1)) {
        const message = { url, id: 'msg_1', body: '{}', secrets: ['whsec_AAAA'] };
        const { status, error } = await sender.send(message, Date.now(), new AbortController().signal);
        console.log(status + ' ' + error);
      }
      sender.close();`;
    const urls = [`https://localhost:${port}/`, `https://127.0.0.1:${port}/`];
    const child = spawn(process.execPath, ['--input-type=module', '-e', script, ...urls], {
      env: { NODE_EXTRA_CA_CERTS: trusted },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let printed = '';
    for await (const text of child.stdout.setEncoding('utf8')) printed += text;
    folder.remove();
    expect(printed.split('\n')).toEqual(['204 null', expect.stringMatching(/^null ERR_TLS_CERT_ALTNAME_INVALID/), '']);
    expect(calls).toBe(1);
  });
});

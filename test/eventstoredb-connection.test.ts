import { once } from 'node:events';
import { createServer, type ServerHttp2Session } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it, jest } from '@jest/globals';
import { loadConfig } from '../src/config.js';
import { connectEventStoreDb, isEventStoreDbUrl } from '../src/event-store/eventstoredb/connection.js';
import { disableGrpcCompression, type Grpc } from '../src/event-store/eventstoredb/disable-grpc-compression.js';
import { openEventStoreDbLog } from '../src/event-store/eventstoredb/log.js';
import { redactUrl } from '../src/security/redact-url.js';
import { ConfigError } from '../src/settings.js';

const unexpected = (problem: Error | string) => {
  throw problem;
};
const messageOf = (action: () => unknown) => {
  try {
    action();
    return 'nothing was thrown';
  } catch (error) {
    return (error as Error).message;
  }
};
afterEach(() => void jest.restoreAllMocks());

describe('the URL of EventStoreDB', () => {
  it.each([
    'esdb://127.0.0.1:2113?tls=false',
    'esdb://admin:p%40ss@a:2113,b:2113,c:2113?nodePreference=leader&keepAliveInterval=20000',
    'esdb+discover://admin:changeit@cluster.example:2113',
  ])('is taken: %s', (url) => {
    expect(isEventStoreDbUrl(url)).toBe(true);
    expect(connectEventStoreDb(url).address).not.toMatch(/admin|p%40ss|changeit/);
  });

  it('gives user and password to the calls, decoded', () => {
    const { credentials, appendCredentials } = connectEventStoreDb('esdb://us%3Aer:p%40s:s@127.0.0.1:1');
    expect(credentials).toEqual({ credentials: { username: 'us:er', password: 'p@s:s' } });
    expect(appendCredentials).toEqual(credentials);
  });

  it.each([
    'esdb://admin:s3cr@et@127.0.0.1:2113',
    'esdb://admin:s3cret%@127.0.0.1:2113',
    'esdb://s3cret@127.0.0.1:2113',
    'esdb://admin:s3cret@127.0.0.1:port',
    'esdb://admin:s3cret@127.0.0.1:2113?tls=maybe',
    'esdb://admin:s3cret@127.0.0.1:2113?throwOnAppendFailure=false',
    'esdb://',
  ])('is refused without a word of the credentials: %s', (url) => {
    const message = messageOf(() => connectEventStoreDb(url));
    expect(message).toMatch(/URL of EventStoreDB/);
    expect(message).not.toMatch(/s3cr|admin/);
  });

  it('is printed without credentials', () => {
    expect(redactUrl('esdb://admin:p@ss@127.0.0.1:2113?tls=true')).toBe('esdb://***@127.0.0.1:2113?tls=true');
    expect(redactUrl('sqlite:./data/a@b.db')).toBe('sqlite:./data/a@b.db');
  });

  it('that is none ends the start with the setting and what it takes', () => {
    const start = () => loadConfig({ EVENT_STORE_URL: 'esdbb://admin:s3cret@127.0.0.1' });
    expect(start).toThrow(ConfigError);
    expect(messageOf(start)).toMatch(/^EVENT_STORE_URL must be sqlite:<file> or/);
    expect(messageOf(start)).not.toContain('s3cret');
  });

  it('of a server that is not there: opening says so after a while, without credentials', async () => {
    const warned = jest.spyOn(console, 'warn').mockImplementation(() => {});
    const opening = openEventStoreDbLog('esdb://admin:s3cret@127.0.0.1:1?nonsense=1', {
      onFatal: unexpected,
      warn: unexpected,
      wait: { limitMs: 1 },
    });
    const message = await opening.then(String, (error) => error.message);
    expect(message).toMatch(
      /^Cannot open the log at esdb:\/\/127\.0\.0\.1:1\?nonsense=1: 127\.0\.0\.1:1 refuses connections/,
    );
    expect(message + JSON.stringify(warned.mock.calls)).not.toMatch(/s3cret|admin/);
  });
});

describe('the answers of the server', () => {
  it('are asked for uncompressed', async () => {
    const asked: unknown[] = [];
    const sessions: ServerHttp2Session[] = [];
    const server = createServer().on('session', (session) => sessions.push(session));
    server.on('stream', (stream, headers) => {
      asked.push(headers['grpc-accept-encoding']);
      const refusal = { ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '7' };
      stream.respond(refusal, { endStream: true });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const opening = openEventStoreDbLog(`esdb://127.0.0.1:${port}?tls=false`, {
      onFatal: unexpected,
      warn: unexpected,
    });
    await expect(opening).rejects.toThrow('Cannot open the log');
    expect(asked.length).toBeGreaterThan(0);
    expect(new Set(asked)).toEqual(new Set(['identity']));
    for (const session of sessions) session.destroy();
    server.close();
  });

  it('are left as they are, with a warning, where grpc-js is not as expected', async () => {
    const warnings: string[] = [];
    const warn = (message: string) => void warnings.push(message);
    class Headers extends Map<string, string> {}
    class CompressionFilter {
      sendMetadata = (headers: Promise<unknown>) => headers;
    }
    for (const grpc of [{}, { CompressionFilter, Metadata: Headers }]) {
      await disableGrpcCompression(warn, () => grpc as unknown as Grpc);
    }
    expect(warnings).toHaveLength(2);
    for (const warning of warnings) expect(warning).toMatch(/stay compressed/);
    expect(CompressionFilter.prototype).not.toHaveProperty('sendMetadata');
  });
});

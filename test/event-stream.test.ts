import { once } from 'node:events';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { afterEach, describe, expect, it } from '@jest/globals';
import { type FastifyInstance, type FastifyReply, fastify } from 'fastify';
import { KeyledgerError } from '../src/domain/errors.js';
import type { Position } from '../src/event-store/position.js';
import { EventStream, formatMessage, type HeartbeatSource, type StreamBatch } from '../src/http/sse/event-stream.js';
import { eventually } from './support/assertions/eventually.js';
import { readStream } from './support/http/event-stream.js';

let app: FastifyInstance;
const sockets: Socket[] = [];
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  app.server.closeAllConnections();
  await app.close();
});

/**
 * Starts a server whose only route answers with a stream.
 * @returns its URL
 */
async function serve(answer: (reply: FastifyReply) => Promise<unknown>): Promise<string> {
  app = fastify();
  app.get('/', async (_, reply) => {
    await answer(reply);
    return reply;
  });
  return app.listen({ host: '127.0.0.1', port: 0 });
}

const HOUR_MS = 3_600_000;
const never = new AbortController().signal;
const marks = (everyMs: number, age = 0): HeartbeatSource => ({
  everyMs,
  staleness: () => age,
  resumeTokenAt: async (position) => `${position}.`,
});

/** A client that reads nothing until the test resumes it. */
async function stalledReader(): Promise<Socket> {
  const { port } = app.server.address() as AddressInfo;
  const socket = connect(port, '127.0.0.1').pause();
  sockets.push(socket);
  await once(socket, 'connect');
  socket.write('GET / HTTP/1.1\r\nHost: x\r\n\r\n');
  return socket;
}

const batch = (place: number, texts: readonly string[] = [], caughtUp = true): StreamBatch => ({
  messages: texts.map((data) => formatMessage({ id: String(place), data: JSON.stringify({ data }) })),
  position: String(place) as Position,
  caughtUp,
});

describe('an event stream', () => {
  it('marks where the reader is: at once, when it has caught up, and then with each heartbeat', async () => {
    async function* batches() {
      yield batch(1, [], false);
      yield batch(2, ['a'], true);
      yield batch(3);
      yield batch(4);
      throw new KeyledgerError('BEHIND');
    }
    const url = await serve((reply) => new EventStream(reply, HOUR_MS, never).follow(batches(), marks(0, 7)));
    const { messages, ended } = await readStream(url, 'x');
    await ended;
    expect(messages.map(({ event, id, data }) => [event, id, data['staleness']])).toEqual([
      ['heartbeat', '1.', null],
      ['message', '2', undefined],
      ['caught-up', '2.', 7],
      ['heartbeat', '3.', 7],
      ['heartbeat', '4.', 7],
      ['end', undefined, undefined],
    ]);
  });

  it('marks no more than it must between heartbeats', async () => {
    async function* batches() {
      for (let place = 1; place < 100; place++) yield batch(place, [], place > 50);
    }
    const url = await serve(async (reply) => {
      const stream = new EventStream(reply, HOUR_MS, never);
      await stream.follow(batches(), marks(HOUR_MS));
      stream.end(new KeyledgerError('BEHIND'));
    });
    const { messages, ended } = await readStream(url, 'x');
    await ended;
    expect(messages.map(({ event, id }) => [event, id])).toEqual([
      ['heartbeat', '1.'],
      ['caught-up', '51.'],
      ['end', undefined],
    ]);
  });

  it('cuts off who does not read, holds no more for it than a little, and leaves it a last message', async () => {
    let requestedBytes = 0;
    async function* endless(signal: AbortSignal) {
      while (!signal.aborted) {
        requestedBytes += 100_000;
        yield batch(requestedBytes, ['x'.repeat(100_000)]);
      }
    }
    let over: Promise<unknown> | undefined;
    let held = 0;
    await serve(async (reply) => {
      const stream = new EventStream(reply, HOUR_MS, never, 300);
      over = stream.follow(endless(stream.signal), marks(HOUR_MS));
      await over;
      held = reply.raw.writableLength;
    });
    const reader = await stalledReader();
    await eventually(() => over !== undefined);
    await over;
    await eventually(() => held > 0);
    // Beyond the buffer of the service, only the kernel's socket buffers have requested data.
    expect(held).toBeLessThan(300_000);
    expect(requestedBytes).toBeLessThan(20_000_000);

    let text = '';
    reader.setEncoding('utf8').on('data', (some) => {
      text += some;
    });
    reader.resume();
    await eventually(() => text.endsWith('\r\n0\r\n\r\n'));
    const last = text.slice(text.lastIndexOf('event: '));
    expect(last).toMatch(/^event: end\ndata: \{"code":"TOO_SLOW","message":".*Last-Event-ID.*"\}\n\n/);
    expect(text.match(/id: \d+\ndata: \{"data"/g)?.length).toBe(Math.floor(requestedBytes / 100_000));
  });

  it('ends with UNAVAILABLE when the log breaks, and does not say more', async () => {
    async function* batches() {
      yield batch(1);
      throw new Error('disk /dev/sda1 is gone');
    }
    const url = await serve((reply) => new EventStream(reply, HOUR_MS, never).follow(batches(), marks(0)));
    const { messages, ended } = await readStream(url, 'x');
    await ended;
    expect(messages.at(-1)).toMatchObject({ event: 'end', data: { code: 'UNAVAILABLE' } });
    expect(JSON.stringify(messages)).not.toContain('sda1');
  });

  it.each(['while it is read', 'before it begins'])(
    'is over when the reader goes %s, and asks for no more',
    async (when) => {
      let requested = false;
      let stream: EventStream | undefined;
      let askedAfterwards = 0;
      let over = false;
      await serve(async (reply) => {
        requested = true;
        if (when === 'before it begins') await once(reply.raw, 'close');
        const made = new EventStream(reply, HOUR_MS, never);
        stream = made;
        async function* batches() {
          for (;;) {
            if (made.signal.aborted) askedAfterwards++;
            yield batch(1, ['a']);
            await setImmediate();
          }
        }
        await made.follow(batches(), marks(0));
        over = true;
      });
      const reader = await stalledReader();
      await eventually(() => (when === 'before it begins' ? requested : stream !== undefined));
      reader.destroy();
      await eventually(() => over);
      expect(stream?.signal.aborted).toBe(true);
      expect(askedAfterwards).toBeLessThanOrEqual(1);
    },
  );

  it('begins no stream while the service stops', async () => {
    const url = await serve(async (reply) => {
      const stream = new EventStream(reply, HOUR_MS, AbortSignal.abort());
      expect(stream.signal.aborted).toBe(true);
    });
    const { messages, ended } = await readStream(url, 'x');
    await ended;
    expect(messages).toMatchObject([{ event: 'end', data: { code: 'UNAVAILABLE' } }]);
  });
});

import { connect } from 'node:net';

/** One answer: its status and body, and its latency in milliseconds. */
export type Reply = { readonly status: number; readonly body: string; readonly ms: number };

/**
 * Sends requests over a fixed number of keep-alive connections, one request in flight on each, as cheaply as possible:
 * the caller prepares the bytes, and the client parses only status and length of an answer.
 * @param stayAwake never sleeps, at the cost of a core: the server has to wake a client that sleeps, which costs a
 * slower server more than a faster one
 * @returns the replies in the order of the requests, and the seconds that all took
 */
export async function load(url: string, requests: readonly Buffer[], connections: number, stayAwake = false) {
  const { hostname, port } = new URL(url);
  const replies: Reply[] = new Array(requests.length);
  let next = 0;
  let awake = stayAwake;
  const turn = () => void (awake && setImmediate(turn));
  turn();
  const started = performance.now();
  await Promise.all(
    Array.from(
      { length: Math.min(connections, requests.length) },
      () =>
        new Promise<void>((resolve, reject) => {
          const socket = connect({ host: hostname, port: Number(port), noDelay: true });
          let received = '';
          let current = 0;
          let sent = 0;
          const send = () => {
            const request = requests[next];
            if (!request) return void socket.end(resolve);
            current = next++;
            received = '';
            sent = performance.now();
            socket.write(request);
          };
          socket.setEncoding('latin1').on('connect', send).on('error', reject);
          socket.on('close', () => reject(new Error('The server closed the connection')));
          socket.on('data', (text) => {
            received += text;
            const head = received.indexOf('\r\n\r\n');
            if (head < 0) return;
            const length = Number(/content-length: (\d+)/i.exec(received)?.[1] ?? 0);
            if (received.length < head + 4 + length) return;
            const body = received.slice(head + 4);
            replies[current] = { status: Number(received.slice(9, 12)), body, ms: performance.now() - sent };
            send();
          });
        }),
    ),
  );
  awake = false;
  return { replies, seconds: (performance.now() - started) / 1000 };
}

export function post(url: string, path: string, headers: Readonly<Record<string, string>>, body: object): Buffer {
  const text = JSON.stringify(body);
  const lines = Object.entries({
    host: new URL(url).host,
    'content-type': 'application/json',
    'content-length': String(Buffer.byteLength(text)),
    ...headers,
  }).map(([name, value]) => `${name}: ${value}`);
  return Buffer.from([`POST ${path} HTTP/1.1`, ...lines, '', text].join('\r\n'));
}

export const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;

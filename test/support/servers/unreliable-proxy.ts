import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Answer, ask } from './service.js';

/**
 * What the proxy does with one request; `pass` has the service carry it out and gives its answer, `stream` hands on
 * what has no end: so many bytes of it, or until it has said something.
 */
export type Mishap = (
  response: ServerResponse,
  pass: () => Promise<Answer>,
  stream: (upTo: number | RegExp) => Promise<void>,
) => unknown;

export type Seen = {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
  /** Milliseconds, of performance.now(). */
  readonly at: number;
};

export type UnreliableProxy = {
  readonly url: string;
  /** For the next requests, in order; after the last of them it hands on what it gets. */
  mishaps: Mishap[];
  /** Every request since the last reset. */
  readonly seen: readonly Seen[];
  /** What the service answered, whether the client was told or not. */
  readonly answers: readonly Answer[];
  reset(): void;
  stop(): Promise<void>;
};

const HOP_BY_HOP = ['host', 'connection', 'keep-alive', 'transfer-encoding', 'content-length'];

/** A real HTTP proxy in front of a service, which fails as it is told to. */
export async function unreliableProxy(serviceUrl: string): Promise<UnreliableProxy> {
  const seen: Seen[] = [];
  const answers: Answer[] = [];
  let mishaps: Mishap[] = [];

  const server = createServer(async (request, response) => {
    let body = '';
    for await (const text of request.setEncoding('utf8')) body += text;
    const { method = '', url = '', headers } = request;
    seen.push({ method, url, headers, body, at: performance.now() });
    const pass = async () => {
      const answer = await ask(serviceUrl + url, method, {
        headers: endToEnd(Object.entries(headers)),
        ...(body ? { body } : {}),
      });
      answers.push(answer);
      return answer;
    };
    const stream = async (upTo: number | RegExp) => {
      const gone = new AbortController();
      response.once('close', () => gone.abort());
      const ask = { headers: endToEnd(Object.entries(headers)), signal: gone.signal };
      const handedOn = fetch(serviceUrl + url, ask).then((answer) => handOn(answer, response, upTo));
      await handedOn.catch(() => response.destroy());
    };
    const mishap = mishaps.shift();
    if (mishap) return void (await mishap(response, pass, stream));
    if (headers.accept === 'text/event-stream') {
      await stream(Number.POSITIVE_INFINITY);
      return void response.end();
    }
    const answer = await pass();
    response.writeHead(answer.status, endToEnd([...answer.headers])).end(answer.text);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));

  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    get mishaps() {
      return mishaps;
    },
    set mishaps(next) {
      mishaps = [...next];
    },
    seen,
    answers,
    reset() {
      mishaps = [];
      seen.length = 0;
      answers.length = 0;
    },
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function handOn(answer: Response, response: ServerResponse, upTo: number | RegExp): Promise<void> {
  response.writeHead(answer.status, endToEnd([...answer.headers])).flushHeaders();
  let passed = Buffer.alloc(0);
  for await (const piece of answer.body as unknown as AsyncIterable<Uint8Array>) {
    const wanted = typeof upTo === 'number' ? piece.subarray(0, upTo - passed.length) : piece;
    response.write(wanted);
    passed = Buffer.concat([passed, wanted]);
    if (typeof upTo === 'number' ? passed.length >= upTo : upTo.test(passed.toString())) return;
  }
}

const endToEnd = (headers: [string, string | string[] | undefined][]): Record<string, string> =>
  Object.fromEntries(
    headers.flatMap(([name, value]) =>
      HOP_BY_HOP.includes(name) || value === undefined ? [] : [[name, String(value)]],
    ),
  );

/** The service has done it, and nobody is told. */
export const answerLost: Mishap = async (response, pass) => {
  await pass();
  response.destroy();
};

/** The service has done it, and half of what it says arrives. */
export const answerHalved: Mishap = async (response, pass) => {
  const { status, text } = await pass();
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': text.length });
  response.write(text.slice(0, text.length / 2), () => response.destroy());
};

/** The service has done it, and the client waits for ever. */
export const answerHeld: Mishap = async (_, pass) => {
  await pass();
};

/** The service has done it, and another answer is given. */
export const answerReplaced =
  (mishap: Mishap): Mishap =>
  async (response, pass, stream) => {
    await pass();
    await mishap(response, pass, stream);
  };

/** So many bytes of a stream arrive at most, and then it is cut. */
export const streamCut =
  (bytes: number): Mishap =>
  async (response, _, stream) => {
    await stream(bytes);
    response.destroy();
  };

/** So much of a stream arrives, and then it ends, as if it were whole. */
export const streamEnded =
  (upTo: number | RegExp): Mishap =>
  async (response, _, stream) => {
    await stream(upTo);
    response.end();
  };

/** So many bytes of a stream arrive, and then nothing more. */
export const streamSilent =
  (bytes: number): Mishap =>
  (_response, _pass, stream) =>
    stream(bytes);

/** The service never hears of it. */
export const cut: Mishap = (response) => response.destroy();

export const page =
  (status: number, headers: Record<string, string> = {}): Mishap =>
  (response) =>
    response.writeHead(status, { 'content-type': 'text/html', ...headers }).end('<html>A proxy</html>');

export const json =
  (status: number, answer: object, headers: Record<string, string> = {}): Mishap =>
  (response) =>
    response
      .writeHead(status, { 'content-type': 'application/json', ...headers })
      .end(JSON.stringify(answer));

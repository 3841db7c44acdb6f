import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Answer, ask } from './service.js';

/**
 * What the proxy does with one request. `pass` forwards it to the service and returns the answer; `stream` forwards an
 * endless answer, up to a number of bytes or until its text matches.
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
  /** Milliseconds of performance.now(). */
  readonly at: number;
};

export type UnreliableProxy = {
  readonly url: string;
  /** Applied to the next requests, in order; the proxy forwards all others. */
  mishaps: Mishap[];
  /** Every request since the last reset. */
  readonly seen: readonly Seen[];
  /** Every answer of the service, whether or not it reached the client. */
  readonly answers: readonly Answer[];
  reset(): void;
  stop(): Promise<void>;
};

const HOP_BY_HOP = ['host', 'connection', 'keep-alive', 'transfer-encoding', 'content-length'];

/** A real HTTP proxy in front of a service that fails on demand. */
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
      const forwarded = fetch(serviceUrl + url, ask).then((answer) => forwardBody(answer, response, upTo));
      await forwarded.catch(() => response.destroy());
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

async function forwardBody(answer: Response, response: ServerResponse, upTo: number | RegExp): Promise<void> {
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

/** The service carries out the request, and its answer is lost. */
export const answerLost: Mishap = async (response, pass) => {
  await pass();
  response.destroy();
};

/** The service carries out the request, and half of its answer arrives. */
export const answerHalved: Mishap = async (response, pass) => {
  const { status, text } = await pass();
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': text.length });
  response.write(text.slice(0, text.length / 2), () => response.destroy());
};

/** The service carries out the request, and the client waits for ever. */
export const answerHeld: Mishap = async (_, pass) => {
  await pass();
};

/** The service carries out the request, and the client receives another answer. */
export const answerReplaced =
  (mishap: Mishap): Mishap =>
  async (response, pass, stream) => {
    await pass();
    await mishap(response, pass, stream);
  };

/** At most `bytes` bytes of a stream arrive before the connection is cut. */
export const streamCut =
  (bytes: number): Mishap =>
  async (response, _, stream) => {
    await stream(bytes);
    response.destroy();
  };

/** A stream ends after `upTo`, as if it were complete. */
export const streamEnded =
  (upTo: number | RegExp): Mishap =>
  async (response, _, stream) => {
    await stream(upTo);
    response.end();
  };

/** At most `bytes` bytes of a stream arrive before it goes silent. */
export const streamSilent =
  (bytes: number): Mishap =>
  (_response, _pass, stream) =>
    stream(bytes);

/** The request never reaches the service. */
export const cut: Mishap = (response) => response.destroy();

export const page =
  (status: number, headers: Record<string, string> = {}): Mishap =>
  (response) =>
    response.writeHead(status, { 'content-type': 'text/html', ...headers }).end('<html>A proxy</html>');

export const json =
  (status: number, answer: object, headers: Record<string, string> = {}): Mishap =>
  (response) =>
    response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(answer));

import { connect, type Socket } from 'node:net';

/** Client that sends bytes, which need not be HTTP. */

export type RawAnswer = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
};

/** Milliseconds of silence after which a server counts as hanging. */
const SILENCE_TIMEOUT_MS = 10_000;

export function connectTo(url: string): Socket {
  const socket = connect({ port: Number(new URL(url).port), host: '127.0.0.1', allowHalfOpen: true });
  return socket.setNoDelay(true).on('error', () => undefined);
}

/**
 * Sends bytes on a new connection and reads until the server ends it, or `isEnough` accepts what it sent.
 * @returns the received bytes as latin1: one character a byte
 * @throws Error the server sends nothing for ten seconds
 */
export function exchange(
  url: string,
  bytes: string | Buffer,
  isEnough: (received: string) => boolean = () => false,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connectTo(url);
    let received = '';
    const finish = () => {
      socket.destroy();
      resolve(received);
    };
    socket.setTimeout(SILENCE_TIMEOUT_MS, () => {
      socket.destroy();
      reject(new Error(`No end of the answer after ${SILENCE_TIMEOUT_MS} ms, only: ${JSON.stringify(received)}`));
    });
    socket.on('data', (piece) => {
      received += piece.toString('latin1');
      if (isEnough(received)) finish();
    });
    socket.on('end', finish).on('close', finish);
    socket.write(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes);
  });
}

/** Parses the answers of a server, in order. An answer without a length extends to the end. */
export function answersIn(received: string): RawAnswer[] {
  const answers: RawAnswer[] = [];
  for (let rest = received; rest !== ''; ) {
    const end = rest.indexOf('\r\n\r\n');
    const [statusLine = '', ...lines] = rest.slice(0, end).split('\r\n');
    const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(statusLine)?.[1]);
    if (end < 0 || Number.isNaN(status)) throw new Error(`This is no answer: ${JSON.stringify(rest)}`);
    const headers = Object.fromEntries(
      lines.map((line) => [line.split(':', 1)[0]?.toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]),
    ) as Record<string, string>;
    const [body, after] = bodyOf(headers, rest.slice(end + 4));
    answers.push({ status, headers, body: Buffer.from(body, 'latin1').toString() });
    rest = after;
  }
  return answers;
}

function bodyOf(headers: Readonly<Record<string, string>>, rest: string): [body: string, after: string] {
  if (headers['transfer-encoding'] === 'chunked') return unchunked(rest);
  const length = Number(headers['content-length'] ?? rest.length);
  if (rest.length < length) throw new Error(`An answer of ${length} bytes ends after ${rest.length}`);
  return [rest.slice(0, length), rest.slice(length)];
}

function unchunked(text: string): [body: string, after: string] {
  let body = '';
  for (let at = 0; ; ) {
    const lineEnd = text.indexOf('\r\n', at);
    const size = Number.parseInt(text.slice(at, lineEnd), 16);
    if (lineEnd < 0 || Number.isNaN(size)) return [body, ''];
    const begin = lineEnd + 2;
    body += text.slice(begin, begin + size);
    at = begin + size + 2;
    if (size === 0) return [body, text.slice(at)];
  }
}

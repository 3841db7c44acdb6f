import { connect, type Socket } from 'node:net';

/** Talking to a server in bytes that need not be HTTP. */

export type RawAnswer = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
};

/** How long a server may be silent before it counts as hanging (milliseconds). */
const SILENCE_MS = 10_000;

export function connectTo(url: string): Socket {
  const socket = connect({ port: Number(new URL(url).port), host: '127.0.0.1', allowHalfOpen: true });
  return socket.setNoDelay(true).on('error', () => undefined);
}

/**
 * Sends bytes on a connection of its own and reads until the server ends it, or what it said is enough.
 * @returns what it said, a character a byte
 * @throws Error the server says nothing for ten seconds
 */
export function exchange(
  url: string,
  bytes: string | Buffer,
  isEnough: (said: string) => boolean = () => false,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connectTo(url);
    let said = '';
    const finish = () => {
      socket.destroy();
      resolve(said);
    };
    socket.setTimeout(SILENCE_MS, () => {
      socket.destroy();
      reject(new Error(`No end of the answer after ${SILENCE_MS} ms, only: ${JSON.stringify(said)}`));
    });
    socket.on('data', (piece) => {
      said += piece.toString('latin1');
      if (isEnough(said)) finish();
    });
    socket.on('end', finish).on('close', finish);
    socket.write(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes);
  });
}

/** The answers that a server gave, in their order. Without a length an answer goes to the end. */
export function answersIn(said: string): RawAnswer[] {
  const answers: RawAnswer[] = [];
  for (let rest = said; rest !== ''; ) {
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

import { connect, type Socket } from 'node:net';
import { setTimeout } from 'node:timers/promises';

export type Answer = { readonly status: number; readonly ms: number; readonly body: string };

/** Outcome of requests sent at a fixed rate, whether or not answers arrive. */
export type RateResult = {
  /** Number of requests due, and of those sent; the rest found every connection busy. */
  readonly due: number;
  readonly sent: number;
  readonly answers: readonly Answer[];
  /** Connections that ended before their answer. */
  readonly broken: number;
};

const TICK_MS = 5;

/**
 * Opens connections, then sends requests at a fixed rate regardless of latency, each over a connection without another
 * request in flight. Ends when all answers have arrived.
 */
export async function sendAtRate(
  url: string,
  nextRequest: () => Buffer,
  { perSecond, seconds, connections }: { perSecond: number; seconds: number; connections: number },
): Promise<RateResult> {
  const idle = await Promise.all(Array.from({ length: connections }, () => openCaller(url)));
  const all = [...idle];
  const answers: Answer[] = [];
  let [due, sent, broken] = [0, 0, 0];
  const send = async (caller: Caller) => {
    const answer = await caller.ask(nextRequest());
    if (!answer) {
      broken++;
      return;
    }
    answers.push(answer);
    idle.push(caller);
  };
  const started = performance.now();
  for (let elapsed = 0; elapsed < seconds; elapsed = (performance.now() - started) / 1000) {
    for (const dueNow = Math.floor(elapsed * perSecond); due < dueNow; due++) {
      const caller = idle.pop();
      if (!caller) continue;
      sent++;
      void send(caller);
    }
    await setTimeout(TICK_MS);
  }
  while (answers.length + broken < sent) await setTimeout(TICK_MS);
  for (const { socket } of all) socket.destroy();
  return { due, sent, answers, broken };
}

export type Caller = {
  readonly socket: Socket;
  /**
   * Sends one request at a time.
   * @returns undefined if the connection ended before the answer
   */
  readonly ask: (request: Buffer) => Promise<Answer | undefined>;
};

/** Opens a keep-alive connection and waits for a first answer, so that the server has accepted it. */
export async function openCaller(url: string): Promise<Caller> {
  const { hostname, port, host } = new URL(url);
  const socket = connect({ host: hostname, port: Number(port), noDelay: true });
  let received = '';
  let sentAt = 0;
  let answered: (answer: Answer | undefined) => void = () => undefined;
  socket.setEncoding('latin1').on('error', () => undefined);
  socket.on('close', () => answered(undefined));
  socket.on('data', (text) => {
    received += text;
    const head = received.indexOf('\r\n\r\n');
    if (head < 0) return;
    const length = Number(/content-length: (\d+)/i.exec(received)?.[1] ?? 0);
    if (received.length < head + 4 + length) return;
    const status = Number(received.slice(9, 12));
    answered({ status, ms: performance.now() - sentAt, body: received.slice(head + 4) });
  });
  const ask = (request: Buffer) =>
    new Promise<Answer | undefined>((resolve) => {
      if (socket.destroyed) return resolve(undefined);
      answered = resolve;
      received = '';
      sentAt = performance.now();
      socket.write(request);
    });
  await ask(Buffer.from(`GET /health/live HTTP/1.1\r\nhost: ${host}\r\n\r\n`));
  return { socket, ask };
}

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

/** A call that has come in. */
export type Call = {
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly text: string;
  readonly event: { readonly id: string; readonly type: string; readonly position?: string };
};

export type Receiver = {
  readonly url: string;
  readonly calls: readonly Call[];
  /** What is answered: a status, or nothing ever. */
  answer: (call: Call) => { status: number; headers?: Record<string, string> } | 'silence';
  /** Answers calls of a path only when it is let go. @returns lets it go */
  hold(path: string): () => void;
  stop(): Promise<void>;
};

/** An endpoint of webhooks on 127.0.0.1. */
export async function startReceiver(): Promise<Receiver> {
  const calls: Call[] = [];
  const held = new Map<string, Promise<void>>();
  const server = createServer(async (request, response) => {
    let text = '';
    for await (const bytes of request.setEncoding('utf8')) text += bytes;
    const headers = request.headers as Record<string, string>;
    const call = { path: request.url ?? '', headers, text, event: JSON.parse(text) as Call['event'] };
    calls.push(call);
    await held.get(call.path);
    const answer = receiver.answer(call);
    if (answer !== 'silence') response.writeHead(answer.status, answer.headers).end('thank you');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const receiver: Receiver = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook`,
    calls,
    answer: () => ({ status: 204 }),
    hold: (path) => {
      let letGo: () => void = () => undefined;
      held.set(
        path,
        new Promise((resolve) => {
          letGo = resolve;
        }),
      );
      return () => letGo();
    },
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  return receiver;
}

import { type Answer, ask } from '../servers/service.js';

/** Message of a stream, as EventSource delivers it. */
export type Message = { readonly event: string; readonly id: string | undefined; readonly data: Json };
type Json = { readonly [field: string]: unknown };

export type Reading = {
  /** Messages received so far. */
  readonly messages: readonly Message[];
  /** Settles when the server ends the stream, or the test closes it. */
  readonly ended: Promise<void>;
  close(): void;
};

/**
 * Reads a stream like a browser.
 * @throws Error the answer is not a stream
 */
export async function readStream(url: string, token: string, headers: Record<string, string> = {}): Promise<Reading> {
  const closing = new AbortController();
  const response = await fetch(url, {
    headers: { authorization: `Bearer ${token}`, ...headers },
    signal: closing.signal,
  });
  if (!response.headers.get('content-type')?.startsWith('text/event-stream')) {
    throw new Error(`${response.status} ${await response.text()}`);
  }
  const messages: Message[] = [];
  const take = async () => {
    let text = '';
    for await (const bytes of response.body as unknown as AsyncIterable<Uint8Array>) {
      text += new TextDecoder().decode(bytes);
      const blocks = text.split('\n\n');
      text = blocks.pop() ?? '';
      for (const block of blocks) {
        const field = (name: string) => new RegExp(`^${name}: (.*)$`, 'm').exec(block)?.[1];
        const data = field('data');
        if (data === undefined) continue;
        messages.push({
          event: field('event') ?? 'message',
          id: field('id'),
          data: JSON.parse(data) as Json,
        });
      }
    }
  };
  return { messages, ended: take().catch(() => undefined), close: () => closing.abort() };
}

/** Data of the messages that are events. */
export const eventsOf = (messages: readonly Message[]): Json[] =>
  messages.filter(({ event }) => event === 'message').map(({ data }) => data);

export const askForPage = (url: string, token: string): Promise<Answer> =>
  ask(url, 'GET', { token, headers: { accept: 'application/json' } });

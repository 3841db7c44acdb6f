/** Message of an event stream. */
export type Message = {
  /** `message` where the stream names none. */
  readonly event: string;
  readonly data: string;
  /** Latest id in the stream, up to and including this message; '' before the first. */
  readonly lastId: string;
};

/**
 * Parses an event stream by the standard
 * (https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation), however it is split
 * into pieces. Ignores `retry`, and a last message that no empty line ends.
 * @returns parses the next piece, and returns the messages that end in it
 */
export function eventStreamParser(): (piece: Uint8Array) => Message[] {
  // Drops a byte order mark, and buffers incomplete characters.
  const decoder = new TextDecoder();
  let begunLine = '';
  let endedInCr = false;
  let event = '';
  let data: string[] = [];
  let lastId = '';

  return (piece) => {
    let text = decoder.decode(piece, { stream: true });
    if (text === '') return [];
    // Second half of a CR LF that is split between two pieces.
    if (endedInCr && text.startsWith('\n')) text = text.slice(1);
    endedInCr = text.endsWith('\r');
    const lines = text.split(/\r\n|\r|\n/);
    lines[0] = begunLine + lines[0];
    begunLine = lines.pop() as string;
    return lines.flatMap(parseLine);
  };

  function parseLine(line: string): Message[] {
    if (line === '') return dispatch();
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'event') event = value;
    if (field === 'data') data.push(value);
    if (field === 'id' && !value.includes('\0')) lastId = value;
    return [];
  }

  function dispatch(): Message[] {
    const message = { event: event || 'message', data: data.join('\n'), lastId };
    const isOne = data.length > 0;
    event = '';
    data = [];
    return isOne ? [message] : [];
  }
}

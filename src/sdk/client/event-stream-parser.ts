/** One message of an event stream. */
export type Message = {
  /** `message` where the stream names none. */
  readonly event: string;
  readonly data: string;
  /** The last id that the stream gave, with this message or before it; '' before the first. */
  readonly lastId: string;
};

/**
 * Reads an event stream as the standard says
 * (https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation), wherever it is cut into
 * pieces. `retry` is left aside, as is what no empty line has ended.
 * @returns takes the next piece, and gives the messages that end in it
 */
export function eventStreamParser(): (piece: Uint8Array) => Message[] {
  // Takes a byte order mark away, and waits for the rest of a character.
  const decoder = new TextDecoder();
  let begunLine = '';
  let endedInCr = false;
  let event = '';
  let data: string[] = [];
  let lastId = '';

  return (piece) => {
    let text = decoder.decode(piece, { stream: true });
    if (text === '') return [];
    // The other half of a line's end that the piece before has ended.
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

import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { formatMessage } from '../src/http/sse/event-stream.js';
import { eventStreamParser, type Message } from '../src/sdk/client/event-stream-parser.js';

const bytesOf = (text: string) => new TextEncoder().encode(text);
const parse = (bytes: Uint8Array) => eventStreamParser()(bytes);
const one = (data: string, more: Partial<Message> = {}): Message => ({
  event: 'message',
  data,
  lastId: '',
  ...more,
});

describe('the reader of event streams', () => {
  it.each<[string, string, Message[]]>([
    ['one line of data', 'data: a\n\n', [one('a')]],
    ['several lines of data', 'data: a\ndata:\ndata: b\n\n', [one('a\n\nb')]],
    ['one space after the colon, and no more', 'data:a\n\ndata:  b\n\n', [one('a'), one(' b')]],
    ['colons in the data', 'data: a:b: c\n\n', [one('a:b: c')]],
    ['a field without a colon', 'data\n\n', [one('')]],
    ['an event and an id', 'event: x\nid: 7\ndata: a\n\n', [one('a', { event: 'x', lastId: '7' })]],
    [
      'an id that stays, an event that does not',
      'event: x\nid: 7\ndata: a\n\ndata: b\n\n',
      [one('a', { event: 'x', lastId: '7' }), one('b', { lastId: '7' })],
    ],
    ['an id without data', 'id: 7\n\ndata: b\n\n', [one('b', { lastId: '7' })]],
    ['an id that is taken back', 'id: 7\n\nid\ndata: b\n\n', [one('b')]],
    ['an id with NUL, which is none', 'id: 7\nid: 8\0\ndata: a\n\n', [one('a', { lastId: '7' })]],
    ['an event without data, which is none', 'event: x\n\ndata: b\n\n', [one('b')]],
    ['comments', ':\n: data: x\ndata: a\n:\n\n', [one('a')]],
    ['fields that mean nothing', 'retry: 10\nDATA: x\ndata : x\n data: x\ndata: a\n\n', [one('a')]],
    ['lines that end in CR LF', 'data: a\r\ndata: b\r\n\r\n', [one('a\nb')]],
    ['lines that end in CR', 'data: a\rdata: b\r\r', [one('a\nb')]],
    ['all ends of lines', 'data: a\ndata: b\r\ndata: c\r\rdata: d\n\r\n', [one('a\nb\nc'), one('d')]],
    ['a byte order mark', '\ufeffdata: a\n\n', [one('a')]],
    ['a second one, which is part of the name', '\ufeff\ufeffdata: a\n\n', []],
    ['what is not whole', 'data: a\n\ndata: b\n', [one('a')]],
    ['nothing', '', []],
  ])('understands %s', (_, text, expected) => expect(parse(bytesOf(text))).toEqual(expected));

  it('gives a message as soon as its last line has ended, also if that ends in CR', () => {
    const take = eventStreamParser();
    expect(take(bytesOf('data: a\r\n\r'))).toEqual([one('a')]);
    expect(take(bytesOf('\n'))).toEqual([]);
    expect(take(bytesOf('data: b\r\n\r\n'))).toEqual([one('b')]);
  });

  it('reads the same wherever the stream is cut', () => {
    const part = fc.oneof(
      fc.constantFrom('data', 'event', 'id', 'retry', ':', ': ', ' ', '\n', '\r', '\r\n', '\n\n', '\0'),
      fc.constantFrom('data: ü€𝄞\n', 'id: 7\r\n', 'data: x\r\r', '\ufeff', ':\n'),
      fc.string({ unit: 'grapheme', maxLength: 5 }),
    );
    const text = fc.array(part, { maxLength: 40 }).map((parts) => parts.join(''));
    fc.assert(
      fc.property(text, fc.array(fc.nat(200), { maxLength: 30 }), (all, places) => {
        const bytes = bytesOf(all);
        const cuts = [0, ...places.filter((at) => at <= bytes.length).sort((a, b) => a - b), bytes.length];
        const take = eventStreamParser();
        const found = cuts.slice(1).flatMap((at, i) => take(bytes.subarray(cuts[i], at)));
        expect(found).toEqual(parse(bytes));
        const single = eventStreamParser();
        expect([...bytes].flatMap((_, i) => single(bytes.subarray(i, i + 1)))).toEqual(parse(bytes));
      }),
      { numRuns: 2000 },
    );
  });

  it('reads what the service writes', () => {
    const line = fc.string({ unit: 'grapheme' }).filter((text) => !/[\r\n\0]/.test(text));
    const sent = fc.array(fc.record({ event: line, id: line, data: fc.json() }));
    fc.assert(
      fc.property(sent, (all) => {
        const text = all.map(formatMessage).join('');
        expect(parse(bytesOf(text))).toEqual(
          all.map(({ event, id, data }) => ({ event: event || 'message', lastId: id, data })),
        );
      }),
    );
  });
});

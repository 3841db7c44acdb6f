import { Readable } from 'node:stream';

/**
 * A body `{"success":true,"<name>":[…]}` for a list of any length. One page is a text; of more, a page is in memory at a
 * time, and the next is read when the client has taken it. A failure to read the first two pages is answered as an error;
 * a later one breaks the connection off, because half a list must not look like a whole one.
 */
export async function jsonList<Item>(name: string, pages: AsyncIterator<readonly Item[]>): Promise<string | Readable> {
  const start = `{"success":true,${JSON.stringify(name)}:[`;
  const [first, second] = [await pages.next(), await pages.next()];
  const head = start + textOf(first);
  return second.done ? `${head}]}` : Readable.from(rest(head, second, pages), { objectMode: false });
}

async function* rest<Item>(
  head: string,
  second: IteratorResult<readonly Item[]>,
  pages: AsyncIterator<readonly Item[]>,
): AsyncGenerator<string> {
  yield head;
  let separator = head.endsWith('[') ? '' : ',';
  for (let page = second; !page.done; page = await pages.next()) {
    const text = textOf(page);
    if (text === '') continue;
    yield separator + text;
    separator = ',';
  }
  yield ']}';
}

const textOf = <Item>(page: IteratorResult<readonly Item[]>): string =>
  page.done ? '' : page.value.map((item) => JSON.stringify(item)).join();

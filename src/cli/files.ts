import { statSync } from 'node:fs';
import { type FileHandle, mkdtemp, open, rename, rm } from 'node:fs/promises';
import { constants, tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createGzip } from 'node:zlib';
import { terminalLines } from './terminal-text.js';

/** Files of exports hold sealed secrets. */
const OWNER_ONLY = 0o600;
const READ_BYTES = 256 * 1024;
const GZIP = Buffer.from([0x1f, 0x8b]);

/**
 * Writes a file that is there when it is whole, and on the disk, and not before; it takes the place of an
 * older one.
 * @throws Error it cannot be written; an older one is as it was
 */
export async function writeFileAtomic(
  file: string,
  chunks: AsyncIterable<Buffer>,
  options: { readonly gzip: boolean },
): Promise<void> {
  const found = statSync(file, { throwIfNoEntry: false });
  if (found && !found.isFile())
    throw new Error(`${file} is no regular file; without --output it goes to stdout`);
  const draft = join(dirname(file), `.${basename(file)}.${process.pid}.part`);
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  const abandon = (signal: (typeof signals)[number]) => {
    void rm(draft, { force: true }).finally(() => process.exit(128 + constants.signals[signal]));
  };
  for (const signal of signals) process.on(signal, abandon);
  let handle: FileHandle | undefined;
  try {
    handle = await open(draft, 'w', OWNER_ONLY);
    const out = handle;
    const save = (bytes: AsyncIterable<Buffer>) => writeTo(out, bytes);
    await (options.gzip ? pipeline(chunks, createGzip(), save) : save(chunks));
    await handle.sync();
    await handle.close();
    await rename(draft, file);
    await syncFolder(dirname(file));
  } catch (error) {
    await handle?.close().catch(() => undefined);
    await rm(draft, { force: true });
    throw error;
  } finally {
    for (const signal of signals) process.off(signal, abandon);
  }
}

async function writeTo(handle: FileHandle, bytes: AsyncIterable<Buffer>): Promise<void> {
  for await (const chunk of bytes) await handle.writeFile(chunk);
}

/** A renamed file is found after a power cut once its folder is on the disk. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder);
  await handle.sync().finally(() => handle.close());
}

/**
 * Writes to stdout, as fast as it is read. A terminal gets unsafe characters escaped.
 * @throws Error with the code EPIPE when the reader has gone; stdout is a terminal, for which gzip is none
 */
export async function writeOut(
  chunks: AsyncIterable<Buffer>,
  options: { readonly gzip: boolean },
): Promise<void> {
  const stdout = process.stdout;
  if (options.gzip && stdout.isTTY) throw new Error('A gzip is nothing for a terminal; use --output <file>');
  await (options.gzip
    ? pipeline(chunks, createGzip(), stdout, { end: false })
    : pipeline(stdout.isTTY ? forTerminal(chunks) : chunks, stdout, { end: false }));
}

async function* forTerminal(chunks: AsyncIterable<Buffer>): AsyncIterable<string> {
  const decoder = new TextDecoder();
  for await (const chunk of chunks) yield terminalLines(decoder.decode(chunk, { stream: true }));
}

/** A file that can be read several times, from its beginning. */
export type Source = {
  /** Its bytes, unpacked if they are gzipped. */
  read(): AsyncIterable<Buffer>;
  close(): Promise<void>;
};

/**
 * Opens a file, or stdin ('-'). What can be read once only, such as a pipe, is copied to a file in the
 * folder for temporary files first, which has no name any more while it is read.
 * @throws Error there is no such file
 */
export async function openSource(file: string): Promise<Source> {
  if (file === '-') return sourceOf(await spooled(process.stdin));
  const handle = await open(file);
  if ((await handle.stat()).isFile()) return sourceOf(handle);
  try {
    return sourceOf(await spooled(bytesOf(handle, 'as they come')));
  } finally {
    await handle.close();
  }
}

async function spooled(once: AsyncIterable<Buffer>): Promise<FileHandle> {
  const folder = await mkdtemp(join(tmpdir(), 'keyledger-'));
  try {
    const handle = await open(join(folder, 'spool'), 'wx+', OWNER_ONLY);
    await writeTo(handle, once);
    return handle;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function sourceOf(handle: FileHandle): Promise<Source> {
  const { buffer } = await handle.read(Buffer.alloc(GZIP.length), 0, GZIP.length, 0);
  const packed = buffer.equals(GZIP);
  return {
    read: () => (packed ? unpacked(bytesOf(handle)) : bytesOf(handle)),
    close: () => handle.close(),
  };
}

async function* bytesOf(
  handle: FileHandle,
  which: 'from the beginning' | 'as they come' = 'from the beginning',
): AsyncIterable<Buffer> {
  for (let done = 0; ; ) {
    const position = which === 'as they come' ? null : done;
    const { buffer, bytesRead } = await handle.read(Buffer.allocUnsafe(READ_BYTES), 0, READ_BYTES, position);
    if (bytesRead === 0) return;
    yield buffer.subarray(0, bytesRead);
    done += bytesRead;
  }
}

async function* unpacked(bytes: AsyncIterable<Buffer>): AsyncIterable<Buffer> {
  const gunzip = createGunzip();
  let fed = 0;
  const counted = async function* () {
    for await (const chunk of bytes) {
      fed += chunk.length;
      yield chunk;
    }
  };
  const feeding = pipeline(counted(), gunzip);
  feeding.catch(() => undefined);
  try {
    yield* gunzip;
  } catch (error) {
    throw new Error(
      `The gzip is damaged or cut off, or something follows behind its end: ${(error as Error).message}`,
    );
  }
  // At zeros behind its end gunzip stops reading, and says nothing.
  if (fed > gunzip.bytesWritten) throw new Error('Something follows behind the end of the gzip');
  await feeding;
}

import { statSync } from 'node:fs';
import { type FileHandle, mkdtemp, open, rename, rm } from 'node:fs/promises';
import { constants, tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createGzip } from 'node:zlib';
import { terminalLines } from '../terminal-text.js';

/** Exports contain sealed secrets. */
const OWNER_ONLY = 0o600;
const READ_BYTES = 256 * 1024;
const GZIP = Buffer.from([0x1f, 0x8b]);

/**
 * Writes a file that appears only when it is complete and on the disk; it replaces an existing one.
 * @throws Error the file cannot be written; an existing one stays unchanged
 */
export async function writeFileAtomic(
  file: string,
  chunks: AsyncIterable<Buffer>,
  options: { readonly gzip: boolean },
): Promise<void> {
  const found = statSync(file, { throwIfNoEntry: false });
  if (found && !found.isFile()) throw new Error(`${file} is not a regular file; omit --output to write to stdout`);
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

/** Syncs a folder: a renamed file survives a power failure only after its folder is on the disk. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder);
  await handle.sync().finally(() => handle.close());
}

/**
 * Writes to stdout, as fast as the reader consumes. Escapes unsafe characters on a terminal.
 * @throws Error with the code EPIPE when the reader has stopped; gzip on a terminal
 */
export async function writeOut(chunks: AsyncIterable<Buffer>, options: { readonly gzip: boolean }): Promise<void> {
  const stdout = process.stdout;
  if (options.gzip && stdout.isTTY)
    throw new Error('stdout is a terminal, which cannot show gzip; use --output <file>');
  await (options.gzip
    ? pipeline(chunks, createGzip(), stdout, { end: false })
    : pipeline(stdout.isTTY ? forTerminal(chunks) : chunks, stdout, { end: false }));
}

async function* forTerminal(chunks: AsyncIterable<Buffer>): AsyncIterable<string> {
  const decoder = new TextDecoder();
  for await (const chunk of chunks) yield terminalLines(decoder.decode(chunk, { stream: true }));
}

/** File that can be read repeatedly from its beginning. */
export type Source = {
  /** Its bytes, decompressed if they are gzipped. */
  read(): AsyncIterable<Buffer>;
  close(): Promise<void>;
};

/**
 * Opens a file, or stdin ('-'). Copies a source that is readable only once, such as a pipe, to a file in the folder for
 * temporary files, and unlinks this file before reading it.
 * @throws Error the file does not exist
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
    throw new Error(`The gzip is damaged or truncated, or data follows after its end: ${(error as Error).message}`);
  }
  // gunzip stops silently at zeros after its end.
  if (fed > gunzip.bytesWritten) throw new Error('Data follows after the end of the gzip');
  await feeding;
}

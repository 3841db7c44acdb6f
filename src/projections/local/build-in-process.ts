import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { BuildProgress } from './file.js';
import type { BuildFile } from './local-projections.js';

/** The log to read, see openEventStore, and the file to build. */
export type BuildRequest = { readonly url: string; readonly prefix: string | undefined; readonly path: string };
export type BuildReply = { readonly progress: BuildProgress } | { readonly failure: string } | 'whole';

/**
 * Builds projections files in a process of its own, which takes a second core, blocks nobody and gives its memory back.
 * @param url of the log, see openEventStore
 */
export const buildInProcess =
  (url: string, prefix: string | undefined): BuildFile =>
  (path, onProgress, signal) =>
    new Promise((resolve, reject) => {
      let failure = 'the process that builds them has ended';
      let isWhole = false;
      const child = fork(fileURLToPath(new URL('./build-process.js', import.meta.url)), { signal });
      child.on('message', (reply: BuildReply) => {
        if (reply === 'whole') isWhole = true;
        else if ('progress' in reply) onProgress(reply.progress);
        else failure = reply.failure;
      });
      child.on('error', reject);
      child.on('exit', () => (isWhole ? resolve() : reject(new Error(failure))));
      child.send({ url, prefix, path } satisfies BuildRequest);
    });

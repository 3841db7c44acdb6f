import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { eventually } from '../assertions/eventually.js';
import { temporaryFolder } from '../fixtures/temp-folder.js';
import { freePort } from './redis-server.js';
import { serverEnvironment } from './server-environment.js';

export type Nginx = { readonly url: string; stop(): Promise<void> };

const HOW = 'install nginx-light';

/** Command that starts nginx, if installed; CI requires it. /usr/sbin is often missing in a user's PATH. */
export const nginx: string | undefined = ['nginx', '/usr/sbin/nginx'].find(
  (command) => spawnSync(command, ['-v'], { stdio: 'ignore', timeout: 5000 }).status === 0,
);

if (!nginx) {
  if (process.env['CI']) throw new Error(`There is no nginx: ${HOW}`);
  process.stderr.write(`The nginx suite is skipped: ${HOW}\n`);
}

/** Configuration for nginx from docs/how-to/gateways.md, and the addresses in it. */
const DOCUMENTED = /^```nginx\n(.*?)^```$/ms.exec(readFileSync('docs/how-to/gateways.md', 'utf8'))?.[1] ?? '';
const KEYLEDGER = 'server 127.0.0.1:8080;';
const APPLICATION = 'server 127.0.0.1:3000;';
const LISTEN = 'listen 80;';

/** Variant from docs/how-to/gateways.md for a single repository and provider. */
const RESTRICTED = /^ {2}```nginx\n(.*?)^ {2}```$/ms.exec(readFileSync('docs/how-to/gateways.md', 'utf8'))?.[1] ?? '';
const INTERNAL = 'internal;';

/** Starts nginx with the configuration from docs/how-to/gateways.md, in front of these addresses (host:port). */
export async function startNginx(
  keyledger: string,
  application: string,
  access: 'of all' | 'restricted' = 'of all',
): Promise<Nginx> {
  const folder = temporaryFolder();
  const address = `127.0.0.1:${await freePort()}`;
  const gateway = [
    [KEYLEDGER, `server ${keyledger};`],
    [APPLICATION, `server ${application};`],
    [LISTEN, `listen ${address};`],
    [INTERNAL, access === 'restricted' ? `${INTERNAL}\n${RESTRICTED}` : INTERNAL],
  ].reduce((text, [from = '', to = '']) => replaceOnce(text, from, to), DOCUMENTED);
  const file = join(folder.path, 'nginx.conf');
  writeFileSync(file, `${surroundings(folder.path)}http {\naccess_log off;\n${TEMPORARY}\n${gateway}}\n`);
  const server = spawn(nginx ?? 'nginx', ['-p', folder.path, '-c', file], {
    stdio: ['ignore', 'inherit', 'pipe'],
    env: serverEnvironment(),
  });
  let log = '';
  server.stderr.setEncoding('utf8').on('data', (text) => {
    log += text;
  });
  const exited = once(server, 'exit');
  const url = `http://${address}`;
  await eventually(async () => {
    if (server.exitCode !== null) throw new Error(`nginx has ended: ${log}`);
    return fetch(url).then(
      () => true,
      () => false,
    );
  });
  return {
    url,
    stop: async () => {
      server.kill('SIGTERM');
      await exited;
      folder.remove();
    },
  };
}

/** A single process in the foreground, with the rights of the user, that writes to its folder only. */
const surroundings = (folder: string) =>
  `daemon off;\nmaster_process off;\npid ${join(folder, 'nginx.pid')};\nerror_log stderr crit;\nevents { worker_connections 4096; }\n`;

const TEMPORARY = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
  .map((name) => `${name}_temp_path ${name};`)
  .join('\n');

function replaceOnce(text: string, from: string, to: string): string {
  const parts = text.split(from);
  if (parts.length !== 2) throw new Error(`docs/how-to/gateways.md should have "${from}" once in its nginx block`);
  return parts.join(to);
}

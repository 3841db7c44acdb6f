import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { eventually } from '../assertions/eventually.js';
import { freshFolder } from '../fixtures/temp-folder.js';
import { freePort } from './redis-server.js';
import { serverEnvironment } from './server-environment.js';

export type Nginx = { readonly url: string; stop(): Promise<void> };

const HOW = 'install nginx-light';

/** The nginx to test with, if there is one. In CI it must be there. Users often lack /usr/sbin in their PATH. */
export const nginx: string | undefined = ['nginx', '/usr/sbin/nginx'].find(
  (command) => spawnSync(command, ['-v'], { stdio: 'ignore', timeout: 5000 }).status === 0,
);

if (!nginx) {
  if (process.env['CI']) throw new Error(`There is no nginx: ${HOW}`);
  process.stderr.write(`The nginx suite is skipped: ${HOW}\n`);
}

/** What docs/how-to/gateways.md shows for nginx, and where it puts each address. */
const SHOWN = /^```nginx\n(.*?)^```$/ms.exec(readFileSync('docs/how-to/gateways.md', 'utf8'))?.[1] ?? '';
const KEYLEDGER = 'server 127.0.0.1:8080;';
const APPLICATION = 'server 127.0.0.1:3000;';
const LISTEN = 'listen 80;';

/** What docs/how-to/gateways.md adds for one repository and provider only. */
const RESTRICTED =
  /^ {2}```nginx\n(.*?)^ {2}```$/ms.exec(readFileSync('docs/how-to/gateways.md', 'utf8'))?.[1] ?? '';
const INTERNAL = 'internal;';

/** nginx with the configuration from docs/how-to/gateways.md, in front of these addresses (host:port). */
export async function startNginx(
  keyledger: string,
  application: string,
  access: 'of all' | 'restricted' = 'of all',
): Promise<Nginx> {
  const folder = freshFolder();
  const address = `127.0.0.1:${await freePort()}`;
  const gateway = [
    [KEYLEDGER, `server ${keyledger};`],
    [APPLICATION, `server ${application};`],
    [LISTEN, `listen ${address};`],
    [INTERNAL, access === 'restricted' ? `${INTERNAL}\n${RESTRICTED}` : INTERNAL],
  ].reduce((text, [from = '', to = '']) => replaceOnce(text, from, to), SHOWN);
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

/** One process in the foreground, with the rights of who runs the tests, that writes to its folder only. */
const surroundings = (folder: string) =>
  `daemon off;\nmaster_process off;\npid ${join(folder, 'nginx.pid')};\nerror_log stderr crit;\nevents { worker_connections 4096; }\n`;

const TEMPORARY = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
  .map((name) => `${name}_temp_path ${name};`)
  .join('\n');

function replaceOnce(text: string, from: string, to: string): string {
  const parts = text.split(from);
  if (parts.length !== 2)
    throw new Error(`docs/how-to/gateways.md should have "${from}" once in its nginx block`);
  return parts.join(to);
}

import { once } from 'node:events';
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { Connection } from './connection.js';

/** Short enough that two probes come before the first report of a wait, within three seconds. */
const PROBE_TIMEOUT_MS = 600;

/**
 * Connects to each host to find out why it is unavailable and what to do; the client itself often reports only that a
 * call failed. Undefined if all hosts accept connections.
 */
export async function diagnose({ hosts, tls }: Pick<Connection, 'hosts' | 'tls'>): Promise<string | undefined> {
  for (const { host, port } of hosts) {
    const reason = await diagnoseHost(host, port, tls);
    if (reason !== undefined) return `${host}:${port} ${reason}`;
  }
  return undefined;
}

async function diagnoseHost(host: string, port: number, tls: boolean): Promise<string | undefined> {
  const failure = await connectError(connectTcp({ host, port }), 'connect');
  if (failure) return NETWORK_FAILURES[failure.code ?? ''] ?? `cannot be reached: ${failure.message}`;
  const servername = /[a-z]/i.test(host) && !host.includes(':') ? host : '';
  const socket = connectTls({ host, port, servername, ALPNProtocols: ['h2'], rejectUnauthorized: false });
  const refusal = await connectError(socket, 'secureConnect');
  if (refusal?.code === TIMED_OUT) return 'accepts connections, but does not answer';
  const speaksTls = refusal === undefined;
  if (speaksTls && !tls) return 'accepts only TLS: remove tls=false from the URL';
  if (!speaksTls && tls) return 'does not speak TLS: add ?tls=false to the URL if that is intended';
  return undefined;
}

const TIMED_OUT = 'ETIMEDOUT';
const NETWORK_FAILURES: Readonly<Record<string, string>> = {
  ENOTFOUND: 'has a name that does not resolve',
  EAI_AGAIN: 'has a name that does not resolve now',
  ECONNREFUSED: 'refuses connections: nothing listens there',
  EHOSTUNREACH: 'has an address that cannot be reached',
  ENETUNREACH: 'has an address that cannot be reached',
  [TIMED_OUT]: 'does not answer',
};

/** The error of a socket that fails before an event; undefined if the event comes. */
async function connectError(socket: Socket, event: string): Promise<NodeJS.ErrnoException | undefined> {
  const late = Object.assign(new Error('it does not answer'), { code: TIMED_OUT });
  const timer = setTimeout(() => socket.destroy(late), PROBE_TIMEOUT_MS);
  try {
    await once(socket, event);
    return undefined;
  } catch (error) {
    return error as NodeJS.ErrnoException;
  } finally {
    clearTimeout(timer);
    socket.on('error', () => undefined).destroy();
  }
}

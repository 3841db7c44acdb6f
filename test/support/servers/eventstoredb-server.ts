import { spawnSync } from 'node:child_process';

export type EventStoreDbServer = { readonly url: string; stop(): Promise<void> };

const IMAGE = 'kurrentplatform/kurrentdb:26.1.0';
const PORT = 2113;
const HOW = 'set EVENTSTORE_TEST_URL=esdb://127.0.0.1:2113?tls=false, or start Docker';

/** Source of an EventStoreDB or KurrentDB, if there is one to test against. */
export const eventStoreDbSource: 'EVENTSTORE_TEST_URL' | 'testcontainers' | undefined = process.env[
  'EVENTSTORE_TEST_URL'
]
  ? 'EVENTSTORE_TEST_URL'
  : spawnSync('docker', ['info'], { stdio: 'ignore', timeout: 5000 }).status === 0
    ? 'testcontainers'
    : undefined;

if (!eventStoreDbSource) process.stderr.write(`The EventStoreDB suites are skipped: ${HOW}\n`);

/** Source of an empty one, if there is any. All suites share the configured server, and so several logs do. */
export const emptyEventStoreDbSource: string | undefined =
  process.env['EVENTSTORE_EMPTY_TEST_URL'] ||
  (eventStoreDbSource === 'testcontainers' ? eventStoreDbSource : undefined);

/** The configured server, or a container for this suite. */
export async function startEventStoreDb(): Promise<EventStoreDbServer> {
  const configured = process.env['EVENTSTORE_TEST_URL'];
  return configured ? { url: configured, stop: async () => undefined } : startContainer();
}

/** A server for a single log: the one configured for this purpose, or a container. */
export async function startEmptyEventStoreDb(): Promise<EventStoreDbServer> {
  const configured = process.env['EVENTSTORE_EMPTY_TEST_URL'];
  return configured ? { url: configured, stop: async () => undefined } : startContainer();
}

async function startContainer(): Promise<EventStoreDbServer> {
  const { GenericContainer, Wait } = await import('testcontainers');
  const container = await new GenericContainer(IMAGE)
    .withEnvironment({
      KURRENTDB_INSECURE: 'true',
      KURRENTDB_MEM_DB: 'true',
      KURRENTDB_TELEMETRY_OPTOUT: 'true',
    })
    .withExposedPorts(PORT)
    .withWaitStrategy(Wait.forHttp('/health/live', PORT).forStatusCode(204))
    .start();
  return {
    url: `esdb://${container.getHost()}:${container.getMappedPort(PORT)}?tls=false`,
    stop: async () => void (await container.stop()),
  };
}

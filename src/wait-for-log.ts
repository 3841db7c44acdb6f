import type { Logger } from 'pino';
import type { EventStore } from './event-store/event-store.js';
import { openEventStore } from './event-store/open.js';
import { createWaitingApp, type HttpSettings } from './http/app.js';
import { type Listening, listen } from './http/listen.js';
import type { Metrics } from './http/metrics.js';
import { ConfigError, type Settings } from './settings.js';

/** Nobody waits long for an answer of a service that has no log (milliseconds). */
const WAITING_GRACE_MS = 500;

/**
 * Opens the log of the settings. While it cannot be reached, log lines say why, /health/live and /metrics are 200,
 * /health/ready is 503 with the reason, and everything else is 503.
 * @param onFatal called once if the log has failed for good: the process must end
 * @throws ConfigError what no waiting helps against, or that the address is taken
 */
export async function openLogOrWait(
  config: Settings,
  { settings, metrics, logger }: { settings: HttpSettings; metrics: Metrics; logger: Logger },
  onFatal: (error: Error) => void,
): Promise<EventStore> {
  let reason = '';
  let meanwhile: Promise<Listening> | undefined;
  let fail: (error: unknown) => void = () => undefined;
  const failure = new Promise<never>((_, reject) => {
    fail = reject;
  });
  const serve = async () => {
    const app = await createWaitingApp({ settings, metrics, logger }, () => reason);
    return listen(app, config, 'PORT');
  };
  const onWaiting = (message: string) => {
    reason = message;
    logger.warn(message);
    meanwhile ??= serve();
    meanwhile.catch(fail);
  };
  const opening = openEventStore(config.EVENT_STORE_URL, {
    onFatal,
    warn: (warning) => logger.warn(warning),
    prefix: config.EVENT_STORE_PREFIX,
    wait: { onWaiting },
  });
  try {
    const log = await Promise.race([opening, failure]);
    if (meanwhile) logger.info('The log is there');
    return log;
  } catch (error) {
    throw error instanceof ConfigError
      ? error
      : new ConfigError(`EVENT_STORE_URL: ${(error as Error).message}`);
  } finally {
    await (await meanwhile?.catch(() => undefined))?.close(WAITING_GRACE_MS);
  }
}

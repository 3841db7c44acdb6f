import type { Logger } from 'pino';
import type { EventStore } from './event-store/event-store.js';
import { openEventStore } from './event-store/open.js';
import { createWaitingApp, type HttpSettings } from './http/app.js';
import { type Listening, listen } from './http/listen.js';
import type { Metrics } from './http/metrics.js';
import { ConfigError, type Settings } from './settings.js';

/** Time for open requests to end: without a log, answers are short. */
const WAITING_GRACE_MS = 500;

/**
 * Opens the log of the settings. While it is unavailable, log lines say why, /health/live and /metrics answer 200,
 * /health/ready 503 with the reason, and everything else 503.
 * @param onFatal called once if the log has failed for good: the process must end
 * @throws ConfigError the log cannot be opened, even by waiting, or the address is in use
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
    if (meanwhile) logger.info('The log is available');
    return log;
  } catch (error) {
    throw error instanceof ConfigError ? error : new ConfigError(`EVENT_STORE_URL: ${(error as Error).message}`);
  } finally {
    await (await meanwhile?.catch(() => undefined))?.close(WAITING_GRACE_MS);
  }
}

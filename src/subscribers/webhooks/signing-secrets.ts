import type { EpochMs } from '../../domain/time.js';
import { evolveWebhook, signingSecretsAt, type Webhook, webhookStream } from '../../domain/webhook.js';
import { decodeWebhookEvent } from '../../event-store/codec.js';
import type { EventStore } from '../../event-store/event-store.js';
import type { Keyring } from '../../security/keyring.js';

/**
 * A webhook with its sealed secrets, which only the log holds; undefined if the log has no such webhook.
 * @throws KeyledgerError UNAVAILABLE
 */
export async function readWebhook(log: EventStore, webhookId: string): Promise<Webhook | undefined> {
  let webhook: Webhook | undefined;
  let revision = 0;
  for await (const recorded of log.readStream(webhookStream(webhookId))) {
    webhook = evolveWebhook(webhook, decodeWebhookEvent(recorded, revision++));
  }
  return webhook;
}

/** The secrets that sign at a time, newest first; undefined if the newest cannot be opened. */
export function openSigningSecrets(webhook: Webhook, keyring: Keyring, now: EpochMs): string[] | undefined {
  const { webhookId } = webhook;
  const [newest, ...older] = signingSecretsAt(webhook, now).map(({ sealedSecret, secretVersion, secretHash }) =>
    keyring.open(sealedSecret, { webhookId, secretVersion }, secretHash),
  );
  return newest === undefined ? undefined : [newest, ...older.filter((secret) => secret !== undefined)];
}

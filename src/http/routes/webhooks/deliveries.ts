import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { KeyledgerError } from '../../../domain/errors.js';
import { resumeTokenOf } from '../../../event-store/resume-token.js';
import type { Queries } from '../../../projections/queries.js';
import { isAcknowledged, SECRET_UNAVAILABLE } from '../../../subscribers/webhooks/delivery-attempt.js';
import type { Attempt, Cursor } from '../../../subscribers/webhooks/delivery-store.js';
import type { WebhookDispatcher } from '../../../subscribers/webhooks/dispatcher.js';
import { errors } from '../../schemas.js';
import { requireWebhook, WebhookParams } from './schemas.js';

const status = z.int().nullable().describe('null: there was no answer, and error says why');
const error = z.string().nullable();
const ms = z.int().describe('Duration of the call in milliseconds');
const Delivery = z
  .object({
    eventId: z.string().describe('The webhook-id of the call'),
    type: z.string(),
    position: z.string(),
    at: z.iso.datetime(),
    ms,
    status,
    error,
  })
  .meta({ id: 'Delivery' });
const DeliveriesResponse = z.object({
  success: z.literal(true),
  deliveries: z.array(Delivery).describe('The last 100 calls, newest first'),
  toldTo: z
    .string()
    .nullable()
    .describe('Resume token of the last event that the endpoint has acknowledged; null: none yet'),
  failing: z
    .object({ since: z.iso.datetime(), tries: z.int(), nextAt: z.iso.datetime() })
    .nullable()
    .describe('Attempts to deliver the next event that have failed so far'),
});
const PingResponse = z.object({
  success: z.literal(true),
  delivered: z.boolean().describe('true: the endpoint answered 2xx'),
  status,
  error,
  ms,
});
const tags = ['Webhooks'];

/** The calls of a webhook: those of the past, and a ping. */
export const webhookDeliveryRoutes =
  ({
    queries,
    webhookDispatcher,
  }: {
    readonly queries: Queries;
    readonly webhookDispatcher: WebhookDispatcher;
  }): FastifyPluginAsyncZod =>
  async (app) => {
    app.get(
      '/repo/:repoId/webhook/:webhookId/deliveries',
      {
        config: { permission: 'feed' },
        schema: {
          operationId: 'getRepoWebhookDeliveries',
          summary: 'Show the last calls of a webhook, and how far its deliveries have come',
          tags,
          params: WebhookParams,
          response: { 200: DeliveriesResponse, ...errors },
        },
      },
      async (request) => {
        const { webhook, from } = requireWebhook(await queries.webhooks(undefined), request.params);
        const { cursor, attempts } = await webhookDispatcher
          .deliveryStatus(webhook.webhookId)
          .catch((cause: unknown) => {
            throw new KeyledgerError('UNAVAILABLE', { cause });
          });
        return {
          success: true as const,
          deliveries: attempts.map(attemptView),
          toldTo: cursor ? toldTo(cursor) : from,
          failing: failing(cursor),
        };
      },
    );

    app.post(
      '/repo/:repoId/webhook/:webhookId/ping',
      {
        config: { permission: 'change' },
        schema: {
          operationId: 'pingRepoWebhook',
          summary:
            'Call the endpoint of a webhook once with a WebhookPing, which no log holds, also while the webhook is paused',
          tags,
          params: WebhookParams,
          response: { 200: PingResponse, ...errors },
        },
      },
      async (request) => {
        const { webhook } = requireWebhook(await queries.webhooks(undefined), request.params);
        if (webhook.status === 'unavailable') {
          throw new KeyledgerError('WEBHOOK_QUARANTINED', { details: { id: webhook.webhookId } });
        }
        const result = await webhookDispatcher.ping(webhook);
        if (!result) throw new KeyledgerError('UNAVAILABLE', { message: SECRET_UNAVAILABLE });
        const { status, error, ms } = result;
        return { success: true as const, delivered: isAcknowledged(status), status, error, ms };
      },
    );
  };

const attemptView = ({ at, ...attempt }: Attempt) => ({ ...attempt, at: new Date(at).toISOString() });

/** Resume token of the last event that the endpoint acknowledged; before the first one, where deliveries start. */
const toldTo = ({ position, eventId }: Cursor): string | null =>
  position !== null && eventId !== null ? resumeTokenOf({ position, id: eventId }) : position;

function failing(cursor: Cursor | undefined) {
  if (!cursor?.failing) return null;
  const { since, tries, nextAt } = cursor.failing;
  return { since: new Date(since).toISOString(), tries, nextAt: new Date(nextAt).toISOString() };
}

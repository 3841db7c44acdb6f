import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { KeyledgerError } from '../../domain/errors.js';
import { ErrorEnvelope } from '../errors.js';

const Health = z.object({ success: z.literal(true), status: z.enum(['live', 'ready']) });
const tags = ['Health'];

/**
 * Live: the process answers. Ready: it may be given traffic, because its read side has caught up.
 * @param reasonUnready why no traffic should be sent here; undefined if it may
 */
export const healthRoutes =
  (reasonUnready: () => string | undefined): FastifyPluginAsyncZod =>
  async (app) => {
    app.get(
      '/health/live',
      {
        schema: {
          operationId: 'live',
          summary: 'Is the process alive?',
          tags,
          security: [],
          response: { 200: Health, '4xx': ErrorEnvelope },
        },
      },
      async () => ({ success: true as const, status: 'live' as const }),
    );
    app.get(
      '/health/ready',
      {
        schema: {
          operationId: 'ready',
          summary: 'May it be given traffic?',
          tags,
          security: [],
          response: { 200: Health, '4xx': ErrorEnvelope, 503: ErrorEnvelope },
        },
      },
      async () => {
        const reason = reasonUnready();
        if (reason) throw new KeyledgerError('UNAVAILABLE', { message: reason });
        return { success: true as const, status: 'ready' as const };
      },
    );
  };

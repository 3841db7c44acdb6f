import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { KeyledgerError } from '../../domain/errors.js';
import type { BuildProgress } from '../../projections/local/file.js';
import { ErrorEnvelope } from '../errors.js';

const Health = z.object({ success: z.literal(true), status: z.enum(['live', 'ready']) });
const tags = ['Health'];

/** Why an instance cannot take traffic, and the progress of building its projections. */
export type Unready = { readonly reason: string; readonly building?: BuildProgress | undefined };

/**
 * Live: the process answers. Ready: the instance can take traffic: its projections have reached the end of the log
 * once, and it has tried to write the read model.
 * @param unready why the instance cannot take traffic; undefined if it can
 */
export const healthRoutes =
  (unready: () => Unready | undefined): FastifyPluginAsyncZod =>
  async (app) => {
    app.get(
      '/health/live',
      {
        schema: {
          operationId: 'live',
          summary: 'Check that the process is alive',
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
          summary: 'Check that the instance can take traffic',
          tags,
          security: [],
          response: { 200: Health, '4xx': ErrorEnvelope, 503: ErrorEnvelope },
        },
      },
      async () => {
        const problem = unready();
        if (problem) {
          const { reason, building } = problem;
          throw new KeyledgerError('UNAVAILABLE', { message: reason, details: building ? { building } : {} });
        }
        return { success: true as const, status: 'ready' as const };
      },
    );
  };

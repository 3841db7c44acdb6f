import type { FastifyContextConfig, FastifyInstance, FastifyRequest } from 'fastify';
import type { z } from 'zod';
import type { CommandContext, CommandResult } from '../commands/command-handler.js';
import type { Position } from '../event-store/position.js';
import { type CommandDependencies, commandContext } from './command-context.js';
import { Done, errors, IdempotencyHeaders } from './schemas.js';

type Route<Params extends z.ZodType, Body extends z.ZodType> = {
  readonly method: 'POST' | 'PUT' | 'DELETE';
  readonly url: string;
  readonly config?: FastifyContextConfig;
  readonly operationId: string;
  readonly summary: string;
  readonly params: Params;
  readonly body?: Body;
  /** Does the call take an Idempotency-Key? */
  readonly idempotent?: true;
  /** Status and schema of success; default: 200 with a message. */
  readonly success?: { readonly status: 200 | 201; readonly schema: z.ZodType };
};

type MutationRequest<Params, Body> = {
  readonly context: ReturnType<typeof commandContext>;
  readonly params: Params;
  readonly body: Body;
  readonly idempotencyKey: string | undefined;
};

/** What a mutation answers, beside `success` and the position of its event. */
type Outcome = { readonly position: Position } & Readonly<Record<string, unknown>>;

/**
 * Makes routes that change something. Each runs a command in the context of its request and answers with
 * Keyledger-Position, once its projection holds the change. A late projection delays the answer by at most a second and
 * does not make it fail.
 * @param awaitProjection waits for the position of the change
 * @returns a function that adds a route
 */
export const mutations =
  (
    app: FastifyInstance,
    dependencies: CommandDependencies,
    { tags, awaitProjection }: { tags: string[]; awaitProjection: (position: Position) => Promise<boolean> },
  ) =>
  <Params extends z.ZodType, Body extends z.ZodType = z.ZodUndefined>(
    { method, url, config, operationId, summary, params, body, idempotent, success }: Route<Params, Body>,
    run: (request: MutationRequest<z.infer<Params>, z.infer<Body>>) => Promise<Outcome>,
  ): void => {
    const { status, schema } = success ?? { status: 200, schema: Done };
    app.route({
      method,
      url,
      config: { permission: 'change', ...config },
      schema: {
        operationId,
        summary,
        tags,
        params,
        ...(idempotent ? { headers: IdempotencyHeaders } : {}),
        ...(body ? { body } : {}),
        response: { [status]: schema, ...errors },
      },
      handler: async (request: FastifyRequest, reply) => {
        const { position, ...answer } = await run({
          context: commandContext(request, dependencies),
          params: request.params as z.infer<Params>,
          body: request.body as z.infer<Body>,
          idempotencyKey: request.headers['idempotency-key'] as string | undefined,
        });
        reply.header('keyledger-position', position);
        await awaitProjection(position);
        return reply.code(status).send({ success: true, ...answer });
      },
    });
  };

/**
 * Makes the routes whose command needs only the resource and the body of the request.
 * @param resource the parameters of their paths, how those name the resource, and the handler of its commands
 */
export const changes =
  <Params extends z.ZodType, Ref, Command>(
    mutation: ReturnType<typeof mutations>,
    resource: {
      readonly params: Params;
      readonly toRef: (params: z.infer<Params>) => Ref;
      readonly handle: (context: CommandContext, ref: Ref, command: Command) => Promise<CommandResult>;
    },
  ) =>
  <Body extends z.ZodType = z.ZodUndefined>(
    route: Omit<Route<Params, Body>, 'params'>,
    toCommand: (ref: Ref, body: z.infer<Body>) => Command,
    messages: Readonly<Record<CommandResult['outcome'], string>>,
  ): void => {
    const { params, toRef, handle } = resource;
    mutation({ ...route, params } as Route<Params, Body>, async (request) => {
      const ref = toRef(request.params);
      const { outcome, position } = await handle(request.context, ref, toCommand(ref, request.body));
      return { position, message: messages[outcome] };
    });
  };

import type { FastifyInstance, HTTPMethods } from 'fastify';
import { KeyledgerError } from '../../domain/errors.js';

/** Collects each path that is registered from now on. */
export function collectPaths(app: FastifyInstance): ReadonlySet<string> {
  const paths = new Set<string>();
  app.addHook('onRoute', ({ url }) => {
    if (!url.includes('*')) paths.add(url);
  });
  return paths;
}

/** RFC 9110, section 15.5.6: a known path answers other methods with 405 and an Allow header. */
export function refuseOtherMethods(app: FastifyInstance, paths: ReadonlySet<string>): void {
  for (const url of [...paths]) {
    const isRegistered = (method: string) => app.hasRoute({ url, method: method as HTTPMethods });
    const others = app.supportedMethods.filter((method) => !isRegistered(method));
    if (others.length === 0) continue;
    const allow = app.supportedMethods.filter(isRegistered).join(', ');
    app.route({
      url,
      method: others,
      schema: { hide: true },
      onRequest: async (_, reply) => {
        reply.header('allow', allow);
        throw new KeyledgerError('METHOD_NOT_ALLOWED');
      },
      handler: async () => undefined,
    });
  }
}

import type { FastifyReply, FastifyRequest } from 'fastify';
import { type Caller, type Permission, permits, permitsSomewhere } from '../../domain/authorization.js';
import { KeyledgerError } from '../../domain/errors.js';
import { type TokenFault, TokenRefused, type VerifyToken } from '../../security/tokens.js';
import { addressGroup, clientAddress } from './client-address.js';

declare module 'fastify' {
  interface FastifyRequest {
    /** The caller that the bearer token names, or why the token is refused. */
    caller: Caller | KeyledgerError | undefined;
    /** The call is so frequent that its log line has level debug. */
    quietLog?: boolean;
  }
  interface FastifyContextConfig {
    /** Needed in the repository of the path, or in any repository if the path names none. */
    permission?: Permission | ((query: object) => Permission);
    /** Message of an unexpected failure. */
    failure?: string;
  }
}

const BEARER = /^Bearer +([^\s,]+)$/i;

/**
 * Verifies the token but refuses no request yet, so that the rate limit also counts callers without a valid token.
 * @param onRefused called with why a token was refused
 */
export const authenticate =
  (verify: VerifyToken, onRefused: (fault: TokenFault) => void) =>
  (request: FastifyRequest, _: FastifyReply, done: (error?: Error) => void): void => {
    const token = BEARER.exec(request.headers.authorization ?? '')?.[1];
    const known = token ? verify(token) : new KeyledgerError('UNAUTHENTICATED');
    const take = (caller: Caller | KeyledgerError) => {
      request.caller = caller;
      done();
    };
    const fail = (error: Error) => {
      if (!(error instanceof KeyledgerError)) return done(error);
      const { cause } = error;
      if (cause instanceof TokenRefused) {
        const { fault, message } = cause;
        onRefused(fault);
        request.log.debug({ requestId: request.id, fault, why: message }, 'bearer token refused');
      }
      take(error);
    };
    if (known instanceof Promise) known.then(take, fail);
    else take(known);
  };

/**
 * Checks that the caller has the permission of the route, in the repository of the path or in any.
 * @throws KeyledgerError UNAUTHENTICATED, FORBIDDEN, UNAVAILABLE
 */
export function authorise(request: FastifyRequest): void {
  const caller = callerOf(request);
  const { permission: needed } = request.routeOptions.config;
  const permission = typeof needed === 'function' ? needed(request.query as object) : needed;
  const { repoId } = request.params as { repoId?: string };
  const isPermitted =
    permission !== undefined &&
    (repoId === undefined ? permitsSomewhere(caller, permission) : permits(caller, repoId, permission));
  if (!isPermitted) throw new KeyledgerError('FORBIDDEN');
}

/** @throws KeyledgerError UNAUTHENTICATED, UNAVAILABLE */
export function callerOf({ caller }: FastifyRequest): Caller {
  if (!caller) throw new KeyledgerError('UNAUTHENTICATED');
  if (caller instanceof KeyledgerError) throw caller;
  return caller;
}

/** What the rate limit counts: the caller, or the address of a caller without a valid token. */
export const rateLimitKey = (request: FastifyRequest): string => {
  const { caller } = request;
  return caller && !(caller instanceof KeyledgerError)
    ? JSON.stringify([caller.issuer, caller.subject])
    : addressGroup(clientAddress(request));
};

import { distance } from 'fastest-levenshtein';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { KeyledgerError } from '../../domain/errors.js';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Members that body and query of the route may have; `false`: the route checks its query itself. */
    members?: Members | false;
  }
}

type Members = { readonly body: readonly string[]; readonly query: readonly string[] };

/** Prefixes of members for other software, such as a tracing tool or a proxy; the service removes them. */
const IGNORED = /^(?:x-|_)/i;
const PLAIN_NAME = /^[\w.-]{1,64}$/;
const MAX_NAMED = 5;

/**
 * Refuses documented calls with unknown members in body or query. Dropping a misspelt one silently would have the
 * opposite effect: a key without its expiry, a check without its restriction.
 */
export function refuseUnknownMembers(app: FastifyInstance): void {
  app.addHook('onRoute', (route) => {
    const { schema } = route;
    if (!schema?.operationId || route.config?.members !== undefined) return;
    const members = { body: membersOf(schema.body), query: membersOf(schema.querystring) };
    route.config = { ...route.config, members };
  });
  app.addHook('preValidation', (request, _, done) => {
    const { members } = request.routeOptions.config;
    done(members ? check(request, members) : undefined);
  });
}

function check(request: FastifyRequest, { body, query }: Members): KeyledgerError | undefined {
  const problems = [
    ...problemsOf(request.query, query, 'is not a query parameter'),
    ...problemsOf(request.body, body, 'is not a member of the body'),
  ];
  if (problems.length === 0) return undefined;
  return new KeyledgerError('INVALID_INPUT', { message: problems.slice(0, MAX_NAMED).join('; ') });
}

/** Problems with the names of an object's members; removes the ignored ones. */
function problemsOf(value: unknown, known: readonly string[], rule: string): string[] {
  if (value === undefined || value === null) return [];
  // If the call takes a body, its schema checks the type.
  if (typeof value !== 'object' || Array.isArray(value)) return known.length > 0 ? [] : ['body: this call takes none'];
  const problems: string[] = [];
  for (const name of Object.keys(value)) {
    if (known.includes(name)) continue;
    if (IGNORED.test(name)) delete (value as Record<string, unknown>)[name];
    else problems.push(`${nameOf(name)}: ${rule}${suggestion(name, known)}`);
    if (problems.length === MAX_NAMED) break;
  }
  return problems;
}

const nameOf = (name: string): string =>
  PLAIN_NAME.test(name) ? name : JSON.stringify([...name].slice(0, 64).join(''));

function suggestion(name: string, known: readonly string[]): string {
  const [nearest] = [...known].sort((a, b) => distanceOf(name, a) - distanceOf(name, b));
  return nearest === undefined ? '; this call takes none' : `; did you mean ${JSON.stringify(nearest)}?`;
}

/** The beginning of a long name is enough. */
const distanceOf = (a: string, b: string): number => distance(a.slice(0, 64).toLowerCase(), b.toLowerCase());

/** Names of the members of an object schema, which may be optional or nullable; none without a schema. */
export function membersOf(schema: unknown): readonly string[] {
  if (schema instanceof z.ZodObject) return Object.keys(schema.shape);
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodNullable) return membersOf(schema.unwrap());
  if (schema === undefined) return [];
  throw new Error('The schema of a body or a query must be that of an object');
}

import type { FastifyInstance } from 'fastify';
import { validatorCompiler } from 'fastify-type-provider-zod';
import { KeyledgerError } from '../domain/errors.js';

/** Of the headers those are looked at that the schema names; the others stay as they are, and are not copied. */
export const validateByZod: typeof validatorCompiler = (route) => {
  const validate = validatorCompiler(route);
  if (route.httpPart !== 'headers') return validate;
  return (headers: unknown) => {
    const { error } = validate(headers) as { error?: Error };
    return error ? { error } : { value: headers };
  };
};

/** JSON in valid UTF-8 and nothing else; an empty body is no body. */
export function acceptJson(app: FastifyInstance): void {
  const utf8 = new TextDecoder('utf-8', { fatal: true });
  const parse = app.getDefaultJsonParser('error', 'ignore');
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body, done) => {
    if (body.length === 0) return done(null, undefined);
    try {
      parse(request, utf8.decode(body as Buffer), (error, value) =>
        error ? done(invalidJson(error)) : done(null, value),
      );
    } catch (error) {
      done(invalidJson(error));
    }
  });
}

const invalidJson = (cause: unknown) =>
  new KeyledgerError('INVALID_INPUT', {
    message: 'body: must be valid JSON in UTF-8',
    cause,
  });

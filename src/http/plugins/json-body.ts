import type { IncomingMessage } from 'node:http';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { validatorCompiler } from 'fastify-type-provider-zod';
import { KeyledgerError } from '../../domain/errors.js';

/** Checks only the headers that the schema names, and passes all on as they are, without a copy. */
export const validateByZod: typeof validatorCompiler = (route) => {
  const validate = validatorCompiler(route);
  if (route.httpPart !== 'headers') return validate;
  return (headers: unknown) => {
    const { error } = validate(headers) as { error?: Error };
    return error ? { error } : { value: headers };
  };
};

const NOT_JSON = new KeyledgerError('UNSUPPORTED_MEDIA_TYPE');
const ENCODED = new KeyledgerError('UNSUPPORTED_MEDIA_TYPE', {
  message: 'Send the body without Content-Encoding',
});

/** Accepts only JSON in valid UTF-8; an empty body of any type counts as none. */
export function acceptJson(app: FastifyInstance): void {
  const utf8 = new TextDecoder('utf-8', { fatal: true });
  const parse = app.getDefaultJsonParser('error', 'ignore');
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body, done) => {
    if (body.length === 0) return done(null, undefined);
    const { 'content-encoding': encoding = 'identity' } = request.headers;
    if (encoding.toLowerCase() !== 'identity') return done(ENCODED);
    try {
      parse(request, utf8.decode(body as Buffer), (error, value) =>
        error ? done(invalidJson(error)) : done(null, value),
      );
    } catch (error) {
      done(invalidJson(error));
    }
  });
  app.addContentTypeParser('*', acceptOnlyEmpty);
}

/** A body of unknown length is empty if it ends without a byte. */
function acceptOnlyEmpty(request: FastifyRequest, payload: IncomingMessage, done: (error: Error | null) => void): void {
  if (request.headers['transfer-encoding'] === undefined) {
    done(NOT_JSON);
    return;
  }
  const end = (error: Error | null) => {
    payload.off('data', refuse).off('end', accept).off('error', end).resume();
    done(error);
  };
  const refuse = () => end(NOT_JSON);
  const accept = () => end(null);
  payload.on('data', refuse).on('end', accept).on('error', end);
}

const invalidJson = (cause: unknown) =>
  new KeyledgerError('INVALID_INPUT', {
    message: 'body: must be valid JSON in UTF-8',
    cause,
  });

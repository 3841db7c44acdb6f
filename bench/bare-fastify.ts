import type { AddressInfo } from 'node:net';
import { fastify } from 'fastify';

/** Baseline for a creation or a verification: validates the same body and answers with the same size, without logic. */
const app = fastify();
const answer = {
  success: true,
  id: '0794438e-3b68-5c98-8b1c-bb7b5109be7f',
  key: `FB_AI_${'x'.repeat(28)}`,
  secret: `secret_${'x'.repeat(49)}`,
};
app.post(
  '/repo/:repoId/ai/apikey',
  {
    schema: {
      body: {
        type: 'object',
        required: ['name', 'aiType'],
        properties: {
          name: { type: 'string', minLength: 1, maxLength: 200 },
          aiType: { type: 'string', enum: ['OPENAI', 'GOOGLE', 'ANTHROPIC', 'AWS', 'OTHER'] },
        },
      },
    },
  },
  async (_, reply) => reply.code(201).send(answer),
);
const verification = {
  success: true,
  valid: true,
  apiKey: { id: answer.id, repoId: 'bench', name: 'search feature', aiType: 'OPENAI', expiresAt: null },
  position: `${answer.id}:0000000000000001`,
};
app.post(
  '/verify',
  {
    schema: {
      body: {
        type: 'object',
        required: ['key', 'secret'],
        properties: { key: { type: 'string' }, secret: { type: 'string' } },
      },
    },
  },
  async () => verification,
);
await app.listen({ host: '127.0.0.1', port: 0 });
console.log(`listens on ${(app.server.address() as AddressInfo).port}`);

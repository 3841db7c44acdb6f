import { jsonSchemaTransformObject } from 'fastify-type-provider-zod';
import { VERSION } from '../version.js';

/** The parts of /openapi.json that no route knows; the rest is generated from the zod schemas. */
export const openApi = {
  openapi: '3.1.0',
  info: {
    title: 'Keyledger',
    version: VERSION,
    license: { name: 'MIT', identifier: 'MIT' },
    description:
      'Issues, verifies and revokes repository-scoped API keys for AI providers. Every answer carries X-Request-Id; every change carries Keyledger-Position, which a read may send as Keyledger-Min-Position.',
  },
  servers: [{ url: '/' }],
  security: [{ bearer: [] }],
  components: {
    securitySchemes: {
      bearer: { type: 'http' as const, scheme: 'bearer', bearerFormat: 'JWT' },
      apiKeyAsBasic: { type: 'http' as const, scheme: 'basic', description: 'key:secret' },
      apiKeyAsBearer: { type: 'http' as const, scheme: 'bearer', description: 'key.secret' },
      apiKey: { type: 'apiKey' as const, in: 'header' as const, name: 'X-Api-Key' },
      apiSecret: { type: 'apiKey' as const, in: 'header' as const, name: 'X-Api-Secret' },
    },
  },
  tags: [
    { name: 'API keys', description: 'The AI API keys of a repository' },
    { name: 'Verification', description: 'Is an API key good?' },
    { name: 'Audit', description: 'What happened, and who did it; whoever asks is written down' },
    { name: 'Health', description: 'For load balancers and orchestrators' },
  ],
};

type TransformObject = typeof jsonSchemaTransformObject;

/** Named schemas are those of answers: the variants for input, which no route refers to, are left out. */
export const transformObject: TransformObject = (document) => {
  const { components, ...rest } = jsonSchemaTransformObject(document) as {
    components: { schemas: Record<string, object> };
  };
  const schemas = Object.entries(components.schemas).filter(([name]) => !name.endsWith('Input'));
  return {
    ...rest,
    components: { ...components, schemas: Object.fromEntries(schemas) },
  } as ReturnType<TransformObject>;
};

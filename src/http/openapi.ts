import type { FastifySwaggerUiOptions } from '@fastify/swagger-ui';
import { jsonSchemaTransformObject } from 'fastify-type-provider-zod';
import { VERSION } from '../version.js';

const TITLE = 'Keyledger API';

/** The parts of /openapi.json that belong to no route; the rest is generated from the zod schemas. */
export const openApi = {
  openapi: '3.1.0',
  info: {
    title: TITLE,
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
    { name: 'Verification', description: 'Verifies API keys, and revokes leaked ones' },
    { name: 'Events', description: 'Follows the log: the event feed, and the replica for verifiers' },
    { name: 'Webhooks', description: 'Webhooks, whose endpoints receive events, and their deliveries' },
    {
      name: 'Audit',
      description: 'What happened, when and by whom; each query is recorded before it is answered',
    },
    { name: 'Health', description: 'Probes for load balancers and orchestrators' },
  ],
};

type TransformObject = typeof jsonSchemaTransformObject;

/** Leaves out the input variants of named schemas, which no route refers to. */
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

/** The product's mark: a key whose bow is a ledger page. Drawn for 32 by 32 pixels. */
const MARK = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32" role="img" aria-label="Keyledger">
<rect width="32" height="32" rx="7" fill="#14213d"/>
<rect x="5" y="8" width="13" height="16" rx="2.5" fill="none" stroke="#fff" stroke-width="2"/>
<path d="M8.5 12.5h6M8.5 16h6M8.5 19.5h3" stroke="#fca311" stroke-width="1.8" stroke-linecap="round"/>
<path d="M19 16h8v4.5M23.5 16v3" fill="none" stroke="#fff" stroke-width="2" stroke-linecap="round" stroke-linejoin="round"/>
</svg>`;

const MARK_FILE = 'keyledger.svg';

/** Both files are served from one folder. The margins are those of the title that the mark stands beside. */
const STYLE = `.swagger-ui .info hgroup.main { background: url(${MARK_FILE}) left 4px / 48px no-repeat; min-height: 56px; padding-left: 64px; }`;

/** The page at /docs. The base layout has no bar with the framework's logo. */
export const apiPage = {
  routePrefix: '/docs',
  staticCSP: true,
  uiConfig: { layout: 'BaseLayout' },
  theme: {
    title: TITLE,
    favicon: [{ filename: MARK_FILE, rel: 'icon', type: 'image/svg+xml', sizes: 'any', content: MARK }],
    css: [{ filename: 'keyledger.css', content: STYLE }],
  },
} satisfies FastifySwaggerUiOptions;

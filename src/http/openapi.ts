/** The parts of /openapi.json that no route knows; the rest is generated from the zod schemas. */
export const openApi = {
  openapi: '3.1.0',
  info: {
    title: 'Keyledger',
    version: '0.1.0',
    license: { name: 'MIT', identifier: 'MIT' },
    description:
      'Issues and revokes repository-scoped API keys for AI providers. Every answer carries X-Request-Id; every change carries Keyledger-Position, which a read may send as Keyledger-Min-Position.',
  },
  servers: [{ url: '/' }],
  security: [{ bearer: [] }],
  components: {
    securitySchemes: {
      bearer: { type: 'http' as const, scheme: 'bearer', bearerFormat: 'JWT' },
    },
  },
  tags: [{ name: 'API keys' }, { name: 'Health' }],
};

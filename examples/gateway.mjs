/**
 * A gateway that verifies API keys in its own process: no network call, and a revoked key is refused within milliseconds.
 *
 *   BASE_URL=http://127.0.0.1:8080 TOKEN=$(npx keyledger token --repo demo --role replica) PORT=9000 node examples/gateway.mjs
 *   curl -i http://127.0.0.1:9000/ -u "$KEY:$SECRET"
 */
import { createServer } from 'node:http';
import { createVerifier } from 'keyledger/verifier';

const { BASE_URL = 'http://127.0.0.1:8080', TOKEN = '', PORT = '9000' } = process.env;
const verifier = createVerifier({
  baseUrl: BASE_URL,
  token: TOKEN,
  maxStaleness: 60,
  // Without it, a gateway whose token has expired refuses everything after maxStaleness and does not say why.
  onError: (error) => console.error(error.message),
});
try {
  await verifier.ready();
} catch {
  process.exit(1);
}

const server = createServer((request, response) => {
  const [, basic = ''] = /^Basic (\S+)$/i.exec(request.headers.authorization ?? '') ?? [];
  const [key = '', secret = ''] = Buffer.from(basic, 'base64').toString().split(':');
  const outcome = verifier.verify(key, secret);
  if (outcome.valid) {
    response.end(`Hello, ${outcome.apiKey.name} of ${outcome.apiKey.repoId}\n`);
  } else if (outcome.reason === 'STALE') {
    response.writeHead(503, { 'retry-after': '1' }).end('Not verified: try again\n');
  } else {
    response.writeHead(401, { 'www-authenticate': 'Basic realm="api"' }).end('No valid API key\n');
  }
});
server.listen(Number(PORT), '127.0.0.1', () => {
  console.log(`The gateway listens on http://127.0.0.1:${server.address().port}`);
});

process.on('SIGTERM', async () => {
  // Reports the last uses of keys, which show in lists as lastUsedAt.
  await verifier.close();
  process.exit();
});

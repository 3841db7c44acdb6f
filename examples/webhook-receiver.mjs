/**
 * Receives webhooks from Keyledger and handles each event once.
 *
 *   SECRET=whsec_… PORT=9001 node examples/webhook-receiver.mjs
 *
 * Keyledger delivers to it only if the service was started with WEBHOOK_ALLOWED_NETWORKS=127.0.0.1/32.
 */
import { createServer } from 'node:http';
import { verifyWebhook, WebhookVerificationError } from 'keyledger/webhook';

const { SECRET = '', PORT = '9001' } = process.env;
/** A delivery may come twice. Store the ids together with your own changes, in one transaction. */
const done = new Set();

const server = createServer(async (request, response) => {
  try {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const event = verifyWebhook(request.headers, Buffer.concat(chunks), SECRET);
    if (!done.has(event.id)) console.log(`${event.type} ${event.subject ?? ''}`);
    done.add(event.id);
    response.writeHead(204).end();
  } catch (error) {
    if (error instanceof WebhookVerificationError) return response.writeHead(400).end(`${error.message}\n`);
    // The secret is missing or malformed, or the connection broke: Keyledger delivers again.
    if (error instanceof TypeError) console.error(error.message);
    response.destroy();
  }
});
server.listen(Number(PORT), '127.0.0.1', () => {
  console.log(`The receiver listens on http://127.0.0.1:${server.address().port}`);
});

import {
  type ClientRequest,
  Agent as HttpAgent,
  request as httpRequest,
  type IncomingMessage,
} from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { LookupFunction } from 'node:net';
import { Webhook as Signer } from 'standardwebhooks';
import {
  allowsHost,
  FORBIDDEN_ADDRESS,
  guardedLookup,
  type SchemePolicies,
  schemePolicies,
} from './ssrf-guard.js';

/** The whole of a call, name and answer included. */
const TIMEOUT_MS = 10_000;
/** A connection that nobody uses is closed after so long. */
const IDLE_MS = 60_000;
/** So much of an answer is read, to be thrown away. */
const MAX_RESPONSE_BYTES = 64 * 1024;
/** What an endpoint may ask for with Retry-After, at most. */
export const MAX_RETRY_AFTER_MS = 3_600_000;

/** A message by the Standard Webhooks specification, https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md */
export type WebhookMessage = {
  readonly url: string;
  /** The same however often it is sent. */
  readonly id: string;
  /** JSON. */
  readonly body: string;
  /** whsec_…, newest first: each signs. */
  readonly secrets: readonly string[];
};

/** What became of a call. */
export type DeliveryResult = {
  /** Null if there was none: the error says why, in a line. */
  readonly status: number | null;
  readonly error: string | null;
  readonly ms: number;
  /** What Retry-After asks for, an hour at most. */
  readonly retryAfterMs: number | null;
};

/**
 * Calls endpoints: signed; https, and http only in networks of one's own; never an address that is not public or in
 * those; following no redirect.
 */
export class WebhookSender {
  readonly #timeoutMs: number;
  readonly #policy: SchemePolicies;
  readonly #agents: { readonly 'https:': HttpsAgent; readonly 'http:': HttpAgent };

  /** @param allowedNetworks networks of one's own */
  constructor(allowedNetworks: readonly string[], timeoutMs = TIMEOUT_MS, lookup?: LookupFunction) {
    const policy = schemePolicies(allowedNetworks);
    const options = (protocol: keyof SchemePolicies) => ({
      keepAlive: true,
      timeout: IDLE_MS,
      lookup: guardedLookup(policy[protocol], lookup),
    });
    this.#timeoutMs = timeoutMs;
    this.#policy = policy;
    this.#agents = {
      'https:': new HttpsAgent(options('https:')),
      'http:': new HttpAgent(options('http:')),
    };
  }

  /** Never throws. @param now milliseconds since 1970 */
  async send(message: WebhookMessage, now: number, signal: AbortSignal): Promise<DeliveryResult> {
    const began = performance.now();
    const result = (status: number | null, error: string | null, retryAfterMs: number | null = null) => ({
      status,
      error,
      ms: Math.round(performance.now() - began),
      retryAfterMs,
    });
    const ending = new AbortController();
    const timeout = () => ending.abort(new Error(`no answer within ${this.#timeoutMs} ms`));
    const timer = setTimeout(timeout, this.#timeoutMs);
    const stop = () => ending.abort(new Error('the service stops'));
    signal.addEventListener('abort', stop);
    if (signal.aborted) stop();
    try {
      const { statusCode = 0, headers } = await this.#exchange(message, now, ending.signal);
      return result(statusCode, null, retryAfter(headers['retry-after'], now));
    } catch (error) {
      return result(null, errorSummary(ending.signal.aborted ? ending.signal.reason : error));
    } finally {
      clearTimeout(timer);
      signal.removeEventListener('abort', stop);
    }
  }

  close(): void {
    for (const agent of Object.values(this.#agents)) agent.destroy();
  }

  /** A connection that the other side closed while it was not in use says nothing of the endpoint: another is taken. */
  async #exchange(message: WebhookMessage, now: number, signal: AbortSignal): Promise<IncomingMessage> {
    for (;;) {
      const request = this.#open(message, now, signal);
      try {
        return await responseTo(request, message.body);
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (!request.reusedSocket || code !== 'ECONNRESET' || signal.aborted) throw error;
      }
    }
  }

  #open(
    { url: address, id, body, secrets }: WebhookMessage,
    now: number,
    signal: AbortSignal,
  ): ClientRequest {
    const url = new URL(address);
    const protocol = url.protocol as 'https:' | 'http:';
    if (!allowsHost(this.#policy, url)) throw new Error(FORBIDDEN_ADDRESS);
    const at = new Date(now);
    const headers = {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
      'user-agent': 'Keyledger-Webhooks/1',
      'webhook-id': id,
      'webhook-timestamp': Math.floor(now / 1000),
      'webhook-signature': secrets.map((secret) => new Signer(secret).sign(id, at, body)).join(' '),
    };
    const options = { method: 'POST', headers, agent: this.#agents[protocol], signal };
    return protocol === 'https:' ? httpsRequest(url, options) : httpRequest(url, options);
  }
}

/** The answer, when all of it is here, or as much as is read. */
const responseTo = (request: ClientRequest, body: string): Promise<IncomingMessage> =>
  new Promise((resolve, reject) => {
    // Nobody asked for another protocol. Without a listener the connection would end in silence, deadline and all.
    request.on('upgrade', (response, socket) => {
      socket.destroy();
      resolve(response);
    });
    request.on('error', reject).on('response', (response) => {
      let length = 0;
      response.on('data', (bytes: Buffer) => {
        length += bytes.length;
        if (length <= MAX_RESPONSE_BYTES) return;
        resolve(response);
        response.destroy();
      });
      response.on('end', () => resolve(response)).on('error', reject);
    });
    request.end(body);
  });

function retryAfter(header: string | undefined, now: number): number | null {
  if (header === undefined) return null;
  const ms = /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - now;
  return Number.isNaN(ms) ? null : Math.min(Math.max(ms, 0), MAX_RETRY_AFTER_MS);
}

/** Of an error one line for whoever runs the endpoint. */
function errorSummary(error: unknown): string {
  const { message, code } = error as NodeJS.ErrnoException;
  const text = code === undefined || message.includes(code) ? message : `${code}: ${message}`;
  return text.replace(/\s+/g, ' ').slice(0, 200) || 'no answer';
}

import { type ClientRequest, Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { LookupFunction } from 'node:net';
import { Webhook as Signer } from 'standardwebhooks';
import type { EpochMs } from '../../domain/time.js';
import { allowsHost, FORBIDDEN_ADDRESS, guardedLookup, type SchemePolicies, schemePolicies } from './ssrf-guard.js';

/** Limit for a whole call, including name resolution and the answer. */
const TIMEOUT_MS = 10_000;
/** An unused connection is closed after this time. */
const IDLE_TIMEOUT_MS = 60_000;
/** At most this much of an answer is read, and discarded. */
const MAX_RESPONSE_BYTES = 64 * 1024;
/** Longest Retry-After that an endpoint may ask for. */
export const MAX_RETRY_AFTER_MS = 3_600_000;

/**
 * A message by the Standard Webhooks specification,
 * https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
 */
export type WebhookMessage = {
  readonly url: string;
  /** The same for every attempt. */
  readonly id: string;
  /** JSON. */
  readonly body: string;
  /** whsec_…, newest first; each one signs. */
  readonly secrets: readonly string[];
};

export type DeliveryResult = {
  /** Null if there was no answer; `error` says why, in one line. */
  readonly status: number | null;
  readonly error: string | null;
  readonly ms: number;
  /** What Retry-After asks for, at most MAX_RETRY_AFTER_MS. */
  readonly retryAfterMs: number | null;
};

/**
 * Calls endpoints with signed messages: by https, and by http only in the operator's own networks. It calls only
 * addresses that are public or in those networks, and follows no redirect.
 */
export class WebhookSender {
  readonly #timeoutMs: number;
  readonly #policy: SchemePolicies;
  readonly #agents: { readonly 'https:': HttpsAgent; readonly 'http:': HttpAgent };

  /** @param allowedNetworks addresses and networks of the operator's own */
  constructor(allowedNetworks: readonly string[], timeoutMs = TIMEOUT_MS, lookup?: LookupFunction) {
    const policy = schemePolicies(allowedNetworks);
    const options = (protocol: keyof SchemePolicies) => ({
      keepAlive: true,
      timeout: IDLE_TIMEOUT_MS,
      lookup: guardedLookup(policy[protocol], lookup),
    });
    this.#timeoutMs = timeoutMs;
    this.#policy = policy;
    this.#agents = {
      'https:': new HttpsAgent(options('https:')),
      'http:': new HttpAgent(options('http:')),
    };
  }

  /** Never throws. */
  async send(message: WebhookMessage, now: EpochMs, signal: AbortSignal): Promise<DeliveryResult> {
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

  /** Retries on another connection if an unused one turns out to be closed, which says nothing about the endpoint. */
  async #exchange(message: WebhookMessage, now: EpochMs, signal: AbortSignal): Promise<IncomingMessage> {
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

  #open({ url: address, id, body, secrets }: WebhookMessage, now: EpochMs, signal: AbortSignal): ClientRequest {
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

/** Resolves when the whole answer, or MAX_RESPONSE_BYTES of it, has arrived. */
const responseTo = (request: ClientRequest, body: string): Promise<IncomingMessage> =>
  new Promise((resolve, reject) => {
    // Without a listener, Node closes the connection on an upgrade without any event, and the promise never settles.
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

function retryAfter(header: string | undefined, now: EpochMs): number | null {
  if (header === undefined) return null;
  const ms = /^\d+$/.test(header) ? Number(header) * 1000 : Date.parse(header) - now;
  return Number.isNaN(ms) ? null : Math.min(Math.max(ms, 0), MAX_RETRY_AFTER_MS);
}

/** One line about an error, for the operator of the endpoint. */
function errorSummary(error: unknown): string {
  const { message, code } = error as NodeJS.ErrnoException;
  const text = code === undefined || message.includes(code) ? message : `${code}: ${message}`;
  return text.replace(/\s+/g, ' ').slice(0, 200) || 'no answer';
}

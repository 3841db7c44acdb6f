import type { Position } from '../../event-store/position.js';

/** How far an endpoint has been told. */
export type Cursor = {
  /** Of the last event that it was told, or that was not for it when it came, and that event's id; null: nothing yet. */
  readonly position: Position | null;
  readonly eventId: string | null;
  /** Revision of the last WebhookReplayed of the endpoint that was followed; -1 if none. */
  readonly replay: number;
  /** Since when the event behind cannot be delivered, how often that was tried, when next (ms since 1970). */
  readonly failing: { readonly since: number; readonly tries: number; readonly nextAt: number } | null;
};

/** One call of an endpoint. */
export type Attempt = {
  readonly eventId: string;
  readonly type: string;
  /** The event's bookmark. */
  readonly position: string;
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly ms: number;
  /** Null if there was no answer; the error says why. */
  readonly status: number | null;
  readonly error: string | null;
};

/** So many attempts of an endpoint are kept. */
export const MAX_KEPT_ATTEMPTS = 100;

/**
 * How far endpoints have been told, and which instance tells them: of one log, for all instances. It may be lost;
 * endpoints are told again then. `test/support/contracts/delivery-store.ts` is its definition.
 * @throws Error, each call: it is out of reach
 */
export interface DeliveryStore {
  /** This instance lives for so long from now (ms); 0: it has gone. @returns all that live, sorted */
  heartbeat(instance: string, ttlMs: number): Promise<readonly string[]>;
  /** Takes the leases that nobody holds, and renews those that this instance holds. @returns those that it holds now */
  acquireLeases(instance: string, webhookIds: readonly string[], ttlMs: number): Promise<ReadonlySet<string>>;
  /** Gives back what this instance holds of these. */
  releaseLeases(instance: string, webhookIds: readonly string[]): Promise<void>;
  cursor(webhookId: string): Promise<Cursor | undefined>;
  /**
   * Keeps the cursor, and the attempt if there was one.
   * @returns false if this instance does not hold the endpoint (any more); nothing is kept then
   */
  save(instance: string, webhookId: string, cursor: Cursor, attempt?: Attempt): Promise<boolean>;
  /** The last ones, newest first. */
  attempts(webhookId: string): Promise<readonly Attempt[]>;
  /** Of an endpoint that is deleted. */
  deleteEndpoint(webhookId: string): Promise<void>;
  close(): Promise<void>;
}

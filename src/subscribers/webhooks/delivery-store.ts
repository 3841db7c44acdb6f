import type { EpochMs } from '../../domain/time.js';
import type { Position } from '../../event-store/position.js';

/** How far deliveries to an endpoint have come. */
export type Cursor = {
  /** Position and id of the last event that the endpoint acknowledged, or that was not for it; null: none yet. */
  readonly position: Position | null;
  readonly eventId: string | null;
  /** Revision of the WebhookReplayed that the cursor follows; -1 if none. */
  readonly replay: number;
  /** Since when the next event fails, how many attempts there were, and when the next one is due. */
  readonly failing: { readonly since: EpochMs; readonly tries: number; readonly nextAt: EpochMs } | null;
};

/** One call of an endpoint. */
export type Attempt = {
  readonly eventId: string;
  readonly type: string;
  /** Resume token of the event. */
  readonly position: string;
  readonly at: EpochMs;
  readonly ms: number;
  /** Null if there was no answer; `error` says why. */
  readonly status: number | null;
  readonly error: string | null;
};

/** Attempts that the store keeps of each webhook. */
export const MAX_KEPT_ATTEMPTS = 100;

/**
 * The cursors of the endpoints of one log, and the leases of the instances that deliver to them. If the store is lost,
 * endpoints receive events again. `test/support/contracts/delivery-store.ts` is its definition.
 * @throws Error, each call: the store is unavailable
 */
export interface DeliveryStore {
  /** Marks this instance as live for a time in milliseconds; 0: no longer. @returns all live instances, sorted */
  heartbeat(instance: string, ttlMs: number): Promise<readonly string[]>;
  /** Acquires free leases, and renews those of this instance. @returns the endpoints that it holds now */
  acquireLeases(instance: string, webhookIds: readonly string[], ttlMs: number): Promise<ReadonlySet<string>>;
  /** Releases those of these leases that this instance holds. */
  releaseLeases(instance: string, webhookIds: readonly string[]): Promise<void>;
  cursor(webhookId: string): Promise<Cursor | undefined>;
  /**
   * Saves the cursor, and the attempt if there was one.
   * @returns false, and saves nothing, if this instance does not hold the lease of the endpoint
   */
  save(instance: string, webhookId: string, cursor: Cursor, attempt?: Attempt): Promise<boolean>;
  /** The last attempts, newest first. */
  attempts(webhookId: string): Promise<readonly Attempt[]>;
  /** Removes everything of a deleted endpoint. */
  deleteWebhook(webhookId: string): Promise<void>;
  close(): Promise<void>;
}

import { type AiApiKey, statusAt } from '../domain/ai-api-key.js';
import type { EpochMs } from '../domain/time.js';
import type { Position } from '../event-store/position.js';
import type { ApiKeyEntry } from './api-key-entry.js';

/**
 * Version of what the read model computes from the log, and of how it stores that: increment it when either changes. A
 * release with another version builds its own read model beside the one that older instances use.
 */
export const READ_MODEL_VERSION = 3;

/** A key as lists show it, without secret material: one document per key, replaced when its revision grows. */
export type ListItem = Pick<
  AiApiKey,
  'apiKeyId' | 'repoId' | 'name' | 'accessKey' | 'aiType' | 'status' | 'createdAt' | 'deletedAt' | 'expiresAt'
> & {
  readonly revision: number;
  /** Orders the list. */
  readonly createdPosition: Position;
  /** Position of the key's last event. */
  readonly position: Position;
};

export const toListItem = ({ key, revision, createdPosition, position }: ApiKeyEntry): ListItem => ({
  apiKeyId: key.apiKeyId,
  repoId: key.repoId,
  name: key.name,
  accessKey: key.accessKey,
  aiType: key.aiType,
  status: key.status,
  createdAt: key.createdAt,
  deletedAt: key.deletedAt,
  expiresAt: key.expiresAt,
  revision,
  createdPosition,
  position,
});

/** A key as callers see it at a time. */
export const apiKeyView = (item: ListItem, now: EpochMs) => ({
  id: item.apiKeyId,
  name: item.name,
  repoId: item.repoId,
  key: item.accessKey,
  aiType: item.aiType,
  createdAt: item.createdAt,
  deletedAt: item.deletedAt,
  expiresAt: item.expiresAt,
  status: statusAt(item, now),
});

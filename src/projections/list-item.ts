import { type AiApiKey, statusAt } from '../domain/ai-api-key.js';
import type { Position } from '../event-store/position.js';
import type { ApiKeyEntry } from './api-key-index.js';

/**
 * Of this projection: what it makes of the log, and how that is stored. Whoever changes either counts it up; a
 * release with another version builds a read model of its own, beside the one that the others go on using.
 */
export const READ_MODEL_VERSION = 3;

/** A key as lists show it: one document a key, replaced as a whole when its revision grows. No secret material. */
export type ListItem = Pick<
  AiApiKey,
  'apiKeyId' | 'repoId' | 'name' | 'accessKey' | 'aiType' | 'status' | 'createdAt' | 'deletedAt' | 'expiresAt'
> & {
  readonly revision: number;
  /** Orders the list. */
  readonly createdPosition: Position;
  /** Of the key's last event. */
  readonly position: Position;
};

/** The fold of the list: what an entry of the index looks like in it. */
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

/** An item as callers see it at a time (milliseconds since 1970). */
export const apiKeyView = (item: ListItem, now: number) => ({
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

import type { AiType } from '../domain/ai-api-key.js';
import type { Position } from '../event-store/position.js';
import type { KeyEntry } from './verify-index.js';

/** A key as lists show it: one document a key, replaced as a whole when its revision grows. */
export type ListItem = {
  readonly apiKeyId: string;
  readonly repoId: string;
  readonly name: string;
  readonly accessKey: string;
  readonly aiType: AiType;
  readonly status: 'active' | 'deleted' | 'unavailable';
  readonly createdAt: string;
  readonly deletedAt: string | null;
  readonly revision: number;
  /** Orders the list. */
  readonly createdPosition: Position;
  /** Of the key's last event. */
  readonly position: Position;
};

/** The fold of the list: what an entry of the index looks like in it. No secret material. */
export const listItem = ({ key, revision, createdPosition, position }: KeyEntry): ListItem => ({
  apiKeyId: key.apiKeyId,
  repoId: key.repoId,
  name: key.name,
  accessKey: key.accessKey,
  aiType: key.aiType,
  status: key.status,
  createdAt: key.createdAt,
  deletedAt: key.deletedAt,
  revision,
  createdPosition,
  position,
});

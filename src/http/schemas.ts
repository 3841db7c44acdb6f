import { z } from 'zod';
import { AI_TYPES, STATUSES } from '../domain/ai-api-key.js';
import { REPO_ID, REPO_ID_RULE } from '../domain/authorization.js';
import { EVENT_TYPES } from '../event-store/event-schemas.js';
import { ErrorEnvelope } from './errors.js';

const NAME_RULE =
  'must be text of 1 to 200 characters after trimming, one of them visible, without control and bidirectional characters';
const EXPIRY_RULE = 'must be a time with its zone, such as 2030-01-31T12:00:00Z, or null';
const SHORT_TEXT_RULE =
  'must be text of at most 200 characters, not only invisible ones, without control and bidirectional characters';
const MAX_OVERLAP_SECONDS = 30 * 24 * 3600;
const OVERLAP_RULE = `must be a whole number of seconds from 0 to ${MAX_OVERLAP_SECONDS} (30 days)`;
const IDEMPOTENCY_RULE = 'must be 1 to 255 printable ASCII characters';
export const TEXT_RULE = 'must be text';
export const BODY_RULE = 'must be a JSON object';

export const RepoParams = z.object({
  repoId: z.string().regex(REPO_ID, REPO_ID_RULE),
});
export const KeyParams = RepoParams.extend({ apikeyId: z.string().toLowerCase() });

/** Does the text have a visible character? Joiners and marks show only with others; U+2800 is a blank. */
const isVisible = (text: string): boolean =>
  /[^\p{Z}\p{Cc}\p{Cf}\p{Cs}\p{Default_Ignorable_Code_Point}\u2800]/u.test(text);

export const Name = z
  .string(NAME_RULE)
  .regex(/^[^\p{Cc}\p{Cs}\u202a-\u202e\u2066-\u2069]*$/u, NAME_RULE)
  .trim()
  .refine((name) => isVisible(name) && [...name].length <= 200, NAME_RULE);
export const AiType = z.enum(AI_TYPES, `must be one of ${AI_TYPES.join(', ')}`);
export const Status = z.enum(STATUSES, `must be one of ${STATUSES.join(', ')}`);

/** RFC 3339, section 5.6: T and Z may be lower case. */
export function callerTime(rule: string) {
  const upperCase = (value: unknown) => (typeof value === 'string' ? value.toUpperCase() : value);
  return z.preprocess(upperCase, z.iso.datetime({ offset: true, error: rule, abort: true }));
}

/** RFC 3339 with any offset, to UTC with milliseconds; null: never. The domain checks that it is in the future. */
export const ExpiresAt = callerTime(EXPIRY_RULE)
  .refine(hasFourDigitYear, EXPIRY_RULE)
  .transform((text) => new Date(text).toISOString())
  .nullable()
  .describe('The key is invalid from this time on; null: it never expires');

/** In UTC: an event with another year could not be read again (RFC 3339, section 5.6). */
function hasFourDigitYear(time: string): boolean {
  const year = new Date(time).getUTCFullYear();
  return year >= 0 && year <= 9999;
}

/** A reason or a description; empty: none. */
export const Text = z
  .string(SHORT_TEXT_RULE)
  .regex(/^[^\p{Cc}\p{Cs}\u202a-\u202e\u2066-\u2069]{0,200}$/u, SHORT_TEXT_RULE)
  .trim()
  .refine((text) => text === '' || isVisible(text), SHORT_TEXT_RULE)
  .describe('The history keeps it for ever: do not name people in it');

export const OverlapSeconds = z
  .int(OVERLAP_RULE)
  .min(0, OVERLAP_RULE)
  .max(MAX_OVERLAP_SECONDS, OVERLAP_RULE)
  .describe('Seconds for which the old secret stays valid; default 0');

export const IdempotencyHeaders = z.object({
  'idempotency-key': z
    .string()
    .regex(/^[\x20-\x7e]{1,255}$/, IDEMPOTENCY_RULE)
    .optional()
    .describe(
      'Makes a retry safe: the service executes the same request with the same key once, and repeats its answer',
    ),
});
export const ReadHeaders = z.object({
  'keyledger-min-position': z
    .string()
    .optional()
    .describe(
      'A Keyledger-Position that the answer must include; 503 BEHIND if this instance has not reached it after a second',
    ),
});

/** The answer to a creation or rotation, and to its repeats; no other answer carries a secret. */
export const IssuedApiKey = z.object({
  success: z.literal(true),
  id: z.uuid(),
  key: z.string().describe('Access key, FB_AI_…'),
  secret: z.string().describe('secret_…; it is never shown again'),
});
export const Done = z.object({ success: z.literal(true), message: z.string() });

export const errors = { '4xx': ErrorEnvelope, '5xx': ErrorEnvelope };

const TYPE_RULE = `must be one or several of ${EVENT_TYPES.join(', ')}, separated by commas`;
export const EventTypes = z
  .string()
  .transform((list) => list.split(',').map((type) => type.trim()))
  .refine((list) => list.every((type) => EVENT_TYPES.includes(type)), TYPE_RULE)
  .describe('Types of events, separated by commas');

const LIMIT_RULE = 'must be a whole number from 1 to 1000';
export const Limit = z
  .string()
  .regex(/^([1-9]\d{0,2}|1000)$/, LIMIT_RULE)
  .transform(Number);

/** The parameters of a query, for the record of its access. */
export const definedEntries = (
  query: Readonly<Record<string, string | number | null | undefined>>,
): Record<string, string | number> =>
  Object.fromEntries(Object.entries(query).flatMap(([name, value]) => (value == null ? [] : [[name, value]])));

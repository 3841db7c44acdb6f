import { z } from 'zod';
import { KeyledgerError } from '../../../domain/errors.js';
import { isWebhookId } from '../../../domain/webhook.js';
import { EVENT_TYPES } from '../../../event-store/event-schemas.js';
import type { Webhooks } from '../../../projections/local/webhooks.js';
import type { WebhookEntry } from '../../../projections/webhook-entry.js';
import { allowsHost, FORBIDDEN_ADDRESS, schemePolicies } from '../../../subscribers/webhooks/ssrf-guard.js';
import { RepoParams } from '../../schemas.js';

export const WebhookParams = RepoParams.extend({ webhookId: z.string().toLowerCase() });

/** The answer to a registration or rotation, and to its repeats; no other answer carries a secret. */
export const IssuedWebhook = z.object({
  success: z.literal(true),
  id: z.uuid(),
  secret: z.string().describe('whsec_…, in the format of Standard Webhooks; it is never shown again'),
});

const MAX_URL_LENGTH = 2048;

/** @param networks addresses and networks of the operator's own, in which http is allowed, too */
export function webhookUrl(networks: readonly string[]) {
  const http = networks.length > 0;
  const policy = schemePolicies(networks);
  const rule = `must be an ${http ? 'http(s)' : 'https'} address of at most ${MAX_URL_LENGTH} characters, without user, password and fragment`;
  return z.string(rule).transform((text, context) => {
    const url = URL.canParse(text) ? new URL(text) : undefined;
    const isKnown = url && (url.protocol === 'https:' || (http && url.protocol === 'http:'));
    // Checks the URL as it is stored and called: parsing may replace one character by nine, and keeps the # of an empty
    // fragment.
    const fits = url && url.href.length <= MAX_URL_LENGTH && !url.href.includes('#');
    if (isKnown && fits && !url.username && !url.password) {
      if (allowsHost(policy, url)) return url.href;
      context.addIssue({ code: 'custom', message: FORBIDDEN_ADDRESS });
      return z.NEVER;
    }
    context.addIssue({ code: 'custom', message: rule });
    return z.NEVER;
  });
}

const TYPE_RULE = `must be a list of one or several of ${EVENT_TYPES.join(', ')}, or null for all but AuditAccessed`;
export const TypeList = z
  .array(z.string(TYPE_RULE), TYPE_RULE)
  .min(1, TYPE_RULE)
  .refine((types) => types.every((type) => EVENT_TYPES.includes(type)), TYPE_RULE)
  .transform((types) => EVENT_TYPES.filter((type) => types.includes(type)))
  .nullable();

/** @throws KeyledgerError WEBHOOK_NOT_FOUND: an id that cannot be one; NOT_FOUND: an address that ends in a slash */
export function requireWebhookId(webhookId: string): string {
  if (webhookId === '') throw new KeyledgerError('NOT_FOUND');
  if (!isWebhookId(webhookId)) throw new KeyledgerError('WEBHOOK_NOT_FOUND');
  return webhookId;
}

/** @throws KeyledgerError WEBHOOK_NOT_FOUND: none, a deleted one, or that of another repository */
export function requireWebhook(
  webhooks: Webhooks,
  { repoId, webhookId }: { readonly repoId: string; readonly webhookId: string },
): WebhookEntry {
  const entry = webhooks.get(requireWebhookId(webhookId));
  if (entry?.webhook.repoId !== repoId || entry.webhook.status === 'deleted') {
    throw new KeyledgerError('WEBHOOK_NOT_FOUND');
  }
  return entry;
}

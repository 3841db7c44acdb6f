import { z } from 'zod';
import {
  API_KEY_EVENT_SCHEMAS,
  AUDIT_ACCESS_SCHEMAS,
  type DomainEvent,
  schemaVersionOf,
  WEBHOOK_EVENT_SCHEMAS,
} from '../../src/event-store/event-schemas.js';
import { table } from './markdown.js';
import { fieldsOf, type Schema } from './schema.js';

/** One section for each type of event: the version that is written now, and the data as they are stored. */
export function eventReference(): string {
  return Object.entries({ ...API_KEY_EVENT_SCHEMAS, ...WEBHOOK_EVENT_SCHEMAS, ...AUDIT_ACCESS_SCHEMAS })
    .map(([type, { data }]) => {
      const fields = fieldsOf(z.toJSONSchema(data as z.ZodType, { io: 'input' }) as Schema);
      const rows = fields.map(([name = '', kind = '', required = '']) => [name, kind, required]);
      return `### ${type}\n\nVersion ${schemaVersionOf(type as DomainEvent['type'])}.\n\n${table(['Field', 'Type', 'Required'], rows)}`;
    })
    .join('\n\n');
}

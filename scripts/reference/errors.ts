import { ERRORS } from '../../src/domain/errors.js';
import { cell, table } from './markdown.js';

/** One row an error code, by status. */
export function errorReference(): string {
  const byStatus = Object.entries(ERRORS).sort(([, [a]], [, [b]]) => a - b);
  const rows = byStatus.map(([code, [status, message]]) => [`\`${code}\``, String(status), cell(message)]);
  return table(['Code', 'Status', 'Message'], rows);
}

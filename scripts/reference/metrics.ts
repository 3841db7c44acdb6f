import { createMetrics } from '../../src/http/metrics.js';
import { cell, table } from './markdown.js';

type Labelled = { readonly name: string; readonly labelNames?: readonly string[] };

/**
 * One row for each metric of the service.
 * @param exposition https://prometheus.io/docs/instrumenting/exposition_formats
 */
export function metricReference(exposition: string): string {
  const types = new Map(
    [...exposition.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name = '', type = '']) => [name, type]),
  );
  const labelled = createMetrics().registry.getMetricsAsArray() as unknown as readonly Labelled[];
  const labels = new Map(labelled.map(({ name, labelNames = [] }) => [name, labelNames]));
  const rows = [...exposition.matchAll(/^# HELP (keyledger_\S+) (.+)$/gm)].map(([, name = '', help = '']) => [
    `\`${name}\``,
    types.get(name) ?? '',
    (labels.get(name) ?? []).map((label) => `\`${label}\``).join(', '),
    cell(help),
  ]);
  return table(['Metric', 'Type', 'Labels', 'What it measures'], rows);
}

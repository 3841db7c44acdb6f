import { cell, sentence, table } from './markdown.js';
import { fieldsOf, type Schema, typeOf } from './schema.js';

/** The parts of OpenAPI 3.1 that the reference shows: https://spec.openapis.org/oas/v3.1.0 */
export type OpenApi = {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly tags: readonly { readonly name: string; readonly description: string }[];
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> };
};
export type Operation = {
  readonly operationId: string;
  readonly summary: string;
  readonly description?: string;
  readonly tags: readonly string[];
  /** Absent: a bearer token. Empty: nothing. */
  readonly security?: readonly Readonly<Record<string, unknown>>[];
  readonly parameters?: readonly {
    readonly name: string;
    readonly in: string;
    readonly required?: boolean;
    readonly description?: string;
    readonly schema: Schema;
  }[];
  readonly requestBody?: { readonly required?: boolean; readonly content: Content };
  readonly responses: Readonly<Record<string, { readonly content?: Content }>>;
};
type Content = Readonly<Record<string, { readonly schema: Schema }>>;

/** A call, and the roles that may make it if it takes a bearer token. */
export type Call = {
  readonly method: string;
  readonly path: string;
  readonly operation: Operation;
  readonly roles: readonly string[];
};
export type Calls = { readonly calls: readonly Call[]; readonly document: OpenApi };

const titleOf = ({ method, path }: Call) => `${method} ${path}`;

/** The anchor that GitHub gives a heading with this code. */
const anchorOf = (title: string) =>
  title
    .toLowerCase()
    .replaceAll(/[^\w\- ]/g, '')
    .replaceAll(' ', '-');

function accessOf({ operation: { security }, roles }: Call): string {
  if (security === undefined) return roles.join(', ');
  return security.length === 0 ? 'none needed' : 'an API key';
}

/** One row a call, in the order of the tags. @param page where the sections of the calls are, as a link to it begins */
export function callTable(all: Calls, page = ''): string {
  const rows = grouped(all).flatMap(({ calls }) =>
    calls.map((call) => [
      `\`${call.method}\``,
      `[\`${call.path}\`](${page}#${anchorOf(titleOf(call))})`,
      accessOf(call),
      cell(call.operation.summary),
    ]),
  );
  return table(['Method', 'Path', 'Role', 'What it does'], rows);
}

/** One section a tag, one below it for each call. */
export const callReference = (all: Calls): string =>
  grouped(all)
    .map(
      ({ name, description, calls }) => `## ${name}\n\n${sentence(description)}\n\n${calls.map(section).join('\n\n')}`,
    )
    .join('\n\n');

const grouped = ({ calls, document }: Calls) =>
  document.tags.map((tag) => ({
    ...tag,
    calls: calls.filter(({ operation }) => operation.tags.includes(tag.name)),
  }));

function section(call: Call): string {
  const { summary, description, parameters = [], requestBody, responses } = call.operation;
  const token = call.operation.security === undefined ? 'Role' : 'Authentication';
  const inputs = parameters.map(({ name, in: place, required, description: said, schema }) => [
    `\`${name}\``,
    `${place}${required ? ', required' : ''}`,
    typeOf(schema),
    cell(said ?? schema.description ?? ''),
  ]);
  const body = Object.values(requestBody?.content ?? {}).flatMap(({ schema }) => fieldsOf(schema));
  return [
    `### \`${titleOf(call)}\``,
    sentence(summary),
    ...(description === undefined ? [] : [description]),
    `${token}: ${accessOf(call)}. In OpenAPI: \`${call.operation.operationId}\`.`,
    ...(inputs.length === 0 ? [] : [table(['Parameter', 'In', 'Type', 'Description'], inputs)]),
    ...(body.length === 0 ? [] : [table(['Body field', 'Type', 'Required', 'Description'], body)]),
    ...Object.entries(responses)
      .filter(([status]) => /^\d+$/.test(status))
      .map(([status, { content = {} }]) => answer(status, content)),
  ].join('\n\n');
}

function answer(status: string, content: Content): string {
  const bodies = Object.entries(content).map(([type, { schema }]) => {
    const fields = fieldsOf(schema);
    const intro = `Answer ${status}, \`${type}\``;
    return fields.length === 0
      ? `${intro}: ${typeOf(schema)}.`
      : `${intro}:\n\n${table(['Answer field', 'Type', 'Required', 'Description'], fields)}`;
  });
  return bodies.length === 0 ? `Answer ${status}, without a body.` : bodies.join('\n\n');
}

/** One section for each named schema. */
export const objectReference = ({ document }: Calls): string =>
  Object.entries(document.components.schemas)
    .map(([name, schema]) => {
      const fields = table(['Field', 'Type', 'Required', 'Description'], fieldsOf(schema));
      return `### ${name}\n\n${schema.description === undefined ? '' : `${schema.description}\n\n`}${fields}`;
    })
    .join('\n\n');

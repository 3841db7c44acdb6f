const repoPath = (repoId: string): string => `/repo/${segment('repoId', repoId)}/ai`;

export const apiKeysPath = (repoId: string): string => `${repoPath(repoId)}/apikey`;

export const auditPath = (repoId: string): string => `${repoPath(repoId)}/audit`;

export const apiKeyPath = (repoId: string, apikeyId: string): string =>
  `${apiKeysPath(repoId)}/${segment('apikeyId', apikeyId)}`;

/** Encodes an id as one segment of a path. Dots cannot be encoded: URLs treat %2e%2e as a step up, too. */
function segment(name: string, id: string): string {
  if (typeof id !== 'string' || ['', '.', '..'].includes(id)) {
    throw new TypeError(`${name} must be a string other than "", "." and ".."`);
  }
  return encodeURIComponent(id);
}

/** Query of a path, including the question mark; empty without parameters. */
export function query(parameters: Readonly<Record<string, string | number | null | undefined>>): string {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== undefined && value !== null) given.set(name, String(value));
  }
  const text = String(given);
  return text === '' ? '' : `?${text}`;
}

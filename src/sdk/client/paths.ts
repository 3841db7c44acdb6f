const repoPath = (repoId: string): string => `/repo/${segment('repoId', repoId)}/ai`;

export const apiKeysPath = (repoId: string): string => `${repoPath(repoId)}/apikey`;

export const auditPath = (repoId: string): string => `${repoPath(repoId)}/audit`;

export const apiKeyPath = (repoId: string, apikeyId: string): string =>
  `${apiKeysPath(repoId)}/${segment('apikeyId', apikeyId)}`;

/** An id as one segment of a path. The dots cannot be encoded: URLs take %2e%2e for a step up, too. */
function segment(name: string, id: string): string {
  if (typeof id !== 'string' || ['', '.', '..'].includes(id)) {
    throw new TypeError(`${name} must be text other than "", "." and ".."`);
  }
  return encodeURIComponent(id);
}

/** The query of a path, question mark included; nothing if no parameter is given. */
export function query(parameters: Readonly<Record<string, string | number | null | undefined>>): string {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== undefined && value !== null) given.set(name, String(value));
  }
  const text = String(given);
  return text === '' ? '' : `?${text}`;
}

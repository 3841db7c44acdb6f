/** Who acts: a token's issuer and subject, both as the token says them. */
export type Actor = { readonly issuer: string; readonly subject: string };

/** May a token name its issuer or subject so? Control characters would forge lines of an audit that somebody prints. */
export const isSubject = (text: unknown): text is string =>
  typeof text === 'string' && text !== '' && !/[\p{Cc}\p{Cs}\u2028\u2029]/u.test(text);

const PERMISSIONS = {
  viewer: ['list'],
  admin: ['list', 'change', 'history', 'feed'],
  auditor: ['list', 'history', 'as-of', 'export', 'feed'],
  verifier: ['verify'],
  replica: ['verify', 'replica'],
} as const;

export type Role = keyof typeof PERMISSIONS;
export type Permission = (typeof PERMISSIONS)[Role][number];

export const ROLES = Object.keys(PERMISSIONS) as Role[];

/** What the id of a repository may be. */
export const REPO_ID = /^(?!\.{1,2}$)[A-Za-z0-9._~-]{1,128}$/;
export const REPO_ID_RULE = 'must be 1 to 128 of letters, digits, ".", "_", "~" and "-", but not "." or ".."';

/** Repository id, or `*` for every repository, to the name of a role. */
export type Grants = Readonly<Record<string, unknown>>;

/** expiresAt: when the proof of who it is ends, milliseconds since 1970. */
export type Caller = Actor & { readonly grants: Grants; readonly expiresAt: number };

/**
 * The port for platforms whose tokens carry access in another way: from the verified claims of a
 * token to its grants. The default is `grantsFromClaim`.
 */
export type GrantsOf = (claims: Readonly<Record<string, unknown>>) => Grants;

/** Reads the grants from one claim, `{"<repoId>" | "*": role}`; a claim of another shape grants nothing. */
export const grantsFromClaim =
  (claim: string): GrantsOf =>
  (claims) => {
    const value = claims[claim];
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Grants) : {};
  };

/** May the caller do this in this repository? An exact entry goes before `*`; an unknown role may nothing. */
export function permits(caller: Caller, repoId: string, permission: Permission): boolean {
  const role = Object.hasOwn(caller.grants, repoId) ? caller.grants[repoId] : caller.grants['*'];
  const known = ROLES.find((name) => name === role);
  return known !== undefined && (PERMISSIONS[known] as readonly Permission[]).includes(permission);
}

/** May the caller do this in any repository at all? */
export const permitsSomewhere = (caller: Caller, permission: Permission): boolean =>
  Object.keys(caller.grants).some((repoId) => permits(caller, repoId, permission));

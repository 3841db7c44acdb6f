import type { EpochMs } from './time.js';

/** Issuer and subject of a token, as the token names them. */
export type Actor = { readonly issuer: string; readonly subject: string };

/** True if the text can be an issuer or subject: control characters would forge lines of a printed audit. */
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

export const REPO_ID = /^(?!\.{1,2}$)[A-Za-z0-9._~-]{1,128}$/;
export const REPO_ID_RULE = 'must be 1 to 128 of letters, digits, ".", "_", "~" and "-", but not "." or ".."';

/** Maps a repository id, or `*` for every repository, to the name of a role. */
export type Grants = Readonly<Record<string, unknown>>;

/** expiresAt: when the token expires that proves the actor. */
export type Caller = Actor & { readonly grants: Grants; readonly expiresAt: EpochMs };

/**
 * Reads the grants from a token's verified claims. main.ts passes `grantsFromClaim`; a platform whose tokens carry them
 * in another way passes its own function there.
 */
export type GrantsOf = (claims: Readonly<Record<string, unknown>>) => Grants;

/** Reads the grants from one claim, `{"<repoId>" | "*": role}`; a claim of another shape grants nothing. */
export const grantsFromClaim =
  (claim: string): GrantsOf =>
  (claims) => {
    const value = claims[claim];
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Grants) : {};
  };

/** An exact entry takes precedence over `*`; an unknown role permits nothing. */
export function permits(caller: Caller, repoId: string, permission: Permission): boolean {
  const role = Object.hasOwn(caller.grants, repoId) ? caller.grants[repoId] : caller.grants['*'];
  const known = ROLES.find((name) => name === role);
  return known !== undefined && (PERMISSIONS[known] as readonly Permission[]).includes(permission);
}

/** True if the caller has the permission in at least one repository. */
export const permitsSomewhere = (caller: Caller, permission: Permission): boolean =>
  Object.keys(caller.grants).some((repoId) => permits(caller, repoId, permission));

/** The repositories in which a caller has a permission. */
export type RepositoryScope = {
  readonly includes: (repoId: string) => boolean;
  /** Does it include the repositories that are not named? */
  readonly others: boolean;
  /** The repositories that the caller's grants name; `includes` tells of each. */
  readonly named: readonly string[];
};

export const scopeOf = (caller: Caller, permission: Permission): RepositoryScope => ({
  includes: (repoId) => permits(caller, repoId, permission),
  others: permits(caller, '*', permission),
  named: Object.keys(caller.grants).filter((repoId) => repoId !== '*'),
});

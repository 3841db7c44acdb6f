/**
 * Time at which a bearer token expired: RFC 3339, UTC; undefined if it has not expired, or does not say. The service
 * decides; this only explains its refusal.
 */
export function expiryPassed(token: string): string | undefined {
  try {
    const base64 = (token.split('.')[1] ?? '').replaceAll('-', '+').replaceAll('_', '/');
    const { exp } = JSON.parse(atob(base64)) as { exp?: unknown };
    return typeof exp === 'number' && exp * 1000 <= Date.now() ? new Date(exp * 1000).toISOString() : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Rejects unknown members, which a caller without types may have misspelt: a dropped expiry creates an API key that
 * never expires.
 * @param others what remains of each object without its known members
 * @throws TypeError names the unknown members
 */
export function rejectUnknown(...others: readonly object[]): void {
  const names = others.flatMap((one) => Object.keys(one));
  if (names.length > 0) throw new TypeError(`unknown: ${names.map((name) => JSON.stringify(name)).join(', ')}`);
}

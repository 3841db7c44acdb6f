/**
 * Refuses members that a call does not know, which a caller without types may have misspelt: an expiry that is dropped
 * makes an API key that never expires.
 * @param others what is left of each object when the known members are taken out
 * @throws TypeError names them
 */
export function rejectUnknown(...others: readonly object[]): void {
  const names = others.flatMap((one) => Object.keys(one));
  if (names.length > 0)
    throw new TypeError(`unknown: ${names.map((name) => JSON.stringify(name)).join(', ')}`);
}

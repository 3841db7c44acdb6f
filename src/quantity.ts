/** A number as people read it: 1,000,000. */
export const count = (value: number): string => Math.round(value).toLocaleString('en');

/**
 * A number of things: `1 event`, `1,000 events`.
 * @param plural of a noun whose plural is the noun with an s
 */
export const countOf = (value: number, plural: string): string =>
  `${count(value)} ${value === 1 ? plural.slice(0, -1) : plural}`;

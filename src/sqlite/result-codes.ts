/** Result codes, https://www.sqlite.org/rescode.html */
export const SQLITE_BUSY = 5;
export const SQLITE_READONLY = 8;
export const SQLITE_IOERR = 10;
export const SQLITE_CORRUPT = 11;
export const SQLITE_FULL = 13;
export const SQLITE_CANTOPEN = 14;
export const SQLITE_NOTADB = 26;
export const SQLITE_IOERR_READ = 266;
export const SQLITE_IOERR_SHORT_READ = 522;
export const SQLITE_IOERR_WRITE = 778;

/** The extended result code of an error; 0 if SQLite did not throw it. */
export const extendedResultCode = (error: unknown): number => (error as { errcode?: number }).errcode ?? 0;

/** The primary result code of an error; 0 if SQLite did not throw it. */
export const resultCode = (error: unknown): number => extendedResultCode(error) & 0xff;

/** Does the error mean that the contents of the file cannot be read? */
export const isDamage = (error: unknown): boolean =>
  [SQLITE_CORRUPT, SQLITE_NOTADB].includes(resultCode(error)) ||
  [SQLITE_IOERR_READ, SQLITE_IOERR_SHORT_READ].includes(extendedResultCode(error));

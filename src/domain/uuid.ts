const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** Lower-case hexadecimal with hyphens (RFC 9562, section 4), of any version. */
export const isUuid = (text: string): boolean => UUID.test(text);

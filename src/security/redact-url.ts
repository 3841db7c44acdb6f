/** A URL without its user and password, as logs, errors and the terminal may show it. */
export const redactUrl = (url: string): string => url.replace(/:\/\/.*@/s, '://***@');

/** Self-signed certificate for localhost, valid for a hundred years, and its key (DER, base64). Only tests use it. */
const CERTIFICATE =
  'MIIBljCCATugAwIBAgIUPKtCDzcp1iaHvME2Ulqa2SGdsKswCgYIKoZIzj0EAwIwFDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMzE1MDU1MFoYDzIxMjYxMDMwMTUwNTUwWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAASQaQncOGLEqtRy4zUngzjUborc5m8woJZckIcw/Yb4k0RrYPHjKSVJ65cMScvc48/dw0zntncoGDceIeTb2fqRo2kwZzAdBgNVHQ4EFgQUPCZYUv98E/bjrvBWqaA85YoAJ38wHwYDVR0jBBgwFoAUPCZYUv98E/bjrvBWqaA85YoAJ38wDwYDVR0TAQH/BAUwAwEB/zAUBgNVHREEDTALgglsb2NhbGhvc3QwCgYIKoZIzj0EAwIDSQAwRgIhALPoIZ782vekNwg05hbkOpKQj8rhP6X65K9ev7Kicv0LAiEAwx+rvGrm1ntXwQirkxp3MtBeKin7UD/j0lK5oB3jeUA=';
const KEY =
  'MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg9GwvH0mIFImLx0DPnRzZ8Sa2JQ53otZeKmcEKe/AFwChRANCAASQaQncOGLEqtRy4zUngzjUborc5m8woJZckIcw/Yb4k0RrYPHjKSVJ65cMScvc48/dw0zntncoGDceIeTb2fqR';

const pem = (label: string, base64: string): string =>
  `-----BEGIN ${label}-----\n${base64.replace(/(.{64})/g, '$1\n')}\n-----END ${label}-----\n`;

export const selfSigned = { cert: pem('CERTIFICATE', CERTIFICATE), key: pem('PRIVATE KEY', KEY) };

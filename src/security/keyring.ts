import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { hashOf } from './credentials.js';

const ALGORITHM = 'aes-256-gcm';
const FORMAT = 'v1';
const KEY_BYTES = 32;
/** NIST SP 800-38D: random nonces of 96 bits, fewer than 2^32 messages a key. */
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const ID = /^[A-Za-z0-9_-]{1,32}$/;

/** What a sealed secret is bound to: it opens in no other context. */
export type SealContext = ({ readonly apiKeyId: string } | { readonly webhookId: string }) & {
  readonly secretVersion: number;
};

/** Master keys by id, newest first: the first seals, all open. */
export class Keyring {
  readonly #masterKeys: ReadonlyMap<string, Buffer>;
  readonly #newest: string;

  /**
   * @param text `id:base64` entries separated by commas or white space, newest first; each key of 32 bytes
   * @throws Error the message names the fault, without the key itself
   */
  constructor(text: string) {
    const masterKeys = new Map<string, Buffer>();
    for (const entry of text.split(/[\s,]+/).filter(Boolean)) {
      const colon = entry.indexOf(':');
      const id = entry.slice(0, Math.max(colon, 0));
      const encoded = entry.slice(colon + 1);
      const masterKey = Buffer.from(encoded, 'base64');
      if (!ID.test(id)) {
        throw new Error(`master key ${masterKeys.size + 1} must be id:base64, the id of A-Z a-z 0-9 _ -`);
      }
      if (masterKey.toString('base64').replace(/=+$/, '') !== encoded.replace(/=+$/, '')) {
        throw new Error(`master key ${id} is not base64`);
      }
      if (masterKey.length !== KEY_BYTES)
        throw new Error(`master key ${id} has ${masterKey.length} bytes instead of 32`);
      if (masterKeys.has(id)) throw new Error(`master key ${id} appears twice`);
      masterKeys.set(id, masterKey);
    }
    const [newest] = masterKeys.keys();
    if (newest === undefined) throw new Error('there is no master key');
    this.#masterKeys = masterKeys;
    this.#newest = newest;
  }

  /** AES-256-GCM under the newest master key: `v1.<master key id>.<nonce>.<ciphertext and tag>`, in base64url. */
  seal(secret: string, sealContext: SealContext): string {
    const masterKeyId = this.#newest;
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv(ALGORITHM, this.#masterKeys.get(masterKeyId) as Buffer, nonce);
    cipher.setAAD(associatedData(masterKeyId, sealContext));
    const sealed = Buffer.concat([cipher.update(secret, 'utf8'), cipher.final(), cipher.getAuthTag()]);
    return [FORMAT, masterKeyId, nonce.toString('base64url'), sealed.toString('base64url')].join('.');
  }

  /**
   * Opens a sealed secret; undefined if its master key is no longer in the keyring, it was sealed for another context
   * or altered, or its hash is not the expected one.
   */
  open(sealedSecret: string, sealContext: SealContext, secretHash: string): string | undefined {
    const [format, masterKeyId = '', nonce = '', body = ''] = sealedSecret.split('.');
    const masterKey = this.#masterKeys.get(masterKeyId);
    if (format !== FORMAT || !masterKey) return undefined;
    try {
      const sealed = Buffer.from(body, 'base64url');
      const decipher = createDecipheriv(ALGORITHM, masterKey, Buffer.from(nonce, 'base64url'), {
        authTagLength: TAG_BYTES,
      });
      decipher.setAAD(associatedData(masterKeyId, sealContext));
      decipher.setAuthTag(sealed.subarray(-TAG_BYTES));
      const secret = decipher.update(sealed.subarray(0, -TAG_BYTES), undefined, 'utf8') + decipher.final('utf8');
      return hashOf(secret) === secretHash ? secret : undefined;
    } catch {
      return undefined;
    }
  }
}

/** A fresh entry for a keyring. */
export const makeMasterKey = (id: string): string => `${id}:${randomBytes(KEY_BYTES).toString('base64')}`;

function associatedData(masterKeyId: string, sealContext: SealContext): Buffer {
  const [purpose, id] =
    'apiKeyId' in sealContext
      ? ['keyledger/secret', sealContext.apiKeyId]
      : ['keyledger/webhook', sealContext.webhookId];
  return Buffer.from(JSON.stringify([purpose, FORMAT, id, sealContext.secretVersion, masterKeyId]));
}

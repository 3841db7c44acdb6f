/** A secret at rest. Versions count from 1; each rotation adds one. */
export type SealedSecret = {
  readonly secretVersion: number;
  /** SHA-256 in hex. */
  readonly secretHash: string;
  /** Encrypted form, which only a repeated request or the signing of webhooks opens. */
  readonly sealedSecret: string;
};

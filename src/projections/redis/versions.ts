import { Cluster } from 'ioredis';
import type { BaseLogger } from 'pino';
import type { Connection } from '../../redis/connection.js';
import { READ_MODEL_VERSION } from '../list-item.js';
import { sweep } from './generations.js';
import { PARTITIONS, partitionKeys, versionRoot } from './keys.js';

/** How often an instance announces that its version of the read model is in use, and how long that lasts. */
const ANNOUNCE_MS = 20_000;
const PRESENCE_TTL_MS = 60_000;

/** Registers this version, so that later ones can find and remove it. */
export const registerVersion = (redis: Connection, prefix: string): Promise<number> =>
  redis.sadd(`${prefix}:versions`, READ_MODEL_VERSION);

/**
 * The versions of the read model in a Redis: `<prefix>:versions` names them, and `<prefix>:<version>:{writer}:present`
 * exists while an instance serves one. Removes earlier versions that no instance serves, and abandoned generations of
 * this version. An instance that lost its version by mistake restores it.
 */
export class ReadModelVersions {
  readonly #redis: Connection;
  readonly #prefix: string;
  readonly #logger: BaseLogger;
  #timer: NodeJS.Timeout | undefined;

  constructor(redis: Connection, prefix: string, logger: BaseLogger) {
    this.#redis = redis;
    this.#prefix = prefix;
    this.#logger = logger;
  }

  /** Announces now and from then on that this instance serves its version. */
  async startAnnouncing(): Promise<void> {
    this.#timer ??= setInterval(() => {
      this.#announce().catch((error: Error) =>
        this.#logger.debug({ err: error }, 'Cannot announce the version of the read model'),
      );
    }, ANNOUNCE_MS).unref();
    await this.#announce();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  async #announce(): Promise<void> {
    await registerVersion(this.#redis, this.#prefix);
    await this.#redis.set(this.#presence(READ_MODEL_VERSION), 1, 'PX', PRESENCE_TTL_MS);
    for (let number = 0; number < PARTITIONS; number++) {
      await sweep(this.#redis, partitionKeys(versionRoot(this.#prefix), number));
    }
    for (const version of await this.#redis.smembers(`${this.#prefix}:versions`)) {
      if (Number(version) >= READ_MODEL_VERSION || (await this.#redis.exists(this.#presence(version)))) continue;
      await this.#remove(version);
      this.#logger.info(`Removed version ${version} of the read model, which no instance serves`);
    }
  }

  #presence(version: number | string): string {
    return `${this.#prefix}:${version}:{writer}:present`;
  }

  async #remove(version: string): Promise<void> {
    const nodes = this.#redis instanceof Cluster ? this.#redis.nodes('master') : [this.#redis];
    const match = `${this.#prefix}:${version}:{*`;
    for (const node of nodes) {
      for await (const keys of node.scanStream({ match, count: 1000 })) {
        await Promise.all((keys as string[]).map((key) => node.unlink(key)));
      }
    }
    await this.#redis.srem(`${this.#prefix}:versions`, version);
  }
}

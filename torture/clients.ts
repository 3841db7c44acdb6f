import { setTimeout } from 'node:timers/promises';
import { v4 as uuid } from 'uuid';
import type { Answer, Asked, Call, CallKind } from './history.js';

/** Timeout of a client, longer than any call may take (milliseconds). */
const CALL_TIMEOUT_MS = 30_000;
const TRIES = 6;
const LONGEST_PAUSE_MS = 40;
/** Repositories change, so that lists stay short. */
const KEYS_A_REPOSITORY = 40;
const OVERLAP_SECONDS = 30 * 86_400;

/** Share of each call in percent. */
const CALL_PERCENTAGES: Readonly<Record<CallKind, number>> = {
  create: 14,
  rename: 14,
  rotate: 8,
  suspend: 6,
  resume: 6,
  delete: 6,
  list: 10,
  get: 6,
  verify: 30,
};

type Key = {
  readonly id: string;
  readonly repoId: string;
  readonly key: string;
  /** Every secret ever issued for the key. */
  readonly secrets: string[];
};

/** Holds calls back until they may begin. */
export type Gate = { pass(): Promise<void> };

/** Concurrent clients of two instances that change the same few keys, and repeat calls without an answer. */
export class Clients {
  readonly #urls: readonly [string, string];
  readonly #tokens: { readonly admin: string; readonly verifier: string };
  readonly #random: () => number;
  readonly #gate: Gate;
  readonly #done: (call: Call) => void;
  readonly #alive: Key[] = [];
  readonly #dead: Key[] = [];
  #underWay = 0;
  #made = 0;
  #latest: string | undefined;

  /** @param done called with each call that has ended */
  constructor(
    urls: readonly [string, string],
    tokens: { readonly admin: string; readonly verifier: string },
    random: () => number,
    gate: Gate,
    done: (call: Call) => void,
  ) {
    this.#urls = urls;
    this.#tokens = tokens;
    this.#random = random;
    this.#gate = gate;
    this.#done = done;
  }

  get underWay(): number {
    return this.#underWay;
  }

  /** A random key that should exist. */
  someKey(): { readonly apiKeyId: string; readonly repoId: string } | undefined {
    const key = this.#one(this.#alive);
    return key && { apiKeyId: key.id, repoId: key.repoId };
  }

  /** Drops the latest position, after the log was restored. */
  forgetPositions(): void {
    this.#latest = undefined;
  }

  async run(clients: number, signal: AbortSignal): Promise<void> {
    const client = async () => {
      while (!signal.aborted) {
        await this.#gate.pass();
        await this.#doSomething(signal);
        await setTimeout(this.#random() * LONGEST_PAUSE_MS);
      }
    };
    await Promise.all(Array.from({ length: clients }, client));
  }

  /** @returns false if an instance creates no key in time */
  async untilCreated(instance: 0 | 1, timeoutMs: number): Promise<boolean> {
    const giveUpAt = performance.now() + timeoutMs;
    const asked: Asked = { kind: 'create', repoId: 'recovered', idempotencyKey: uuid(), name: uuid() };
    while ((await this.#call(asked, instance))?.status !== 201) {
      if (performance.now() > giveUpAt) return false;
      await setTimeout(100);
    }
    return true;
  }

  async #doSomething(signal: AbortSignal): Promise<void> {
    let percent = this.#random() * 100;
    const kinds = Object.entries(CALL_PERCENTAGES) as [CallKind, number][];
    const [kind] = kinds.find(([, part]) => {
      percent -= part;
      return percent < 0;
    }) ?? ['create'];
    const key = this.#one(this.#random() < 0.15 ? this.#dead : this.#alive);
    if (kind === 'create' || !key) return this.#create(signal);
    const { id: apiKeyId, repoId } = key;
    switch (kind) {
      case 'rename':
        return void (await this.#change({ kind, repoId, apiKeyId, name: uuid() }, signal));
      case 'rotate':
        return this.#rotate(key, signal);
      case 'delete':
        if ((await this.#change({ kind, repoId, apiKeyId }, signal))?.status === 200) this.#retire(key);
        return;
      case 'suspend':
      case 'resume':
        return void (await this.#change({ kind, repoId, apiKeyId }, signal));
      case 'list':
        return void (await this.#call({ kind, repoId, ...this.#minimum() }));
      case 'get':
        return void (await this.#call({ kind, repoId, apiKeyId, ...this.#minimum() }));
      case 'verify': {
        const secret = this.#random() < 0.7 ? key.secrets.at(-1) : this.#one(key.secrets);
        const credential = { key: key.key, secret: secret ?? '' };
        return void (await this.#call({ kind, repoId, apiKeyId, ...credential, ...this.#minimum() }));
      }
    }
  }

  async #create(signal: AbortSignal): Promise<void> {
    const repoId = `repo-${Math.floor(this.#made++ / KEYS_A_REPOSITORY)}-${Math.floor(this.#random() * 2)}`;
    const idempotencyKey = uuid();
    const asked: Asked = { kind: 'create', repoId, idempotencyKey, name: uuid() };
    const answer = await this.#change(asked, signal);
    const { id, key, secret } = answer?.body ?? {};
    if (answer?.status !== 201) return;
    this.#alive.push({ id: String(id), repoId, key: String(key), secrets: [String(secret)] });
    if (this.#alive.length > KEYS_A_REPOSITORY) this.#retire(this.#alive[0] as Key);
  }

  async #rotate(key: Key, signal: AbortSignal): Promise<void> {
    const asked: Asked = {
      kind: 'rotate',
      repoId: key.repoId,
      apiKeyId: key.id,
      idempotencyKey: uuid(),
      ...(this.#random() < 0.5 ? { overlapSeconds: OVERLAP_SECONDS } : {}),
    };
    const answer = await this.#change(asked, signal);
    if (answer?.status === 200) key.secrets.push(String(answer.body['secret']));
  }

  /** Repeats a change until an answer settles its outcome; sometimes calls both instances at once. */
  async #change(asked: Asked, signal: AbortSignal): Promise<Answer | undefined> {
    for (let tries = 1; tries <= TRIES && !signal.aborted; tries++) {
      await this.#gate.pass();
      const isTwice = asked.idempotencyKey !== undefined && this.#random() < 0.2;
      const calls = isTwice ? [this.#call(asked, 0), this.#call(asked, 1)] : [this.#call(asked)];
      const answer = (await Promise.all(calls)).find(isFinal);
      if (answer) {
        if (answer.position) this.#latest = answer.position;
        return answer;
      }
      await setTimeout(this.#random() * 500);
    }
    return undefined;
  }

  #retire(key: Key): void {
    const place = this.#alive.indexOf(key);
    if (place >= 0) this.#alive.splice(place, 1);
    this.#dead.push(key);
    if (this.#dead.length > KEYS_A_REPOSITORY) this.#dead.shift();
  }

  #one<T>(all: readonly T[]): T | undefined {
    return all[Math.floor(this.#random() * all.length)];
  }

  #minimum(): { minPosition?: string } {
    return this.#latest && this.#random() < 0.5 ? { minPosition: this.#latest } : {};
  }

  async #call(asked: Asked, instance = this.#random() < 0.5 ? 0 : 1): Promise<Answer | undefined> {
    const id = uuid();
    const startedAt = performance.now();
    this.#underWay++;
    const token = asked.kind === 'verify' ? this.#tokens.verifier : this.#tokens.admin;
    const answer = await send(this.#urls[instance as 0 | 1], token, id, asked);
    this.#underWay--;
    this.#done({ ...asked, id, instance: instance as 0 | 1, startedAt, endedAt: performance.now(), answer });
    return answer;
  }
}

/** Whether a repeat would bring nothing new. */
const isFinal = (answer: Answer | undefined): answer is Answer => answer !== undefined && answer.status < 500;

const METHODS: Readonly<Record<CallKind, string>> = {
  create: 'POST',
  rename: 'PUT',
  rotate: 'POST',
  suspend: 'POST',
  resume: 'POST',
  delete: 'DELETE',
  list: 'GET',
  get: 'GET',
  verify: 'POST',
};

function pathOf({ kind, repoId, apiKeyId }: Asked): string {
  if (kind === 'verify') return '/verify';
  const keys = `/repo/${repoId}/ai/apikey`;
  if (kind === 'create' || kind === 'list') return keys;
  const isAction = kind === 'rotate' || kind === 'suspend' || kind === 'resume';
  return `${keys}/${apiKeyId}${isAction ? `/${kind}` : ''}`;
}

function bodyOf({ kind, name, overlapSeconds, key, secret }: Asked): object | undefined {
  if (kind === 'create') return { name, aiType: 'OPENAI' };
  if (kind === 'rename') return { name };
  if (kind === 'rotate') return { overlapSeconds };
  return kind === 'verify' ? { key, secret } : undefined;
}

/** Sends one request; undefined if no complete answer arrived. */
export async function send(url: string, token: string, id: string, asked: Asked): Promise<Answer | undefined> {
  const body = bodyOf(asked);
  const headers = {
    authorization: `Bearer ${token}`,
    'x-request-id': id,
    ...(body ? { 'content-type': 'application/json' } : {}),
    ...(asked.idempotencyKey ? { 'idempotency-key': asked.idempotencyKey } : {}),
    ...(asked.minPosition ? { 'keyledger-min-position': asked.minPosition } : {}),
  };
  try {
    const response = await fetch(url + pathOf(asked), {
      method: METHODS[asked.kind],
      headers,
      ...(body ? { body: JSON.stringify(body) } : {}),
      signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
    });
    const answerBody = shortened((await response.json()) as Answer['body']);
    const staleness = response.headers.get('keyledger-staleness');
    return {
      status: response.status,
      code: answerBody['code'] as string | undefined,
      position: (answerBody['position'] as string) ?? response.headers.get('keyledger-position') ?? undefined,
      staleness: staleness === null ? undefined : Number(staleness),
      body: answerBody,
    };
  } catch {
    return undefined;
  }
}

type Body = Answer['body'] & { readonly apiKeys?: readonly { readonly [field: string]: unknown }[] };

/** Keeps only the checked fields of lists, which are many. */
function shortened(body: Body): Answer['body'] {
  if (!body.apiKeys) return body;
  return { apiKeys: body.apiKeys.map(({ id, name, status }) => ({ id, name, status })) };
}

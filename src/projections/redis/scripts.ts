import type { Result } from 'ioredis';
import { LEASE_SCRIPTS } from '../../redis/lease.js';

/**
 * The atomic operations on a partition; see keys.ts for its keys. A caller passes the generation that it believes to be
 * live and gets `MOVED <generation>` if another is (`MOVED ` if none is). It also passes its floor, the position that
 * it has seen the partition at: after a flush or a failover the partition may be before it, and the result is LOST.
 */

/** KEYS[1]: live. ARGV[1]: generation; ARGV[2]: floor. */
const CHECK = `
local live = redis.call('HMGET', KEYS[1], 'generation', 'position')
local generation, at = live[1] or '', live[2] or ''
if at < ARGV[2] then return 'LOST' end
if generation ~= ARGV[1] then return 'MOVED ' .. generation end
`;

/**
 * Stores items. Of each item: index of its repository, repository id, key id, revision, member of the lists, state
 * ('listed', 'deleted' or 'quarantined'), document. An item of the same revision replaces a quarantined one. KEYS[2]:
 * repos, KEYS[3]: quarantined, then items, all and list of each repository.
 */
const PUT = `
local function put(first)
  for i = first, #ARGV, 7 do
    local key = 1 + 3 * ARGV[i]
    local items, all, list = KEYS[key], KEYS[key + 1], KEYS[key + 2]
    local id, revision, state = ARGV[i + 2], tonumber(ARGV[i + 3]), ARGV[i + 5]
    local known = redis.call('HGET', items, id)
    local there = known and tonumber(string.match(known, '^%d+')) or -1
    if there < revision or (there == revision and redis.call('SISMEMBER', KEYS[3], id) == 1) then
      redis.call('SADD', KEYS[2], ARGV[i + 1])
      redis.call('HSET', items, id, ARGV[i + 6])
      redis.call('ZADD', all, 0, ARGV[i + 4])
      if state == 'deleted' then redis.call('ZREM', list, ARGV[i + 4])
      else redis.call('ZADD', list, 0, ARGV[i + 4]) end
      if state == 'quarantined' then redis.call('SADD', KEYS[3], id)
      elseif there >= 0 then redis.call('SREM', KEYS[3], id) end
    end
  end
end
`;

/** Writes to the live generation. ARGV[3] and [4]: position and event id of the checkpoint, or ''; then items. */
const APPLY = `${CHECK}${PUT}
put(5)
if ARGV[3] ~= '' and at < ARGV[3] then
  redis.call('HSET', KEYS[1], 'position', ARGV[3], 'eventId', ARGV[4])
end
return 'OK'
`;

/** Reads a page. KEYS[2]: list or all, KEYS[3]: items. ARGV[3]: upper end as in ZREVRANGEBYLEX, ARGV[4]: size. */
const LIST = `${CHECK}
local members = redis.call('ZREVRANGEBYLEX', KEYS[2], ARGV[3], '-', 'LIMIT', 0, ARGV[4])
if #members == 0 then return {} end
local ids = {}
for i, member in ipairs(members) do ids[i] = string.match(member, '[^|]+$') end
return redis.call('HMGET', KEYS[3], unpack(ids))
`;

/** Reads an item. KEYS[2]: items. ARGV[3]: key id. */
const GET = `${CHECK}
return redis.call('HGET', KEYS[2], ARGV[3])
`;

const NOW = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
`;

/** Starts a generation. KEYS[1]: generations. ARGV[1]: its name. */
const BEGIN = `${NOW}
redis.call('HSET', KEYS[1], ARGV[1], now)
return 'OK'
`;

/** Writes to a generation under construction. KEYS[1]: generations. ARGV[1]: its name; then items. */
const BUILD = `${NOW}${PUT}
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 'LOST' end
put(2)
redis.call('HSET', KEYS[1], ARGV[1], now)
return 'OK'
`;

/**
 * Makes a generation live. KEYS: live, generations. ARGV: its name ('' for none); the one that it replaces; position
 * and event id of its checkpoint; 'forward' to refuse a checkpoint before that of the live one.
 */
const SWITCH = `${NOW}
local live = redis.call('HMGET', KEYS[1], 'generation', 'position')
local generation, at = live[1] or '', live[2] or ''
if generation ~= ARGV[2] then return 'MOVED ' .. generation end
if ARGV[5] == 'forward' and at > ARGV[3] then return 'BEHIND' end
if ARGV[1] ~= '' and redis.call('HEXISTS', KEYS[2], ARGV[1]) == 0 then return 'LOST' end
redis.call('DEL', KEYS[1])
if ARGV[2] ~= '' then redis.call('HSET', KEYS[2], ARGV[2], now) end
if ARGV[1] ~= '' then
  redis.call('HDEL', KEYS[2], ARGV[1])
  redis.call('HSET', KEYS[1], 'generation', ARGV[1], 'position', ARGV[3], 'eventId', ARGV[4])
end
return 'OK'
`;

/** Lists generations that are not live and have no recent write. KEYS[1]: generations. ARGV[1]: milliseconds. */
const ABANDONED = `${NOW}
local found = {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if tonumber(all[i + 1]) + tonumber(ARGV[1]) <= now then found[#found + 1] = all[i] end
end
return found
`;

/**
 * Removes a generation unless it is live. KEYS: live, generations, repos, quarantined. ARGV: its name, its key prefix.
 */
const REMOVE = `
if redis.call('HGET', KEYS[1], 'generation') == ARGV[1] then return 0 end
for _, repo in ipairs(redis.call('SMEMBERS', KEYS[3])) do
  for _, kind in ipairs({':items:', ':all:', ':list:'}) do redis.call('UNLINK', ARGV[2] .. kind .. repo) end
end
redis.call('UNLINK', KEYS[3], KEYS[4])
return redis.call('HDEL', KEYS[2], ARGV[1])
`;

/** Defined as commands of ioredis, which sends EVALSHA, and the text only to a server that lacks it. */
export const READ_MODEL_SCRIPTS = {
  keyledgerApply: { lua: APPLY },
  keyledgerBuild: { lua: BUILD },
  keyledgerList: { lua: LIST, numberOfKeys: 3 },
  keyledgerGet: { lua: GET, numberOfKeys: 2 },
  keyledgerBegin: { lua: BEGIN, numberOfKeys: 1 },
  keyledgerSwitch: { lua: SWITCH, numberOfKeys: 2 },
  keyledgerAbandoned: { lua: ABANDONED, numberOfKeys: 1 },
  keyledgerRemove: { lua: REMOVE, numberOfKeys: 4 },
  ...LEASE_SCRIPTS,
};

/** The caller's generation is not the live one (MOVED), or the partition has lost data (LOST). */
export type GenerationMismatch = 'LOST' | `MOVED ${string}`;
type Write = [keyCount: number, ...keysAndArguments: (string | number)[]];

declare module 'ioredis' {
  interface RedisCommander<Context> {
    keyledgerApply(...write: Write): Result<'OK' | GenerationMismatch, Context>;
    keyledgerBuild(...write: Write): Result<'OK' | 'LOST', Context>;
    keyledgerList(
      live: string,
      list: string,
      items: string,
      generation: string,
      floor: string,
      upper: string,
      size: number,
    ): Result<GenerationMismatch | (string | null)[], Context>;
    keyledgerGet(
      live: string,
      items: string,
      generation: string,
      floor: string,
      id: string,
    ): Result<string | null, Context>;
    keyledgerBegin(generations: string, generation: string): Result<'OK', Context>;
    keyledgerSwitch(
      live: string,
      generations: string,
      generation: string,
      expectedLive: string,
      position: string,
      eventId: string,
      direction: 'forward' | 'any',
    ): Result<'OK' | 'BEHIND' | GenerationMismatch, Context>;
    keyledgerAbandoned(generations: string, milliseconds: number): Result<string[], Context>;
    keyledgerRemove(
      live: string,
      generations: string,
      repos: string,
      quarantined: string,
      generation: string,
      base: string,
    ): Result<0 | 1, Context>;
  }
}

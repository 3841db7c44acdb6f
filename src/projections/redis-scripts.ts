import type { Result } from 'ioredis';

/**
 * What must happen at once in a partition. Every key of a partition carries the same hash tag, so
 * that a cluster keeps them together:
 *
 * | key | type | content |
 * |---|---|---|
 * | `<partition>:checkpoint` | hash | position, eventId: everything up to there is in; absent while it is being filled |
 * | `<partition>:filling` | string | who fills it from nothing, until it is filled; whoever else writes meanwhile is told LOST |
 * | `<partition>:repos` | set | the repositories that it holds |
 * | `<partition>:items:<repo>` | hash | key id -> revision, a blank, the document as JSON |
 * | `<partition>:all:<repo>` | sorted set | `<created position>\|<key id>` of its keys, all of score 0 |
 * | `<partition>:list:<repo>` | sorted set | the same, of the keys that are not deleted |
 *
 * `floor` is the position that the partition must have reached for the caller to believe it: after a
 * flush or a failover it has not, and the answer is LOST.
 */

const CHECK = `
local at = redis.call('HGET', KEYS[1], 'position')
local filling = redis.call('GET', KEYS[2])
if filling or (ARGV[1] ~= '' and (not at or at < ARGV[1])) then return 'LOST' end
`;

/**
 * KEYS: checkpoint, filling, repos, then items, all and list of each repository.
 * ARGV: floor, or 'fill:' and who fills; position and event id of the checkpoint (or ''); then of each
 * item: number of its repository, repository id, key id, revision, member of the lists, 1 if it is
 * not deleted, JSON.
 */
const APPLY = `
local at = redis.call('HGET', KEYS[1], 'position')
local filling = redis.call('GET', KEYS[2])
local filler = string.match(ARGV[1], '^fill:(.*)')
if filler then
  if filling ~= filler then return 'LOST' end
elseif filling or (ARGV[1] ~= '' and (not at or at < ARGV[1])) then return 'LOST' end
for i = 4, #ARGV, 7 do
  local first = 1 + 3 * ARGV[i]
  local items, all, list = KEYS[first], KEYS[first + 1], KEYS[first + 2]
  local id, revision = ARGV[i + 2], ARGV[i + 3]
  local known = redis.call('HGET', items, id)
  if not known or tonumber(string.match(known, '^%d+')) < tonumber(revision) then
    redis.call('SADD', KEYS[3], ARGV[i + 1])
    redis.call('HSET', items, id, revision .. ' ' .. ARGV[i + 6])
    redis.call('ZADD', all, 0, ARGV[i + 4])
    if ARGV[i + 5] == '1' then redis.call('ZADD', list, 0, ARGV[i + 4])
    else redis.call('ZREM', list, ARGV[i + 4]) end
  end
end
if ARGV[2] ~= '' and (not at or at < ARGV[2]) then
  redis.call('HSET', KEYS[1], 'position', ARGV[2], 'eventId', ARGV[3])
end
if filler and ARGV[2] ~= '' then redis.call('DEL', KEYS[2]) end
return 'OK'
`;

/** KEYS: checkpoint, filling, list or all, items. ARGV: floor, upper end of the page as of ZREVRANGEBYLEX, its size. */
const LIST = `${CHECK}
local members = redis.call('ZREVRANGEBYLEX', KEYS[3], ARGV[2], '-', 'LIMIT', 0, ARGV[3])
if #members == 0 then return {} end
local ids = {}
for i, member in ipairs(members) do ids[i] = string.match(member, '[^|]+$') end
return redis.call('HMGET', KEYS[4], unpack(ids))
`;

/** KEYS: checkpoint, filling, items. ARGV: floor, key id. */
const GET = `${CHECK}
return redis.call('HGET', KEYS[3], ARGV[2])
`;

/** KEYS: checkpoint, filling, repos. ARGV: name of the partition, who is going to fill it (or ''). */
const CLEAR = `
redis.call('DEL', KEYS[1])
for _, repo in ipairs(redis.call('SMEMBERS', KEYS[3])) do
  for _, kind in ipairs({':items:', ':all:', ':list:'}) do redis.call('UNLINK', ARGV[1] .. kind .. repo) end
end
redis.call('DEL', KEYS[2], KEYS[3])
if ARGV[2] ~= '' then redis.call('SET', KEYS[2], ARGV[2]) end
return 'OK'
`;

/** KEYS: lease. ARGV: who asks, for how many milliseconds. Returns 1 if the lease is theirs. */
const LEASE = `
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
`;

/** KEYS: lease. ARGV: who gives it back. */
const RELEASE = `
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
`;

/** As ioredis takes them: it sends the hash, and the text only to a server that does not know it yet. */
export const SCRIPTS = {
  keyledgerApply: { lua: APPLY },
  keyledgerList: { lua: LIST, numberOfKeys: 4 },
  keyledgerGet: { lua: GET, numberOfKeys: 3 },
  keyledgerClear: { lua: CLEAR, numberOfKeys: 3 },
  keyledgerLease: { lua: LEASE, numberOfKeys: 1 },
  keyledgerRelease: { lua: RELEASE, numberOfKeys: 1 },
};

declare module 'ioredis' {
  interface RedisCommander<Context> {
    keyledgerApply(
      keyCount: number,
      ...keysAndArguments: (string | number)[]
    ): Result<'OK' | 'LOST', Context>;
    keyledgerList(
      checkpoint: string,
      filling: string,
      list: string,
      items: string,
      floor: string,
      upper: string,
      size: number,
    ): Result<'LOST' | (string | null)[], Context>;
    keyledgerGet(
      checkpoint: string,
      filling: string,
      items: string,
      floor: string,
      id: string,
    ): Result<string | null, Context>;
    keyledgerClear(
      checkpoint: string,
      filling: string,
      repos: string,
      partition: string,
      filler: string,
    ): Result<'OK', Context>;
    keyledgerLease(lease: string, holder: string, milliseconds: number): Result<0 | 1, Context>;
    keyledgerRelease(lease: string, holder: string): Result<0 | 1, Context>;
  }
}

// An application's work through node-redis, as the user that docs/operations.md gives it. Arguments: socket, token.
const assert = require('node:assert');
const { createClient } = require('redis');

async function main(path, token, RESP) {
  const redis = createClient({ RESP, username: 'app', password: 'secret', database: 1, name: 'node-redis',
    socket: { path, reconnectStrategy: false } });
  redis.on('error', () => {});
  await redis.connect();
  const key = `user:node-redis:${RESP}`;
  const call = (name, keys, args) => redis.sendCommand(['FCALL', name, String(keys.length), ...keys, ...args]);
  const [lease] = await call('cache_aside_get', [key], ['2000']);
  assert.equal(await call('cache_aside_get', [key], ['2000']), null);
  assert.equal(await call('cache_aside_fill', [key], ['v', '60000', token, lease]), 1);
  assert.equal(await call('cache_aside_get', [key], ['2000']), 'v');
  assert.equal(await redis.fCall('cache_aside_fill', { keys: [`${key}:1`], arguments: ['a', '60000', token] }), 1);
  assert.deepEqual(await call('cache_aside_get_many', [key, `${key}:1`], ['0']), ['v', 'a']);
  assert.deepEqual(await call('cache_aside_fill_many', [key, `${key}:1`], ['60000', token, 'x', 'y']), [1, 1]);
  assert.deepEqual(await redis.mGet([key, `${key}:1`]), ['x', 'y']);
  await redis.set(`${key}:2`, 'c', { EX: 60 });
  assert.equal(await redis.del(`${key}:2`), 1);
  assert.equal(await redis.get('cache_aside:stick:42'), '0/1');
  assert.equal(typeof await redis.hGetAll('cache_aside:replicas'), 'object');
  await redis.ping();
  await assert.rejects(call('cache_aside_claim_1', ['user:a', 'user:b'], ['n'.repeat(16), '1']), /NOPERM/);
  await assert.rejects(redis.set('cache_aside:position:1', 'x'), /NOPERM/);
  await redis.close();
}

(async () => {
  await main(process.argv[2], process.argv[3], 2);
  await main(process.argv[2], process.argv[3], 3);
})().then(() => console.log('done'), (error) => { console.error(error); process.exit(1); });

// An application's work through ioredis, as the user that docs/operations.md gives it. Arguments: socket, token.
const assert = require('node:assert');
const Redis = require('ioredis');

async function main(path, token) {
  const redis = new Redis({ path, username: 'app', password: 'secret', db: 1, connectionName: 'ioredis',
    retryStrategy: () => null, lazyConnect: true });
  await redis.connect();
  const [lease] = await redis.call('FCALL', 'cache_aside_get', 1, 'user:ioredis', 2000);
  assert.equal(await redis.call('FCALL', 'cache_aside_get', 1, 'user:ioredis', 2000), null);
  assert.equal(await redis.call('FCALL', 'cache_aside_fill', 1, 'user:ioredis', 'v', 60000, token, lease), 1);
  assert.equal(await redis.call('FCALL', 'cache_aside_get', 1, 'user:ioredis', 2000), 'v');
  const [next] = await redis.call('FCALL', 'cache_aside_get_1', 1, 'user:numbered', 2000);
  assert.equal(await redis.call('FCALL', 'cache_aside_release_1', 1, 'user:numbered', next), 1);
  assert.equal(await redis.call('FCALL', 'cache_aside_fill_1', 1, 'user:numbered', 'v', 60000, token), 1);
  assert.deepEqual(await redis.call('FCALL', 'cache_aside_fill_many', 2, 'user:i1', 'user:i2', 60000, token, 'a', 'b'), [1, 1]);
  assert.deepEqual(await redis.call('FCALL', 'cache_aside_get_many', 2, 'user:i1', 'user:i2', 0), ['a', 'b']);
  assert.deepEqual(await redis.mget('user:i1', 'user:i2'), ['a', 'b']);
  const answers = await redis.pipeline().set('user:i3', 'c', 'EX', 60).pttl('user:i3').del('user:i1').exec();
  assert.deepEqual(answers.map(([error]) => error), [null, null, null]);
  assert.equal(await redis.get('cache_aside:stick:42'), '0/1');
  assert.equal(typeof await redis.hgetall('cache_aside:replicas'), 'object');
  await assert.rejects(redis.call('FCALL', 'cache_aside_claim_1', 2, 'user:a', 'user:b', 'n'.repeat(16), 1), /NOPERM/);
  await assert.rejects(redis.set('cache_aside:position:1', 'x'), /NOPERM/);
  await redis.quit();
}

main(process.argv[2], process.argv[3]).then(() => console.log('done'), (error) => { console.error(error); process.exit(1); });

// Writes to the master that Sentinels name, over and over, and prints the time of each write that was done.
'use strict';
const Redis = require('ioredis');
const sentinels = process.argv[3].split(',').map((s) => ({ host: s.split(':')[0], port: Number(s.split(':')[1]) }));
const redis = new Redis({ sentinels, name: process.argv[2], commandTimeout: 300, connectTimeout: 300, maxRetriesPerRequest: 0 });
redis.on('error', () => {});
async function write() {
  try {
    await redis.set('cache_client:js', 1);
    console.log((Date.now() / 1000).toFixed(4));
  } catch (error) {}
  setTimeout(write, 10);
}
write();

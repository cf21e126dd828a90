#include "invalidator.h"

#include <stdbool.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include <hiredis/hiredis.h>

#define KEYS 1000
#define KEY_SIZE 64

static const char *socket_path;
static redisContext *redis;
static char keys[KEYS][KEY_SIZE];
static const char *argv[1 + KEYS] = {"UNLINK"};
static size_t lengths[1 + KEYS] = {6};
static int count;

void
invalidator_open(const char *path)
{
	socket_path = path;
}

static bool
unlink_all(void)
{
	redisReply *reply = NULL;
	bool done;

	if (redis == NULL)
		redis = redisConnectUnix(socket_path);
	if (redis != NULL && !redis->err)
		reply = redisCommandArgv(redis, 1 + count, argv, lengths);
	done = reply != NULL && reply->type == REDIS_REPLY_INTEGER; /* it may be loading its data */
	freeReplyObject(reply);
	if (redis != NULL && redis->err)
	{
		redisFree(redis);
		redis = NULL;
	}
	return done;
}

void
invalidator_flush(void)
{
	while (count > 0 && !unlink_all())
		usleep(20 * 1000);
	count = 0;
}

void
invalidator_add(const char *key, size_t length)
{
	if (length > KEY_SIZE)
		return;
	if (count == KEYS)
		invalidator_flush();
	memcpy(keys[count], key, length);
	argv[1 + count] = keys[count];
	lengths[1 + count] = length;
	count++;
}

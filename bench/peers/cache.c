#include "cache.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <hiredis/hiredis.h>

struct Cache
{
	redisContext *redis; /* or NULL, and */
	FILE *in, *out;      /* memcached */
};

void
die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

static int
connect_unix(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	if (strlen(path) >= sizeof(address.sun_path))
		die("the path is too long: %s", path);
	strcpy(address.sun_path, path);
	if (fd < 0 || connect(fd, (struct sockaddr *) &address, sizeof(address)) != 0)
		die("no connection to %s", path);
	return fd;
}

Cache *
cache_open(const char *url)
{
	const char *path = strchr(url, ':') + 1;
	Cache *cache = calloc(1, sizeof(Cache));

	if (strncmp(url, "redis:", 6) == 0)
	{
		cache->redis = redisConnectUnix(path);
		if (cache->redis == NULL || cache->redis->err)
			die("no connection to %s", path);
	}
	else
	{
		int fd = connect_unix(path);

		cache->in = fdopen(fd, "r");
		cache->out = fdopen(dup(fd), "w");
	}
	return cache;
}

void
cache_set(Cache *cache, const char *key, const char *value)
{
	if (cache->redis)
		redisAppendCommand(cache->redis, "SET %s %s", key, value);
	else
		fprintf(cache->out, "set %s 0 0 %zu\r\n%s\r\n", key, strlen(value), value);
}

void
cache_get(Cache *cache, const char *key)
{
	if (cache->redis)
		redisAppendCommand(cache->redis, "GET %s", key);
	else
		fprintf(cache->out, "get %s\r\n", key);
}

void
cache_delete(Cache *cache, const char *key)
{
	if (cache->redis)
		redisAppendCommand(cache->redis, "DEL %s", key);
	else
		fprintf(cache->out, "delete %s\r\n", key);
}

static bool
redis_found(redisContext *redis, char *value, size_t size)
{
	redisReply *reply;
	bool found;

	if (redisGetReply(redis, (void **) &reply) != REDIS_OK)
		die("Redis: %s", redis->errstr);
	if (reply->type == REDIS_REPLY_ERROR)
		die("Redis: %s", reply->str);
	found =
		reply->type == REDIS_REPLY_INTEGER ? reply->integer > 0 : reply->type != REDIS_REPLY_NIL;
	if (found && value)
		snprintf(value, size, "%s", reply->str ? reply->str : "");
	freeReplyObject(reply);
	return found;
}

static void
read_line(Cache *cache, char *line, size_t size)
{
	if (fgets(line, size, cache->in) == NULL)
		die("memcached closed the connection");
	line[strcspn(line, "\r\n")] = '\0';
}

static bool
memcached_found(Cache *cache, char *value, size_t size)
{
	char line[256], data[256];

	fflush(cache->out);
	read_line(cache, line, sizeof(line));
	if (strncmp(line, "VALUE ", 6) == 0)
	{
		read_line(cache, data, sizeof(data));
		read_line(cache, line, sizeof(line));
		if (value)
			snprintf(value, size, "%s", data);
		return true;
	}
	if (strcmp(line, "STORED") == 0 || strcmp(line, "DELETED") == 0)
		return true;
	if (strcmp(line, "END") == 0 || strcmp(line, "NOT_FOUND") == 0)
		return false;
	die("memcached: %s", line);
}

bool
cache_found(Cache *cache, char *value, size_t size)
{
	return cache->redis ? redis_found(cache->redis, value, size)
						: memcached_found(cache, value, size);
}

bool
cache_has(Cache *cache, const char *key)
{
	cache_get(cache, key);
	return cache_found(cache, NULL, 0);
}

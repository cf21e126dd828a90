/*
 * redis_pipeline.c: commands on their way: bytes the socket has not taken, handlers not answered.
 *
 * hiredis formats each command, and a copy of it waits here until the socket takes it. The buffer is our own: hiredis's
 * moves all that is left to the front after each write, which for tens of megabytes costs more than sending them.
 *
 * What can fail: out of memory raises, but before hiredis has allocated and before anything of the command was added, so
 * that the stream never holds half a command. What is longer than a buffer can be is refused.
 */
#include "cache_aside.h"
#include "redis/redis.h"
#include "redis/redis_private.h"

#include <hiredis/hiredis.h>

#include "utils/memutils.h"

#define CA_PIPELINE_START 1024
#define CA_PIPELINE_KEEP (1024 * 1024) /* a larger buffer is given back when it is empty */
#define CA_NUMBER_LEN 24               /* the most that type, digits, CR LF can be */

void
ca_redis_pipeline_init(CaPipeline *pipeline, MemoryContext cxt)
{
	MemoryContext old = MemoryContextSwitchTo(cxt);

	initStringInfo(&pipeline->bytes);
	pipeline->sent = 0;
	pipeline->capacity = 64;
	pipeline->ring = palloc(pipeline->capacity * sizeof(CaCommand));
	pipeline->head = 0;
	pipeline->count = 0;
	MemoryContextSwitchTo(old);
}

static void
grow_ring(CaPipeline *pipeline)
{
	int capacity = pipeline->capacity * 2;
	MemoryContext cxt = GetMemoryChunkContext(pipeline->ring);
	CaCommand *ring = MemoryContextAllocHuge(cxt, capacity * sizeof(CaCommand));

	for (int i = 0; i < pipeline->count; i++)
		ring[i] = pipeline->ring[(pipeline->head + i) & (pipeline->capacity - 1)];
	pfree(pipeline->ring);
	pipeline->ring = ring;
	pipeline->capacity = capacity;
	pipeline->head = 0;
}

void
ca_redis_pipeline_expect(CaPipeline *pipeline, CaReplyHandler handler, void *arg)
{
	int tail;

	if (pipeline->count == pipeline->capacity)
		grow_ring(pipeline);
	tail = (pipeline->head + pipeline->count++) & (pipeline->capacity - 1);
	pipeline->ring[tail] = (CaCommand){.handler = handler, .arg = arg};
}

/* At most so many bytes are formatted; more than a buffer can hold: SIZE_MAX */
static Size
formatted_size(int argc, const size_t *argvlen)
{
	Size size = CA_NUMBER_LEN;

	for (int i = 0; i < argc; i++)
	{
		if (argvlen[i] > MaxAllocSize)
			return SIZE_MAX;
		size += argvlen[i] + CA_NUMBER_LEN + 2;
	}
	return size;
}

const char *
ca_redis_pipeline_add(CaPipeline *pipeline, int argc, const char **argv, const size_t *argvlen)
{
	StringInfo bytes = &pipeline->bytes;
	Size need = formatted_size(argc, argvlen);
	sds command = NULL;
	long long len;

	if (need >= MaxAllocSize - bytes->len)
		return "more than 1 GB to send";
	if (pipeline->count == pipeline->capacity)
		grow_ring(pipeline); /* here, so that ca_redis_pipeline_expect has nothing to allocate */
	enlargeStringInfo(bytes, (int) need);
	len = redisFormatSdsCommandArgv(&command, argc, argv, argvlen);
	if (len < 0)
		return "out of memory";
	Assert(len <= (long long) need);
	appendBinaryStringInfo(bytes, command, (int) len);
	redisFreeSdsCommand(command);
	return NULL;
}

CaCommand
ca_redis_pipeline_answered(CaPipeline *pipeline)
{
	CaCommand command = pipeline->ring[pipeline->head];

	Assert(pipeline->count > 0);
	pipeline->head = (pipeline->head + 1) & (pipeline->capacity - 1);
	pipeline->count--;
	return command;
}

Size
ca_redis_pipeline_unsent(const CaPipeline *pipeline)
{
	return pipeline->bytes.len - pipeline->sent;
}

const char *
ca_redis_pipeline_peek(const CaPipeline *pipeline, Size most, Size *len)
{
	*len = Min(most, ca_redis_pipeline_unsent(pipeline));
	return pipeline->bytes.data + pipeline->sent;
}

void
ca_redis_pipeline_taken(CaPipeline *pipeline, Size len)
{
	Assert(len <= ca_redis_pipeline_unsent(pipeline));
	pipeline->sent += len;
}

void
ca_redis_pipeline_clean(CaPipeline *pipeline)
{
	StringInfo bytes = &pipeline->bytes;

	if (ca_redis_pipeline_unsent(pipeline) > 0)
		return;
	if (bytes->maxlen > CA_PIPELINE_KEEP)
	{
		bytes->data = repalloc(bytes->data, CA_PIPELINE_START);
		bytes->maxlen = CA_PIPELINE_START;
	}
	resetStringInfo(bytes);
	pipeline->sent = 0;
}

/*
 * redis_pipeline.c: commands on their way: bytes the socket has not taken, handlers not answered.
 *
 * Commands are formatted straight into the buffer that the socket takes them from: hiredis's formatter
 * would allocate each one, and its buffer move all that is left to the front after each write, which
 * for tens of megabytes costs more than sending them.
 *
 * What can fail: out of memory raises, but before anything of the command was added, so that the
 * stream never holds half a command. What is longer than a buffer can be is refused.
 */
#include "cache_aside.h"
#include "redis/redis.h"
#include "redis/redis_private.h"

#include "utils/memutils.h"

#define CA_PIPELINE_START 1024
#define CA_PIPELINE_KEEP (1024 * 1024) /* a larger buffer is given back when it is empty */
#define CA_NUMBER_LEN 24               /* type, digits, CR LF */

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

/* A type byte, a number, CR LF. The space is there. */
static void
add_number(StringInfo bytes, char type, Size number)
{
	char digits[CA_NUMBER_LEN];
	char *p = digits + sizeof(digits);

	*--p = '\n';
	*--p = '\r';
	do
		*--p = (char) ('0' + number % 10);
	while ((number /= 10) > 0);
	*--p = type;
	appendBinaryStringInfo(bytes, p, (int) (digits + sizeof(digits) - p));
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

bool
ca_redis_pipeline_add(CaPipeline *pipeline, int argc, const char **argv, const size_t *argvlen)
{
	StringInfo bytes = &pipeline->bytes;
	Size need = CA_NUMBER_LEN;

	for (int i = 0; i < argc; i++)
	{
		if (argvlen[i] > MaxAllocSize)
			return false;
		need += argvlen[i] + CA_NUMBER_LEN + 2;
	}
	if (need >= MaxAllocSize - bytes->len)
		return false;
	if (pipeline->count == pipeline->capacity)
		grow_ring(pipeline); /* here, so that ca_redis_pipeline_expect has nothing to allocate */
	enlargeStringInfo(bytes, (int) need);
	add_number(bytes, '*', argc);
	for (int i = 0; i < argc; i++)
	{
		add_number(bytes, '$', argvlen[i]);
		appendBinaryStringInfo(bytes, argv[i], (int) argvlen[i]);
		appendBinaryStringInfo(bytes, "\r\n", 2);
	}
	return true;
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

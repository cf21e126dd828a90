/*
 * audit_entries.c: what Redis holds for the rows that audit() looks at.
 *
 * Questions go out CA_AUDIT_FETCH at a time on the connection that audit() holds. Redis that does not
 * answer is an error. An answer is kept in the memory context of its probe.
 */
#include "cache_aside.h"
#include "keys/keys.h"
#include "redis/redis.h"
#include "reads/audit.h"
#include "reads/reads.h"

#include "utils/memutils.h"

static void
handle_entry(void *arg, const CaReply *reply)
{
	CaProbe *probe = arg;
	const char *bytes;
	Size len;

	if (reply == NULL)
		return;
	probe->found = ca_redis_reply_type(reply) == CA_REPLY_STRING;
	if (!probe->found)
		return;
	bytes = ca_redis_reply_text(reply, &len);
	probe->empty = len == 0;
	probe->found = !probe->empty;
	probe->same_entry = probe->cached.data != NULL && len == probe->cached.len &&
						memcmp(bytes, probe->cached.data, len) == 0;
	if (probe->same_entry)
		return;
	/* A handler must not raise. */
	probe->cached.data = MemoryContextAllocExtended(GetMemoryChunkContext(probe), len + 1,
													MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
	probe->lacks_memory = probe->cached.data == NULL;
	probe->cached.len = 0;
	if (probe->lacks_memory)
		return;
	memcpy(probe->cached.data, bytes, len);
	probe->cached.data[len] = '\0';
	probe->cached.len = len;
}

/* The answer behind an empty one: is it an empty value, or none? */
static void
handle_exists(void *arg, const CaReply *reply)
{
	CaProbe *probe = arg;

	if (reply != NULL && probe->empty && ca_redis_reply_type(reply) == CA_REPLY_INTEGER)
		probe->found = ca_redis_reply_integer(reply) == 1;
}

/* No more than a value may have, and one byte: what is longer would end the connection. */
static void
send_questions(CaRedis *redis, CaProbe *probe)
{
	char last[24];
	const char *value[] = {"GETRANGE", probe->key.data, "0", last};
	size_t value_lens[] = {8, probe->key.len, 1, 0};
	const char *exists[] = {"EXISTS", probe->key.data};
	size_t exists_lens[] = {6, probe->key.len};

	value_lens[3] = snprintf(last, sizeof(last), "%d", CA_MAX_VALUE);
	probe->same_entry = probe->empty = probe->found = false;
	ca_redis_send(redis, lengthof(value), value, value_lens, handle_entry, probe);
	ca_redis_send(redis, lengthof(exists), exists, exists_lens, handle_exists, probe);
}

void
ca_audit_entries_no_answer(void)
{
	ereport(ERROR, (errcode(ERRCODE_CONNECTION_FAILURE),
					errmsg("no answer from Redis at %s: %s", ca_backend_connection_endpoint(),
						   ca_backend_connection_problem()),
					errdetail("Nothing can be said about the cache without it."),
					errhint("Look at cache_aside.status.")));
}

static void
wait_answers(CaRedis *redis)
{
	if (!ca_backend_connection_wait(redis))
		ca_audit_entries_no_answer();
}

void
ca_audit_entries_read(CaRedis *redis, List *probes)
{
	ListCell *cell;
	int sent = 0;

	foreach (cell, probes)
	{
		CaProbe *probe = lfirst(cell);

		if (probe->verdict != NULL)
			continue;
		send_questions(redis, probe);
		if (++sent % CA_AUDIT_FETCH == 0)
			wait_answers(redis);
	}
	wait_answers(redis);
	foreach (cell, probes)
	{
		if (((CaProbe *) lfirst(cell))->lacks_memory)
			ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"),
							errdetail("Failed on the value of a cache entry."),
							errhint("Audit a smaller sample.")));
	}
}

bool
ca_audit_entries_agree(const CaProbe *probe)
{
	CaText value;

	if (probe->expected == NULL)
		return false;
	value.data = ca_prefix_utf8(probe->expected, strlen(probe->expected), &value.len);
	return value.len == probe->cached.len && memcmp(value.data, probe->cached.data, value.len) == 0;
}

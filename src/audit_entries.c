/*
 * audit_entries.c: what Redis holds for the rows that audit() looks at.
 *
 * Questions go out CA_AUDIT_FETCH at a time on the connection that audit() holds. Redis that does not
 * answer is an error. An answer is kept in the memory context of its probe.
 */
#include "audit.h"

#include "utils/memutils.h"

static void
handle_entry(void *arg, const CaReply *reply)
{
	CaProbe *probe = arg;
	const char *bytes;
	Size len;

	if (reply == NULL)
		return;
	probe->found = ca_reply_type(reply) == CA_REPLY_STRING;
	if (!probe->found)
		return;
	bytes = ca_reply_text(reply, &len);
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

void
ca_audit_no_answer(void)
{
	ereport(ERROR, (errcode(ERRCODE_CONNECTION_FAILURE),
					errmsg("no answer from Redis at %s: %s", ca_redis_endpoint(), ca_ask_problem()),
					errdetail("Nothing can be said about the cache without it."),
					errhint("Look at cache_aside.status.")));
}

static void
wait_answers(CaRedis *redis)
{
	if (!ca_ask_wait(redis))
		ca_audit_no_answer();
}

void
ca_audit_read_entries(CaRedis *redis, List *probes)
{
	ListCell *cell;
	int sent = 0;

	foreach (cell, probes)
	{
		CaProbe *probe = lfirst(cell);
		const char *argv[] = {"GET", probe->key.data};
		size_t lens[] = {3, probe->key.len};

		if (probe->verdict != NULL)
			continue;
		probe->same_entry = false;
		ca_redis_send(redis, 2, argv, lens, handle_entry, probe);
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
ca_audit_agrees(const CaProbe *probe)
{
	CaText value;

	if (probe->expected == NULL)
		return false;
	value.data = ca_prefix_utf8(probe->expected, strlen(probe->expected), &value.len);
	return value.len == probe->cached.len && memcmp(value.data, probe->cached.data, value.len) == 0;
}

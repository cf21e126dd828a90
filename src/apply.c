/*
 * apply.c: the one atomic call per batch.
 *
 * Keys and the position that says they are deleted change in one script, so that neither a crash nor
 * a lost connection can leave one without the other. The script first compares the position with
 * the one this worker wrote last: a batch that Redis refused (out of memory, read only, ...) stops
 * every later one already in the pipeline, a Redis that went back in time or was replaced behind an
 * address stops the worker at once, and of two workers only one gets through.
 *
 * UNLINK comes before SET also because Redis, when full, refuses SET but not UNLINK, and lets a
 * script that has begun to write finish: the position moves even then.
 *
 * Sticks hold the LSN of a commit, 16 hexadecimal digits that sort as text; they never go backwards.
 * A stick key of a wrong type is that key's own fault: it is counted and skipped.
 */
#include "worker.h"

static const char script[] =
	"local at = redis.call('get', KEYS[1]) or ''\n"
	"if at ~= ARGV[1] then return redis.error_reply('CACHEASIDE position is \"' .. at .. '\"') "
	"end\n"
	"local sticks, failed = tonumber(ARGV[3]), 0\n"
	"local first = #KEYS - sticks\n"
	"redis.call('unlink', unpack(KEYS, first > 1 and 2 or 1, first))\n"
	"for i = 1, sticks do\n"
	"  local key, lsn, ttl = KEYS[first + i], ARGV[2 + 2 * i], ARGV[3 + 2 * i]\n"
	"  local old = redis.pcall('get', key)\n"
	"  if type(old) == 'table' then failed = failed + 1\n"
	"  elseif not old or old < lsn then redis.call('set', key, lsn, 'px', ttl) end\n"
	"end\n"
	"redis.call('set', KEYS[1], ARGV[2])\n"
	"return failed\n";

static char script_sha[41];

static void
remember_sha(void *arg, const CaReply *reply)
{
	Size len;
	const char *sha;

	script_sha[0] = '\0';
	if (reply == NULL || ca_reply_type(reply) != CA_REPLY_STRING)
		return;
	sha = ca_reply_text(reply, &len);
	if (len == sizeof(script_sha) - 1)
		memcpy(script_sha, sha, len);
}

/* Queues the loading of the script; answers of later commands come after it was loaded. */
void
ca_apply_prepare(CaRedis *redis)
{
	const char *argv[] = {"SCRIPT", "LOAD", script};
	size_t len[] = {6, 4, sizeof(script) - 1};

	ca_redis_send(redis, 3, argv, len, remember_sha, NULL);
}

bool
ca_apply_ready(void)
{
	return script_sha[0] != '\0';
}

/* Arguments under construction; numbers get room of their own. */
typedef struct Args
{
	int n;
	const char *v[CA_BATCH_KEYS + 3 * CA_BATCH_STICKS + 8];
	size_t len[CA_BATCH_KEYS + 3 * CA_BATCH_STICKS + 8];
} Args;

static void
add(Args *args, const char *data, Size len)
{
	args->v[args->n] = data;
	args->len[args->n++] = len;
}

static void
add_text(Args *args, const char *text)
{
	add(args, text, strlen(text));
}

void
ca_apply_send(CaRedis *redis, const CaBatch *batch, const char *expected, CaReplyHandler handler,
			  void *arg)
{
	static Args args; /* too big for a stack frame worth liking */
	static char numbers[CA_BATCH_STICKS][2][24];
	char position[CA_POSITION_TEXT];
	char numkeys[12];
	char numsticks[12];

	args.n = 0;
	ca_position_format(&batch->position, position);
	snprintf(numkeys, sizeof(numkeys), "%d", 1 + batch->nkeys + batch->nsticks);
	snprintf(numsticks, sizeof(numsticks), "%d", batch->nsticks);
	add(&args, "EVALSHA", 7);
	add(&args, script_sha, 40);
	add_text(&args, numkeys);
	add_text(&args, ca_position_key());
	for (int i = 0; i < batch->nkeys; i++)
		add(&args, batch->bytes.data + batch->keys[i].offset, batch->keys[i].len);
	for (int i = 0; i < batch->nsticks; i++)
		add(&args, batch->bytes.data + batch->sticks[i].offset, batch->sticks[i].len);
	add_text(&args, expected);
	add_text(&args, position);
	add_text(&args, numsticks);
	for (int i = 0; i < batch->nsticks; i++)
	{
		snprintf(numbers[i][0], sizeof(numbers[i][0]), "%016" INT64_MODIFIER "X",
				 batch->sticks[i].lsn);
		snprintf(numbers[i][1], sizeof(numbers[i][1]), "%u", batch->sticks[i].ttl);
		add_text(&args, numbers[i][0]);
		add_text(&args, numbers[i][1]);
	}
	ca_redis_send(redis, args.n, args.v, args.len, handler, arg);
}

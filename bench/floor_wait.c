/*
 * floor_wait.c: what a commit costs that waits, with nothing of ours in it. Compiled by commit.pl; not part of the
 * extension.
 *
 *	floor_nap()     a trigger; once the transaction has committed and let go of its locks, the session sleeps 0.1 ms:
 *					one switch away and back, woken by nobody
 *	floor_ask()     ... it sends a command to Redis over a unix socket of its own, and blocks for the answer's first line.
 *					Arguments: the socket, the command, in which %s is the row's first column
 *
 * Both log the record as floor_record() does. What is wrong is a PANIC, after a commit: a benchmark may.
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "replication/message.h"
#include "utils/rel.h"
#include "utils/resowner.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(floor_nap);
PG_FUNCTION_INFO_V1(floor_ask);

static int redis = -1;
static char command[512]; /* to be sent after the commit */
static bool naps;

static void
ask(void)
{
	ssize_t len = strlen(command);
	char answer[256];

	if (write(redis, command, len) != len || (len = read(redis, answer, sizeof(answer))) <= 0 ||
		answer[0] == '-')
		elog(PANIC, "Redis does not answer");
	command[0] = '\0';
}

/* At the end of a transaction, when its locks are released */
static void
after_locks(ResourceReleasePhase phase, bool is_commit, bool is_top_level, void *arg)
{
	if (phase != RESOURCE_RELEASE_AFTER_LOCKS || !is_top_level || !is_commit)
		return;
	if (naps)
		usleep(100);
	naps = false;
	if (command[0] != '\0')
		ask();
}

/* The prefix and its NUL have as many bytes as ours; flags, kind and length of the entry, key. */
static void
log_record(void)
{
	static const char message[1 + 5 + sizeof("account1:123") - 1] = {0};

	LogLogicalMessage("floor_floor_f", message, sizeof(message), true);
}

static void
begin(void)
{
	static bool registered;

	if (!registered)
		RegisterResourceReleaseCallback(after_locks, NULL);
	registered = true;
	log_record();
}

static void
connect_once(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (redis >= 0)
		return;
	strlcpy(address.sun_path, path, sizeof(address.sun_path));
	redis = socket(AF_UNIX, SOCK_STREAM, 0);
	if (redis < 0 || connect(redis, (struct sockaddr *) &address, sizeof(address)) < 0)
		elog(ERROR, "no connection to %s: %m", path);
}

Datum
floor_nap(PG_FUNCTION_ARGS)
{
	begin();
	naps = true;
	return PointerGetDatum(NULL);
}

Datum
floor_ask(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	Trigger *trigger = data->tg_trigger;
	char *column = SPI_getvalue(data->tg_trigtuple, RelationGetDescr(data->tg_relation), 1);
	const char *place = strstr(trigger->tgargs[1], "%s");

	connect_once(trigger->tgargs[0]);
	begin();
	if (place == NULL)
		snprintf(command, sizeof(command), "%s\r\n", trigger->tgargs[1]);
	else
		snprintf(command, sizeof(command), "%.*s%s%s\r\n", (int) (place - trigger->tgargs[1]),
				 trigger->tgargs[1], column, place + 2);
	return PointerGetDatum(NULL);
}

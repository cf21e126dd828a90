/*
 * floor.c: what a trigger costs that does nothing, or nothing but write a record; and a session under
 * callgrind that counts itself. Compiled by cost.pl; not part of the extension.
 *
 *	floor_empty()           a trigger that returns
 *	floor_before()          ... BEFORE the write, the row as it is
 *	floor_record()          one that writes a logical message as long as ours with one short key
 *	count_from_here()       counting begins anew
 *	count_to_here(text)     ... and what was counted is written out under a name
 */
#include "postgres.h"

#include "commands/trigger.h"
#include "fmgr.h"
#include "replication/message.h"
#include "utils/builtins.h"

#include <valgrind/callgrind.h>

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(floor_empty);
PG_FUNCTION_INFO_V1(floor_before);
PG_FUNCTION_INFO_V1(floor_record);
PG_FUNCTION_INFO_V1(count_from_here);
PG_FUNCTION_INFO_V1(count_to_here);

Datum
floor_empty(PG_FUNCTION_ARGS)
{
	return PointerGetDatum(NULL);
}

Datum
floor_before(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(data->tg_event) ? data->tg_newtuple
																   : data->tg_trigtuple);
}

/* The prefix and its NUL have as many bytes as ours; flags, kind and length of the entry, key. */
Datum
floor_record(PG_FUNCTION_ARGS)
{
	static const char payload[1 + 5] = {0};
	char message[sizeof(payload) + sizeof("account1:123") - 1];

	memcpy(message, payload, sizeof(payload));
	memcpy(message + sizeof(payload), "account1:123", sizeof(message) - sizeof(payload));
	LogLogicalMessage("floor_floor_f", message, sizeof(message), true);
	return PointerGetDatum(NULL);
}

Datum
count_from_here(PG_FUNCTION_ARGS)
{
	CALLGRIND_START_INSTRUMENTATION;
	CALLGRIND_ZERO_STATS;
	PG_RETURN_VOID();
}

Datum
count_to_here(PG_FUNCTION_ARGS)
{
	char *name = text_to_cstring(PG_GETARG_TEXT_PP(0));

	CALLGRIND_DUMP_STATS_AT(name);
	CALLGRIND_STOP_INSTRUMENTATION;
	PG_RETURN_VOID();
}

/*
 * plain_get.c: what a GET costs a backend at the least, over one connection that it keeps. Compiled by get.pl; not part
 * of the extension.
 *
 *	plain_get_connect(text)     to the unix socket
 *	plain_get(text)             blocks in read(): cannot be cancelled, and knows no time-out
 *	plain_get_waiting(text)     waits as a backend has to: for the socket, its latch and the death of the postmaster
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#include <hiredis/hiredis.h>
#include <sys/socket.h>

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(plain_get_connect);
PG_FUNCTION_INFO_V1(plain_get);
PG_FUNCTION_INFO_V1(plain_get_waiting);

static redisContext *context;
static WaitEventSet *set;

Datum
plain_get_connect(PG_FUNCTION_ARGS)
{
	context = redisConnectUnix(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	if (context == NULL || context->err)
		elog(ERROR, "not connected");
#if PG_VERSION_NUM >= 170000
	set = CreateWaitEventSet(NULL, 3);
#else
	set = CreateWaitEventSet(TopMemoryContext, 3);
#endif
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_SOCKET_READABLE, context->fd, NULL, NULL);
	PG_RETURN_VOID();
}

static Datum
to_text(FunctionCallInfo fcinfo, redisReply *reply)
{
	text *result = NULL;

	if (reply == NULL || reply->type == REDIS_REPLY_ERROR)
		elog(ERROR, "no answer");
	if (reply->type == REDIS_REPLY_STRING)
		result = cstring_to_text_with_len(reply->str, (int) reply->len);
	freeReplyObject(reply);
	fcinfo->isnull = result == NULL;
	return PointerGetDatum(result);
}

Datum
plain_get(PG_FUNCTION_ARGS)
{
	text *key = PG_GETARG_TEXT_PP(0);
	const char *argv[] = {"GET", VARDATA_ANY(key)};
	size_t lens[] = {3, VARSIZE_ANY_EXHDR(key)};

	return to_text(fcinfo, redisCommandArgv(context, 2, argv, lens));
}

Datum
plain_get_waiting(PG_FUNCTION_ARGS)
{
	text *key = PG_GETARG_TEXT_PP(0);
	const char *argv[] = {"GET", VARDATA_ANY(key)};
	size_t lens[] = {3, VARSIZE_ANY_EXHDR(key)};
	char *command;
	int len = redisFormatCommandArgv(&command, 2, argv, lens);
	void *reply = NULL;

	if (send(context->fd, command, len, 0) != len)
		elog(ERROR, "not sent");
	free(command);
	while (reply == NULL)
	{
		char bytes[16384];
		WaitEvent event;
		ssize_t n;

		(void) WaitEventSetWait(set, 1000, &event, 1, PG_WAIT_EXTENSION);
		CHECK_FOR_INTERRUPTS();
		n = recv(context->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
		if (n > 0)
			redisReaderFeed(context->reader, bytes, n);
		if (redisReaderGetReply(context->reader, &reply) != REDIS_OK)
			elog(ERROR, "bad reply");
	}
	return to_text(fcinfo, reply);
}

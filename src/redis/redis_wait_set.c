/*
 * redis_wait_set.c: what a backend waits with, for one connection: its sockets, the latch, the postmaster's death.
 *
 * Made once for each set of sockets, which their generation tells, for making one costs more than waiting. It ends
 * before the sockets do (redis_connection.c), by an ERROR too.
 */
#include "cache_aside.h"
#include "common/compat.h"
#include "redis/redis_connection.h"

#include "miscadmin.h"
#include "storage/latch.h"

/* Places in the set, behind the death of the postmaster */
#define LATCH 1
#define FIRST_SOCKET 2

void
ca_redis_wait_set_make(CaWaitSet *waits, MemoryContext cxt, const pgsocket *sockets, int n,
					   uint32 generation)
{
	if (waits->set != NULL && waits->generation == generation)
		return;
	ca_redis_wait_set_end(waits);
	waits->set = ca_create_wait_set(cxt, n + FIRST_SOCKET);
	waits->generation = generation;
	waits->nsockets = n;
	AddWaitEventToSet(waits->set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(waits->set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	for (int i = 0; i < n; i++)
		AddWaitEventToSet(waits->set, WL_SOCKET_READABLE, sockets[i], NULL, NULL);
}

void
ca_redis_wait_set_wait(CaWaitSet *waits, uint32 events, long timeout, uint32 wait_event)
{
	WaitEvent event;

	ModifyWaitEvent(waits->set, LATCH, WL_LATCH_SET, MyLatch);
	for (int i = 0; i < waits->nsockets; i++)
		ModifyWaitEvent(waits->set, FIRST_SOCKET + i, events, NULL);
	(void) WaitEventSetWait(waits->set, timeout, &event, 1, wait_event);
}

void
ca_redis_wait_set_end(CaWaitSet *waits)
{
	if (waits->set != NULL)
		FreeWaitEventSet(waits->set);
	waits->set = NULL;
}

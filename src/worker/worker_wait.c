/*
 * worker_wait.c: the worker waits: for any of its connections, for a program it runs, for its latch.
 *
 * A set for each kind of waiting, over all connections; made anew when one of them came, went or has other
 * sockets, which its generation tells (a descriptor may come back with the same number). What a connection
 * waits for, reading or writing, is set each time. The pipes of a program (child.c) are in the set with the latch, which
 * tells its end.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "common/compat.h"
#include "redis/redis.h"
#include "worker/worker_wait.h"

#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#define CA_FIRST_SOCKET 1 /* behind the death of the postmaster */

static WaitEventSet *sets[CA_WAIT_KINDS];
static int nsockets[CA_MOST_CONNECTIONS]; /* of each; they stand in the sets one behind the other */
static uint32 generations[CA_MOST_CONNECTIONS];
static int ngenerations;
static CaChildPipes piped; /* which of them are in a set */

static void
free_sets(void)
{
	for (int i = 0; i < CA_WAIT_KINDS; i++)
	{
		if (sets[i])
			FreeWaitEventSet(sets[i]);
		sets[i] = NULL;
	}
}

static bool
are_current(CaRedis *const *connections, int n, const CaChildPipes *pipes)
{
	if (sets[0] == NULL || n != ngenerations || piped.n != pipes->n ||
		piped.generation != pipes->generation)
		return false;
	for (int i = 0; i < n; i++)
		if (generations[i] != ca_redis_generation(connections[i]))
			return false;
	return true;
}

/* Sockets have the same place in each set that has them: from CA_FIRST_SOCKET on. */
static void
add_sockets(WaitEventSet *set, CaRedis *const *connections, int n)
{
	for (int i = 0; i < n; i++)
	{
		pgsocket sockets[CA_MOST_SOCKETS];

		nsockets[i] = ca_redis_sockets(connections[i], sockets);
		for (int j = 0; j < nsockets[i]; j++)
			AddWaitEventToSet(set, WL_SOCKET_READABLE, sockets[j], NULL, NULL);
	}
}

static int
count_sockets(CaRedis *const *connections, int n)
{
	pgsocket ignored[CA_MOST_SOCKETS];
	int count = 0;

	for (int i = 0; i < n; i++)
		count += ca_redis_sockets(connections[i], ignored);
	return count;
}

static void
make_sets(CaRedis *const *connections, int n, const CaChildPipes *pipes)
{
	int room = count_sockets(connections, n) + pipes->n + 2;

	free_sets();
	for (int i = 0; i < CA_WAIT_KINDS; i++)
	{
		sets[i] = ca_create_wait_set(TopMemoryContext, room);
		AddWaitEventToSet(sets[i], WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
		add_sockets(sets[i], connections, n);
		if (i == CA_WAIT_ANYTHING)
			AddWaitEventToSet(sets[i], WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
		for (int p = 0; p < pipes->n && i == CA_WAIT_ANYTHING; p++)
			AddWaitEventToSet(sets[i], WL_SOCKET_READABLE, pipes->fds[p], NULL, NULL);
	}
	piped = *pipes;
	ngenerations = n;
	for (int i = 0; i < n; i++)
		generations[i] = ca_redis_generation(connections[i]);
}

/* Until something happens or `timeout` ms have passed (-1: for ever). At most CA_MOST_CONNECTIONS. */
void
ca_worker_wait_for(CaWaitKind kind, CaRedis *const *connections, int n, const CaChildPipes *pipes,
				   long timeout, uint32 name)
{
	WaitEvent event;
	int place = CA_FIRST_SOCKET;

	Assert(n <= CA_MOST_CONNECTIONS);
	if (!are_current(connections, n, pipes))
		make_sets(connections, n, pipes);
	for (int i = 0; i < n; i++)
		for (int j = 0; j < nsockets[i]; j++)
			ModifyWaitEvent(sets[kind], place++, ca_redis_events(connections[i]), NULL);
	WaitEventSetWait(sets[kind], timeout, &event, 1, name);
	if (kind == CA_WAIT_ANYTHING)
		ResetLatch(MyLatch);
}

/*
 * wait.c: the worker waits for any number of connections (worker_wait.c), which come, go and get other sockets, and
 * for the pipes of a program; descriptors come back.
 *
 * Input: bytes, each of which changes one connection or waits. The sets of the server are played here.
 *
 * Holds: in each wait the set has the sockets that there are, each with what its connection waits for, and the
 * latch if that may end it, and nothing else; a set is given up before another takes its place. Bites:
 * are_current() without the comparison of generations, or of numbers; `place++` per connection, not per socket;
 * ModifyWaitEvent() of the first connection, or socket, only; FreeWaitEventSet() left out; the latch in each set; the
 * pipes in each set, without the comparison of their generation, or of their number.
 */
#include "fuzz.h"

#include "redis/redis.h"
#include "worker/worker_wait.h"

#include "miscadmin.h"
#include "storage/latch.h"

#define MOST 5
#define DESCRIPTORS 10
#define SOCKETS 3 /* of one connection */
#define PIPES 2

struct CaRedis
{
	pgsocket sockets[CA_MOST_SOCKETS];
	int nsockets;
	uint32 generation;
	uint32 events;
};

struct WaitEventSet
{
	int room;
	int n;
	WaitEvent events[MOST * SOCKETS + PIPES + 2];
};

struct Latch *MyLatch;

static struct CaRedis redis[MOST];
static CaRedis *connections[MOST];
static int nconnections;
static CaChildPipes pipes;
static uint32 generation;
static int nsets;
static CaWaitKind expected;
static bool reset;

int
ca_redis_sockets(const CaRedis *connection, pgsocket *sockets)
{
	memcpy(sockets, connection->sockets, connection->nsockets * sizeof(pgsocket));
	return connection->nsockets;
}

uint32
ca_redis_generation(const CaRedis *connection)
{
	return connection->generation;
}

uint32
ca_redis_events(const CaRedis *connection)
{
	return connection->events;
}

/* ---- the server's sets ---- */

#if PG_VERSION_NUM >= 170000
WaitEventSet *
CreateWaitEventSet(ResourceOwner owner, int nevents)
#else
WaitEventSet *
CreateWaitEventSet(MemoryContext context, int nevents)
#endif
{
	WaitEventSet *set = malloc(sizeof(WaitEventSet));

	FUZZ_CHECK(nevents <= MOST * SOCKETS + PIPES + 2 && nsets < CA_WAIT_KINDS);
	memset(set, 0, sizeof(*set));
	set->room = nevents;
	nsets++;
	return set;
}

void
FreeWaitEventSet(WaitEventSet *set)
{
	free(set);
	nsets--;
}

int
AddWaitEventToSet(WaitEventSet *set, uint32 events, pgsocket fd, Latch *latch, void *user_data)
{
	FUZZ_CHECK(set->n < set->room);
	set->events[set->n].events = events;
	set->events[set->n].fd = fd;
	return set->n++;
}

void
ModifyWaitEvent(WaitEventSet *set, int pos, uint32 events, Latch *latch)
{
	FUZZ_CHECK(pos >= 0 && pos < set->n && set->events[pos].fd != PGINVALID_SOCKET);
	set->events[pos].events = events;
}

static int
count(const WaitEventSet *set, uint32 events, pgsocket fd)
{
	int n = 0;

	for (int i = 0; i < set->n; i++)
		n += set->events[i].events == events && set->events[i].fd == fd;
	return n;
}

int
WaitEventSetWait(WaitEventSet *set, long timeout, WaitEvent *occurred, int nevents, uint32 info)
{
	int sockets = 0;

	for (int i = 0; i < nconnections; i++)
		for (int j = 0; j < connections[i]->nsockets; j++)
		{
			FUZZ_CHECK(count(set, connections[i]->events, connections[i]->sockets[j]) == 1);
			sockets++;
		}
	for (int i = 0; i < pipes.n && expected == CA_WAIT_ANYTHING; i++)
	{
		FUZZ_CHECK(count(set, WL_SOCKET_READABLE, pipes.fds[i]) == 1);
		sockets++;
	}
	FUZZ_CHECK(count(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET) == 1);
	FUZZ_CHECK(count(set, WL_LATCH_SET, PGINVALID_SOCKET) == (expected == CA_WAIT_ANYTHING));
	FUZZ_CHECK(set->n == sockets + 1 + (expected == CA_WAIT_ANYTHING));
	FUZZ_CHECK(nsets == CA_WAIT_KINDS);
	return 0;
}

void
ResetLatch(Latch *latch)
{
	reset = true;
}

/* ---- the story ---- */

/* One that nobody has; each is new with another generation. */
static pgsocket
free_descriptor(uint8 from)
{
	for (int i = 0; i < DESCRIPTORS; i++)
	{
		pgsocket fd = (from + i) % DESCRIPTORS;
		bool used = false;

		for (int j = 0; j < nconnections; j++)
			for (int k = 0; k < connections[j]->nsockets; k++)
				used |= connections[j]->sockets[k] == fd;
		for (int j = 0; j < pipes.n; j++)
			used |= pipes.fds[j] == fd;
		if (!used)
			return fd;
	}
	return PGINVALID_SOCKET;
}

static void
dial(CaRedis *connection, uint8 how)
{
	connection->nsockets = 0;
	for (int i = 0; i < how % (SOCKETS + 1); i++)
	{
		pgsocket fd = free_descriptor(how + i);

		if (fd != PGINVALID_SOCKET)
			connection->sockets[connection->nsockets++] = fd;
	}
	connection->generation = ++generation;
	connection->events = WL_SOCKET_READABLE;
}

static void
come(uint8 how)
{
	for (int i = 0; i < MOST; i++)
	{
		bool used = false;

		for (int j = 0; j < nconnections; j++)
			used |= connections[j] == &redis[i];
		if (used)
			continue;
		redis[i].nsockets = 0;
		connections[nconnections++] = &redis[i];
		dial(&redis[i], how);
		return;
	}
}

static void
go(int i)
{
	memmove(&connections[i], &connections[i + 1], (nconnections - i - 1) * sizeof(CaRedis *));
	nconnections--;
}

/* A program writes into so many pipes; or it is not listened to for a while, with the same generation. */
static void
pipe_up(uint8 how)
{
	pipes.n = 0;
	if (how & 0x10)
		return;
	pipes.generation++;
	for (int i = 0; i < how % (PIPES + 1); i++)
	{
		pgsocket fd = free_descriptor(how >> 2);

		if (fd != PGINVALID_SOCKET)
			pipes.fds[pipes.n++] = fd;
	}
}

static void
wait_once(uint8 how)
{
	expected = how % CA_WAIT_KINDS;
	reset = false;
	ca_worker_wait_for(expected, connections, nconnections, &pipes, -1, 0);
	FUZZ_CHECK(reset == (expected == CA_WAIT_ANYTHING));
}

static void
live(void *arg)
{
	FuzzInput *input = arg;

	nconnections = 0;
	pipes.n = 0;
	pipes.generation++;
	while (input->at < input->end)
	{
		uint8 what = fuzz_byte(input);
		uint8 how = fuzz_byte(input);
		CaRedis *one = nconnections == 0 ? NULL : connections[how % nconnections];

		if (what % 6 == 0)
			come(how);
		else if (what % 6 == 1)
			wait_once(how);
		else if (what % 6 == 5)
			pipe_up(how);
		else if (one == NULL)
			continue;
		else if (what % 6 == 2)
			go(how % nconnections);
		else if (what % 6 == 3)
			dial(one, what);
		else
			one->events = WL_SOCKET_READABLE | (how & 0x40 ? WL_SOCKET_WRITEABLE : 0);
	}
	wait_once(0);
}

const FuzzTarget fuzz_target = {live, .raises = false};

/*
 * dial.c: from an endpoint to a connected socket, without blocking.
 *
 * Resolves the host (resolve.c), then tries its addresses as RFC 8305 has it: the next one begins after CA_NEXT_AFTER_MS, or as soon
 * as one has failed, while those before go on; the first that is connected is taken, and the others are closed. So an
 * address that swallows what is sent to it costs a quarter of a second, not the time-out.
 *
 * What can fail: everything; the state is then CA_DIAL_FAILED and `reason` says why, in words of the address that failed
 * last. The whole has a deadline (judged by the caller); when it is short, the next address begins earlier, so that each
 * has its turn.
 *
 * File descriptors are counted with AcquireExternalFD, as long as the socket is open; there may be one for each
 * address. Nothing is allocated here; no state but the counter of generations, which is private to the process.
 */
#include "cache_aside.h"
#include "redis/redis_private.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include "storage/fd.h"

#define CA_RESOLVE_POLL_MS 5
#define CA_NEXT_AFTER_MS 250 /* RFC 8305, section 8 */

static uint32 generations = 0;

int64
ca_dial_clock(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void
drop_socket(CaDial *dial, int *fd)
{
	if (*fd < 0)
		return;
	close(*fd);
	*fd = -1;
	dial->generation = ++generations;
	ReleaseExternalFD();
}

static CaDialState
fail(CaDial *dial, const char *what, const char *why)
{
	snprintf(dial->reason, sizeof(dial->reason), "%s: %s", what, why);
	ca_dial_end(dial);
	return CA_DIAL_FAILED;
}

static void
set_tcp_options(int fd)
{
	int on = 1;

	(void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	/* finds out, while nothing is asked, that the other machine is gone */
	(void) setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
#if defined(TCP_KEEPIDLE) && defined(TCP_KEEPINTVL)
	on = 15;
	(void) setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &on, sizeof(on));
	(void) setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &on, sizeof(on));
#endif
}

/* True: connected or on the way. Otherwise errno says why not. */
static bool
begin_address(CaDial *dial, const CaAddress *address, int *fd)
{
	int family = address->addr.ss_family;
	int saved;

	if (!AcquireExternalFD())
		return false;
	*fd = socket(family, SOCK_STREAM, 0);
	if (*fd < 0)
	{
		saved = errno;
		ReleaseExternalFD();
		errno = saved;
		return false;
	}
	dial->generation = ++generations;
	if (pg_set_noblock(*fd) && fcntl(*fd, F_SETFD, FD_CLOEXEC) == 0)
	{
		if (family != AF_UNIX)
			set_tcp_options(*fd);
		if (connect(*fd, (const struct sockaddr *) &address->addr, address->len) == 0 ||
			errno == EINPROGRESS || errno == EINTR)
			return true;
	}
	saved = errno;
	drop_socket(dial, fd);
	errno = saved;
	return false;
}

static bool
is_any_under_way(const CaDial *dial)
{
	for (int i = 0; i < dial->nbegun; i++)
		if (dial->attempts[i] >= 0)
			return true;
	return false;
}

/* The next one that can be begun; `error` is that of an address before. */
static CaDialState
begin_next(CaDial *dial, int error)
{
	while (dial->nbegun < dial->naddresses)
	{
		int left = dial->naddresses - dial->nbegun;
		int64 now = ca_dial_clock();
		int *fd = &dial->attempts[dial->nbegun];
		bool begun = begin_address(dial, &dial->addresses[dial->nbegun++], fd);

		dial->next_at = now + Min(CA_NEXT_AFTER_MS, Max(dial->deadline - now, 0) / left);
		if (begun)
			return CA_DIAL_UNDER_WAY;
		error = errno;
	}
	if (is_any_under_way(dial))
		return CA_DIAL_UNDER_WAY;
	return fail(dial, "could not connect", strerror(error));
}

static CaDialState
advance_lookup(CaDial *dial)
{
	const char *reason = NULL;
	int n = ca_resolve_poll(dial->lookup, dial->addresses, &reason);

	if (n < 0)
		return CA_DIAL_UNDER_WAY;
	ca_resolve_end(dial->lookup);
	dial->lookup = NULL;
	dial->naddresses = n;
	if (n == 0)
		return fail(dial, "could not resolve the host name", reason);
	return begin_next(dial, 0);
}

/* Is the socket connected? 0: yes; EINPROGRESS: not yet; otherwise why not */
static int
look_at(int fd)
{
	struct pollfd pfd = {.fd = fd, .events = POLLOUT};
	int error = 0;
	socklen_t len = sizeof(error);

	if (poll(&pfd, 1, 0) <= 0)
		return EINPROGRESS;
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 ? error : errno;
}

/* Its socket is taken out first, so that it is not closed with the rest. */
static CaDialState
win(CaDial *dial, int *fd)
{
	dial->fd = *fd;
	*fd = -1;
	dial->generation = ++generations;
	for (int i = 0; i < dial->nbegun; i++)
		drop_socket(dial, &dial->attempts[i]);
	return CA_DIAL_CONNECTED;
}

/* Of several that are connected by now the one that began first is taken. */
static CaDialState
advance_connect(CaDial *dial)
{
	int last_error = 0;

	for (int i = 0; i < dial->nbegun; i++)
	{
		int *fd = &dial->attempts[i];
		int error = *fd < 0 ? EINPROGRESS : look_at(*fd);

		if (error == 0)
			return win(dial, fd);
		if (error == EINPROGRESS)
			continue;
		drop_socket(dial, fd);
		last_error = error;
	}
	if (last_error != 0 || ca_dial_clock() >= dial->next_at)
		return begin_next(dial, last_error);
	return CA_DIAL_UNDER_WAY;
}

static void
set_unix_address(CaDial *dial, const char *path)
{
	struct sockaddr_un *addr = (struct sockaddr_un *) &dial->addresses[0].addr;

	memset(addr, 0, sizeof(*addr));
	addr->sun_family = AF_UNIX;
	strlcpy(addr->sun_path, path, sizeof(addr->sun_path));
	dial->addresses[0].len = sizeof(*addr);
	dial->naddresses = 1;
}

void
ca_dial_init(CaDial *dial)
{
	memset(dial, 0, sizeof(*dial));
	dial->fd = -1;
	for (int i = 0; i < CA_MAX_ADDRESSES; i++)
		dial->attempts[i] = -1;
	dial->generation = ++generations;
}

CaDialState
ca_dial_begin(CaDial *dial, const CaRedisAddress *address, int64 deadline)
{
	const CaRedisHost *host = &address->hosts[0];
	const char *reason = NULL;

	dial->deadline = deadline;
	if (address->path[0])
		set_unix_address(dial, address->path);
	else if (address->nhosts > 0)
		dial->naddresses = ca_resolve_literal(host->name, host->port, dial->addresses);
	else
		return fail(dial, "could not connect", "no Redis is named");
	if (dial->naddresses > 0)
		return begin_next(dial, 0);
	dial->lookup = ca_resolve_begin(host->name, host->port, &reason);
	if (dial->lookup == NULL)
		return fail(dial, "could not resolve the host name", reason);
	return CA_DIAL_UNDER_WAY;
}

CaDialState
ca_dial_advance(CaDial *dial)
{
	return dial->lookup ? advance_lookup(dial) : advance_connect(dial);
}

int64
ca_dial_next(const CaDial *dial)
{
	if (dial->lookup)
		return ca_dial_clock() + CA_RESOLVE_POLL_MS;
	return dial->nbegun < dial->naddresses ? dial->next_at : dial->deadline;
}

int
ca_dial_sockets(const CaDial *dial, pgsocket *sockets)
{
	int n = 0;

	if (dial->fd >= 0)
		sockets[n++] = dial->fd;
	for (int i = 0; i < dial->nbegun; i++)
		if (dial->attempts[i] >= 0)
			sockets[n++] = dial->attempts[i];
	return n;
}

const char *
ca_dial_doing(const CaDial *dial)
{
	return dial->lookup ? "resolving the host name" : "connecting";
}

void
ca_dial_end(CaDial *dial)
{
	drop_socket(dial, &dial->fd);
	for (int i = 0; i < dial->nbegun; i++)
		drop_socket(dial, &dial->attempts[i]);
	ca_resolve_end(dial->lookup);
	dial->lookup = NULL;
}

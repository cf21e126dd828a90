/*
 * dial.c: from an endpoint to a connected socket, without blocking.
 *
 * Resolves the host (resolve.c), then tries its addresses in order until one accepts.
 *
 * What can fail: everything; the state is then CA_DIAL_FAILED and `reason` says why, in words of
 * the last address tried. The whole has a deadline (judged by the caller); within it each address
 * gets an equal share of what is left, so that one that never answers does not use up the time of
 * the next.
 *
 * File descriptors are counted with AcquireExternalFD, as long as the socket is open. Nothing is
 * allocated here; no state but the counter of generations, which is private to the process.
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

static uint32 generations = 0;

int64
ca_dial_clock(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void
drop_socket(CaDial *dial)
{
	if (dial->fd < 0)
		return;
	close(dial->fd);
	dial->fd = -1;
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
begin_address(CaDial *dial, const CaAddress *address)
{
	int family = address->addr.ss_family;
	int saved;

	if (!AcquireExternalFD())
		return false;
	dial->fd = socket(family, SOCK_STREAM, 0);
	if (dial->fd < 0)
	{
		saved = errno;
		ReleaseExternalFD();
		errno = saved;
		return false;
	}
	dial->generation = ++generations;
	if (pg_set_noblock(dial->fd) && fcntl(dial->fd, F_SETFD, FD_CLOEXEC) == 0)
	{
		if (family != AF_UNIX)
			set_tcp_options(dial->fd);
		if (connect(dial->fd, (const struct sockaddr *) &address->addr, address->len) == 0 ||
			errno == EINPROGRESS || errno == EINTR)
			return true;
	}
	saved = errno;
	drop_socket(dial);
	errno = saved;
	return false;
}

/* `error` is that of the address before. */
static CaDialState
try_next_address(CaDial *dial, int error)
{
	while (dial->next_address < dial->naddresses)
	{
		int left = dial->naddresses - dial->next_address;
		int64 now = ca_dial_clock();

		dial->address_deadline = now + Max(dial->deadline - now, 0) / left;
		if (begin_address(dial, &dial->addresses[dial->next_address++]))
			return CA_DIAL_UNDER_WAY;
		error = errno;
	}
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
	return try_next_address(dial, 0);
}

static CaDialState
advance_connect(CaDial *dial)
{
	struct pollfd pfd = {.fd = dial->fd, .events = POLLOUT};
	int error = 0;
	socklen_t len = sizeof(error);

	if (poll(&pfd, 1, 0) <= 0)
	{
		if (dial->next_address == dial->naddresses || ca_dial_clock() < dial->address_deadline)
			return CA_DIAL_UNDER_WAY;
		error = ETIMEDOUT;
	}
	else if (getsockopt(dial->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
		error = errno;
	if (error == 0)
		return CA_DIAL_CONNECTED;
	drop_socket(dial);
	return try_next_address(dial, error);
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
		return try_next_address(dial, 0);
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
	return dial->next_address < dial->naddresses ? dial->address_deadline : dial->deadline;
}

const char *
ca_dial_doing(const CaDial *dial)
{
	return dial->lookup ? "resolving the host name" : "connecting";
}

void
ca_dial_end(CaDial *dial)
{
	drop_socket(dial);
	ca_resolve_end(dial->lookup);
	dial->lookup = NULL;
}

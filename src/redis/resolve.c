/*
 * resolve.c: host names to addresses without ever blocking the process that asks.
 *
 * Literals are converted on the spot. Names go to getaddrinfo_a of glibc, whose helper thread calls
 * getaddrinfo for us; the thread blocks all signals and touches nothing of PostgreSQL, so that
 * latches, interrupts and memory contexts stay the business of one thread. Where that function does
 * not exist only literals and "localhost" are accepted.
 *
 * Input: host and port. Output: at most CA_MAX_ADDRESSES addresses. What
 * can fail: the name does not exist, the resolver answers late or never. The caller has the
 * deadline; when it gives up, the request may be in the hands of the helper thread, which writes
 * into it when it is done. So a request is malloc'd, belongs to this file, and is freed only when
 * the resolver has let go of it. One that was given up stays in the list, and the next connection
 * to the same name takes it over: a resolver that always needs longer than connect_timeout still
 * gives its answer in the end, and at most CA_MAX_LOOKUPS requests exist at any time.
 *
 * Concurrency: the list is private to the process and used by its main thread only. After a fork
 * nothing of it is used: a process that resolves names forks only to execute another program (child.c).
 */
#include "cache_aside.h"
#include "redis/redis_private.h"

#include <netdb.h>
#include <time.h>

#define CA_MAX_LOOKUPS 4
#define CA_LOOKUP_USEFUL_S 60 /* an answer nobody took is too old to be used after this */

/* The next one that is IPv6, or that is not, from there on */
static const struct addrinfo *
find_family(const struct addrinfo *list, bool ipv6)
{
	while (list && ((list->ai_family == AF_INET6) != ipv6 ||
					list->ai_addrlen > sizeof(((CaAddress *) 0)->addr)))
		list = list->ai_next;
	return list;
}

/*
 * IPv6 first, then in turn, each family in the resolver's order: if one of them leads nowhere from here,
 * only every other attempt is in vain.
 */
static int
copy_addresses(const struct addrinfo *list, CaAddress *addresses)
{
	const struct addrinfo *next[] = {find_family(list, false), find_family(list, true)};
	bool ipv6 = true;
	int n = 0;

	while (n < CA_MAX_ADDRESSES && (next[0] || next[1]))
	{
		const struct addrinfo *taken = next[ipv6];

		if (taken)
		{
			memcpy(&addresses[n].addr, taken->ai_addr, taken->ai_addrlen);
			addresses[n++].len = taken->ai_addrlen;
			next[ipv6] = find_family(taken->ai_next, ipv6);
		}
		ipv6 = !ipv6;
	}
	return n;
}

/* AI_NUMERICHOST never asks a resolver. */
static int
convert_literal(const char *host, int port, CaAddress *addresses)
{
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
							 .ai_socktype = SOCK_STREAM};
	struct addrinfo *list = NULL;
	char service[12];
	int n;

	snprintf(service, sizeof(service), "%d", port);
	if (getaddrinfo(host, service, &hints, &list) != 0)
		return 0;
	n = copy_addresses(list, addresses);
	freeaddrinfo(list);
	return n;
}

#ifdef __GLIBC__

struct CaLookup
{
	struct gaicb request; /* ar_result belongs to us once the request is done */
	struct addrinfo hints;
	char host[CA_REDIS_MAX_HOST];
	char service[12];
	bool wanted; /* a connection is waiting for it */
	time_t begun;
	CaLookup *next;
};

static CaLookup *lookups = NULL;

static bool
is_done(CaLookup *lookup)
{
	return gai_error(&lookup->request) != EAI_INPROGRESS;
}

/* Only when done. */
static void
forget(CaLookup *lookup)
{
	CaLookup **link = &lookups;

	while (*link != lookup)
		link = &(*link)->next;
	*link = lookup->next;
	if (lookup->request.ar_result)
		freeaddrinfo(lookup->request.ar_result);
	free(lookup);
}

/* An unwanted request for this very name, if its answer is not too old; counts the others. */
static CaLookup *
adopt(const char *host, const char *service, int *count)
{
	CaLookup *next;
	CaLookup *found = NULL;
	time_t now = time(NULL);

	*count = 0;
	for (CaLookup *lookup = lookups; lookup; lookup = next)
	{
		next = lookup->next;
		if (!lookup->wanted && is_done(lookup) &&
			(now - lookup->begun > CA_LOOKUP_USEFUL_S || lookup->request.ar_result == NULL))
		{
			forget(lookup);
			continue;
		}
		if (!lookup->wanted && strcmp(lookup->host, host) == 0 &&
			strcmp(lookup->service, service) == 0)
			found = lookup;
		(*count)++;
	}
	return found;
}

int
ca_resolve_literal(const char *host, int port, CaAddress *addresses)
{
	return convert_literal(host, port, addresses);
}

CaLookup *
ca_resolve_begin(const char *host, int port, const char **reason)
{
	char service[12];
	int count;
	int rc;
	CaLookup *lookup;
	struct gaicb *list[1];

	snprintf(service, sizeof(service), "%d", port);
	lookup = adopt(host, service, &count);
	if (lookup)
	{
		lookup->wanted = true;
		return lookup;
	}
	*reason = "earlier look-ups have not ended yet";
	if (count >= CA_MAX_LOOKUPS)
		return NULL;
	*reason = "out of memory";
	lookup = calloc(1, sizeof(CaLookup));
	if (lookup == NULL)
		return NULL;
	strlcpy(lookup->host, host, sizeof(lookup->host));
	strlcpy(lookup->service, service, sizeof(lookup->service));
	lookup->hints.ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV;
	lookup->hints.ai_socktype = SOCK_STREAM;
	lookup->request.ar_name = lookup->host;
	lookup->request.ar_service = lookup->service;
	lookup->request.ar_request = &lookup->hints;
	lookup->wanted = true;
	lookup->begun = time(NULL);
	list[0] = &lookup->request;
	rc = getaddrinfo_a(GAI_NOWAIT, list, 1, NULL);
	if (rc != 0)
	{
		*reason = gai_strerror(rc);
		free(lookup);
		return NULL;
	}
	lookup->next = lookups;
	lookups = lookup;
	return lookup;
}

int
ca_resolve_poll(CaLookup *lookup, CaAddress *addresses, const char **reason)
{
	int rc = gai_error(&lookup->request);
	int n;

	if (rc == EAI_INPROGRESS)
		return -1;
	*reason = rc == 0 ? "the name has no usable address" : gai_strerror(rc);
	if (rc != 0)
		return 0;
	n = copy_addresses(lookup->request.ar_result, addresses);
	return n;
}

void
ca_resolve_end(CaLookup *lookup)
{
	if (lookup == NULL)
		return;
	lookup->wanted = false;
	/* A used answer is not kept; one still queued is taken back, one under way stays in the list. */
	if (is_done(lookup) || gai_cancel(&lookup->request) != EAI_NOTCANCELED)
		forget(lookup);
}

#else

int
ca_resolve_literal(const char *host, int port, CaAddress *addresses)
{
	if (strcmp(host, "localhost") != 0)
		return convert_literal(host, port, addresses);
	if (convert_literal("127.0.0.1", port, addresses) != 1)
		return 0;
	return 1 + convert_literal("::1", port, addresses + 1);
}

CaLookup *
ca_resolve_begin(const char *host, int port, const char **reason)
{
	*reason = "this platform cannot resolve names without blocking: use an address";
	return NULL;
}

int
ca_resolve_poll(CaLookup *lookup, CaAddress *addresses, const char **reason)
{
	*reason = "not supported";
	return 0;
}

void
ca_resolve_end(CaLookup *lookup)
{
}

#endif

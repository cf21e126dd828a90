/*
 * endpoint.c: what the worker tells of each Redis: where it is, its state, what is under way.
 *
 * The worker has a copy of its own for each and publishes those that changed, before the status (status.c): who
 * reads the status first sees endpoints that are no older. Lock: `mutex` guards all that is shared; it is held
 * for the copy of one endpoint.
 */
#include "cache_aside.h"
#include "shared/endpoint.h"
#include "shared/shared.h"

#include "storage/ipc.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

typedef struct Shared
{
	slock_t mutex;
	int n; /* attached by the last worker that began, or the one before */
	CaEndpoint endpoints[CA_MOST_ENDPOINTS];
} Shared;

static Shared *shared; /* NULL without preload */

/* Of the worker: all that it publishes, in the order of the view. */
static CaEndpoint *attached[CA_MOST_ENDPOINTS];
static int nattached;

void
ca_endpoint_shmem_request(void)
{
	RequestAddinShmemSpace(MAXALIGN(sizeof(Shared)));
}

void
ca_endpoint_shmem_init(void)
{
	bool found;

	shared = ShmemInitStruct("cache_aside endpoints", sizeof(Shared), &found);
	if (found)
		return;
	memset(shared, 0, sizeof(Shared));
	SpinLockInit(&shared->mutex);
}

/* ---- worker side ---- */

void
ca_endpoint_attach(CaEndpoint *endpoint)
{
	Assert(nattached < CA_MOST_ENDPOINTS);
	SpinLockAcquire(&shared->mutex);
	*endpoint = shared->endpoints[nattached];
	SpinLockRelease(&shared->mutex);
	endpoint->changed = true;
	attached[nattached++] = endpoint;
}

void
ca_endpoint_publish(void)
{
	for (int i = 0; i < nattached; i++)
	{
		if (!attached[i]->changed)
			continue;
		attached[i]->changed = false;
		SpinLockAcquire(&shared->mutex);
		shared->endpoints[i] = *attached[i];
		shared->n = nattached;
		SpinLockRelease(&shared->mutex);
	}
}

const char *
ca_endpoint_first(void)
{
	return nattached > 0 ? attached[0]->name : "";
}

void
ca_endpoint_name(CaEndpoint *endpoint, const char *name)
{
	strlcpy(endpoint->name, name, sizeof(endpoint->name));
	endpoint->changed = true;
}

void
ca_endpoint_state(CaEndpoint *endpoint, const char *state)
{
	if (strcmp(endpoint->state, state) == 0)
		return;
	strlcpy(endpoint->state, state, sizeof(endpoint->state));
	endpoint->since = GetCurrentTimestamp();
	endpoint->changed = true;
}

void
ca_endpoint_version(CaEndpoint *endpoint, const char *version)
{
	strlcpy(endpoint->version, version, sizeof(endpoint->version));
	endpoint->changed = true;
}

void
ca_endpoint_mode(CaEndpoint *endpoint, const char *mode)
{
	strlcpy(endpoint->mode, mode, sizeof(endpoint->mode));
	endpoint->changed = true;
}

void
ca_endpoint_library(CaEndpoint *endpoint, int64 revision)
{
	endpoint->changed |= endpoint->library != revision;
	endpoint->library = revision;
}

void
ca_endpoint_events(CaEndpoint *endpoint, const char *events)
{
	strlcpy(endpoint->events, events, sizeof(endpoint->events));
	endpoint->changed = true;
}

void
ca_endpoint_progress(CaEndpoint *endpoint, int in_flight, XLogRecPtr acknowledged)
{
	if (endpoint->in_flight == in_flight && endpoint->acknowledged == acknowledged)
		return;
	endpoint->in_flight = in_flight;
	endpoint->acknowledged = acknowledged;
	endpoint->changed = true;
}

void
ca_endpoint_error(CaEndpoint *endpoint, const char *error)
{
	strlcpy(endpoint->error, error, sizeof(endpoint->error));
	endpoint->error_at = GetCurrentTimestamp();
	endpoint->changed = true;
}

/* ---- backends ---- */

int
ca_endpoint_copy(CaEndpoint *endpoints, int most)
{
	int n = 0;

	for (int i = 0; i < most; i++)
	{
		SpinLockAcquire(&shared->mutex);
		n = shared->n;
		endpoints[i] = shared->endpoints[i];
		SpinLockRelease(&shared->mutex);
	}
	return n;
}

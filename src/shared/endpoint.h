/*
 * endpoint.h: what the worker tells of each Redis; see endpoint.c.
 */
#ifndef CA_ENDPOINT_H
#define CA_ENDPOINT_H

#include "cache_aside.h"

#include "datatype/timestamp.h"

#define CA_MOST_ENDPOINTS 64

typedef struct CaEndpoint
{
	bool changed;      /* since it was published; of the worker's own copy */
	char name[256];    /* where it is, never a secret; empty: nowhere */
	char state[24];    /* connecting, connected, refuses, unreachable, ... */
	TimestampTz since; /* of state */
	char version[24];
	char mode[12];   /* functions, or plain: without them */
	int64 library;   /* revision of the one in Redis, as the last claim was told; 0: none was */
	char events[12]; /* off, publish, stream, or refused */
	int in_flight;   /* batches without an answer */
	XLogRecPtr acknowledged; /* confirmed LSN as that Redis has it; invalid: not known */
	char error[256];         /* the last one; stays when all is well again */
	TimestampTz error_at;
} CaEndpoint;

/* Worker side: its own copy, made known by attach and published with the status. */
extern void ca_endpoint_attach(CaEndpoint *endpoint); /* goes on from what is published */
extern void ca_endpoint_publish(void);
extern const char *ca_endpoint_first(void); /* the name of the one attached first; "" */
extern void ca_endpoint_name(CaEndpoint *endpoint, const char *name);
extern void ca_endpoint_state(CaEndpoint *endpoint, const char *state);
extern void ca_endpoint_version(CaEndpoint *endpoint, const char *version);
extern void ca_endpoint_mode(CaEndpoint *endpoint, const char *mode);
extern void ca_endpoint_library(CaEndpoint *endpoint, int64 revision);
extern void ca_endpoint_events(CaEndpoint *endpoint, const char *events);
extern void ca_endpoint_progress(CaEndpoint *endpoint, int in_flight, XLogRecPtr acknowledged);
extern void ca_endpoint_error(CaEndpoint *endpoint, const char *error);

/* Backends: how many there are, and the first `most` of them. */
extern int ca_endpoint_copy(CaEndpoint *endpoints, int most);

#endif

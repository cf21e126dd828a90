/*
 * redis_stream.h: the socket of a connection, with or without TLS.
 */
#ifndef CA_REDIS_STREAM_H
#define CA_REDIS_STREAM_H

#include "cache_aside.h"

typedef struct CaStream
{
	int fd;
	bool closed; /* by the other side, orderly */
	bool heard;  /* something of it, behind the handshake if there is one */
	char reason[256];

	void *tls;         /* an SSL object of OpenSSL's; NULL: plain */
	int tls_errno;     /* of the last failed system call under it */
	bool tls_ended;    /* the socket is at its end */
	int tls_first;     /* first byte that came, as a number; -1: none yet */
	bool shaken_hands; /* the handshake is over */
	/* TLS may have to write before it can read on, and the other way round. */
	bool read_needs_write;
	bool write_needs_read;
} CaStream;

/* With TLS if a host is given; false: `reason`. */
extern bool ca_redis_stream_begin(CaStream *stream, int fd, const char *tls_host);
extern ssize_t ca_redis_stream_read(CaStream *stream, char *buffer, Size size);
extern ssize_t ca_redis_stream_write(CaStream *stream, const char *bytes, Size len);
extern bool ca_redis_stream_holds_bytes(const CaStream *stream);
/* WL_SOCKET_*; `writes`: there is something to be written */
extern uint32 ca_redis_stream_events(const CaStream *stream, bool writes);
/* Frees; the socket stays open. May be repeated. */
extern void ca_redis_stream_end(CaStream *stream);

/* ---- redis_tls.c; without OpenSSL the first two fail ---- */
extern bool ca_redis_tls_begin(CaStream *stream, const char *host);
/* 1: it is over, 0: it goes on when the socket is ready, -1: failed */
extern int ca_redis_tls_shake_hands(CaStream *stream);
extern ssize_t ca_redis_tls_read(CaStream *stream, char *buffer, Size size);
extern ssize_t ca_redis_tls_write(CaStream *stream, const char *bytes, Size len);
extern bool ca_redis_tls_pending(const CaStream *stream);
extern void ca_redis_tls_end(CaStream *stream);

#endif

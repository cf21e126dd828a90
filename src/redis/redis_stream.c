/*
 * redis_stream.c: bytes to and from a connected socket, as they are or through TLS; never waits.
 *
 * Reading and writing return how many bytes were moved, 0 when the socket is not ready, -1 when
 * nothing will ever come or go again: `reason` says why, or `closed` that the other side ended it.
 * The socket belongs to dial.c. SIGPIPE is asked for by nobody: the process may not ignore it.
 */
#include "cache_aside.h"
#include "redis/redis_private.h"
#include "redis/redis_stream.h"

#include <sys/socket.h>

bool
ca_redis_stream_begin(CaStream *stream, int fd, const char *tls_host)
{
	memset(stream, 0, sizeof(*stream));
	stream->fd = fd;
	return tls_host == NULL || ca_redis_tls_begin(stream, tls_host);
}

static ssize_t
judge(CaStream *stream, ssize_t n)
{
	if (n > 0)
		return n;
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		return 0;
	if (n == 0)
		stream->closed = true;
	else
		strlcpy(stream->reason, strerror(errno), sizeof(stream->reason));
	return -1;
}

ssize_t
ca_redis_stream_read(CaStream *stream, char *buffer, Size size)
{
	ssize_t n = stream->tls ? ca_redis_tls_read(stream, buffer, size)
							: judge(stream, recv(stream->fd, buffer, size, 0));

	if (n > 0)
		stream->heard = true;
	return n;
}

ssize_t
ca_redis_stream_write(CaStream *stream, const char *bytes, Size len)
{
	return stream->tls ? ca_redis_tls_write(stream, bytes, len)
					   : judge(stream, send(stream->fd, bytes, len, MSG_NOSIGNAL));
}

/* Bytes that have left the socket and will not make it readable any more */
bool
ca_redis_stream_holds_bytes(const CaStream *stream)
{
	return stream->tls && ca_redis_tls_pending(stream);
}

uint32
ca_redis_stream_events(const CaStream *stream, bool writes)
{
	uint32 events = WL_SOCKET_READABLE;

	if ((writes && !stream->write_needs_read) || stream->read_needs_write)
		events |= WL_SOCKET_WRITEABLE;
	return events;
}

void
ca_redis_stream_end(CaStream *stream)
{
	ca_redis_tls_end(stream);
	stream->fd = -1;
}

/*
 * wire.c: a connection of redis.c whose other end is the input. Everything of redis.c runs but the
 * socket: dialling succeeds, reading takes the next bytes of the input, writing forgets them.
 */
#include "fuzz.h"

#include "redis/credential.h"
#include "access/xact.h"

#include "redis/redis.h"
#include "redis/redis_connection.h"
#include "redis/redis_private.h"
#include "redis/redis_stream.h"
#include "redis/redis_tls.h"

#include "utils/timestamp.h"

#include "wire.h"

char *guc_redis_url = "redis://user:secret@localhost/3";
char *guc_redis_password_file;
char *guc_redis_credential_command;
char *guc_redis_sentinel_user = "watcher";
char *guc_redis_sentinel_password_file = "";
int guc_connect_timeout = 1000;
int guc_command_timeout = 1000;

static const uint8 *bytes;
static Size left;
static Size at_once;
static bool asked; /* since the last time that all was answered */

void
wire_feed(const uint8 *data, Size len, Size chunk)
{
	bytes = data;
	left = len;
	at_once = chunk;
	asked = false;
}

static Size
next_piece(void)
{
	const uint8 *feed = left == 0 ? NULL : memchr(bytes, '\n', left);
	Size n = at_once > 0 ? at_once : feed ? (Size) (feed - bytes) + 1 : left;

	return Min(Min(left, n), 16384); /* as redis.c */
}

/* ---- redis_stream.c ---- */

bool
ca_redis_stream_begin(CaStream *stream, int fd, const char *tls_host)
{
	return true;
}

ssize_t
ca_redis_stream_read(CaStream *stream, char *buffer, Size size)
{
	Size n = next_piece();

	if (!asked && at_once == 0)
		return 0; /* nothing has arrived */
	if (n == 0)
	{
		stream->closed = true;
		return -1;
	}
	FUZZ_CHECK(n <= size);
	memcpy(buffer, bytes, n);
	stream->heard = true;
	bytes += n;
	left -= n;
	return n;
}

ssize_t
ca_redis_stream_write(CaStream *stream, const char *sent, Size len)
{
	asked = true;
	return len;
}

bool
ca_redis_stream_holds_bytes(const CaStream *stream)
{
	return false;
}

uint32
ca_redis_stream_events(const CaStream *stream, bool writes)
{
	return 0;
}

void
ca_redis_stream_end(CaStream *stream)
{
}

/* Never reached: the setting names no TLS. */
int
ca_redis_tls_shake_hands(CaStream *stream)
{
	return -1;
}

/* ---- dial.c ---- */

int64
ca_dial_clock(void)
{
	return 1;
}

void
ca_dial_init(CaDial *dial)
{
	memset(dial, 0, sizeof(*dial));
	dial->fd = -1;
}

CaDialState
ca_dial_begin(CaDial *dial, const CaRedisAddress *address, int64 deadline)
{
	return CA_DIAL_UNDER_WAY;
}

CaDialState
ca_dial_advance(CaDial *dial)
{
	return CA_DIAL_CONNECTED;
}

int64
ca_dial_next(const CaDial *dial)
{
	return 0;
}

const char *
ca_dial_doing(const CaDial *dial)
{
	return "connecting";
}

void
ca_dial_end(CaDial *dial)
{
}

/* Never reached: no setting names a file. */
int
BasicOpenFile(const char *fileName, int fileFlags)
{
	return -1;
}

/* ---- redis_tls_settings.c ---- */

const char *
ca_redis_tls_settings_lacking(void)
{
	return NULL;
}

const char *
ca_redis_tls_settings_problem(void)
{
	return NULL;
}

uint64
ca_redis_tls_settings_state(void)
{
	return 0;
}

/* ---- credential.c: there is none ---- */

bool
ca_credential_copy(CaCredential *credential)
{
	return false;
}

void
ca_credential_wipe(CaCredential *credential)
{
}

uint64
ca_credential_number(void)
{
	return 0;
}

void
ca_credential_refuse(uint64 number)
{
}

bool
IsTransactionState(void)
{
	return false;
}

/* ---- waiting: until all is answered or the input has ended ---- */

void
ca_redis_wait_set_end(CaWaitSet *waits)
{
	Assert(waits->set == NULL);
}

bool
ca_redis_wait(CaRedis *redis, long timeout_ms, uint32 wait_event)
{
	while (ca_redis_advance(redis) != CA_REDIS_FAILED)
	{
		if (ca_redis_state(redis) == CA_REDIS_READY && ca_redis_in_flight(redis) == 0)
		{
			asked = false;
			return true;
		}
	}
	return false;
}

/* ---- clocks: each look is a second later ---- */

TimestampTz
GetCurrentTimestamp(void)
{
	static TimestampTz now = 1000000;

	return now += USECS_PER_SEC;
}

bool
TimestampDifferenceExceeds(TimestampTz start_time, TimestampTz stop_time, int msec)
{
	return stop_time - start_time >= msec * INT64CONST(1000);
}

long
TimestampDifferenceMilliseconds(TimestampTz start_time, TimestampTz stop_time)
{
	return (long) ((stop_time - start_time) / 1000);
}

/*
 * position.c: where delivery stands, as text in Redis.
 *
 * The text is "<timeline> <confirmed> <restart> <sequence> <state> <async> <barrier> <format>": the
 * timeline first and in decimal, because a script in Redis compares it to fence off an old primary;
 * LSNs as PostgreSQL prints them; state "ok", "unlogged" or "pending". The key carries the system
 * identifier, so that two clusters that share a Redis never read each other's position.
 *
 * The format is that of the messages in the log (CA_MESSAGE_MARK). After the library was replaced by
 * one of another format, the log from the position on may have messages that this one does not follow.
 * So a position of another format, or of before there was one, is none: blind start, and a resync.
 *
 * Nothing here allocates or raises: a text that does not parse is nonsense, and the caller resyncs.
 */
#include "worker.h"

#include "access/xlog.h"

const char *
ca_position_key(void)
{
	static char key[64];

	snprintf(key, sizeof(key), "cache_aside:position:" UINT64_FORMAT, GetSystemIdentifier());
	return key;
}

static const char *const states[] = {"ok", "unlogged", "pending"}; /* by CaPositionState */

void
ca_position_format(const CaPosition *position, char *out)
{
	snprintf(out, CA_POSITION_TEXT, "%u %X/%X %X/%X " UINT64_FORMAT " %s %d " UINT64_FORMAT " %s",
			 position->timeline, LSN_FORMAT_ARGS(position->confirmed),
			 LSN_FORMAT_ARGS(position->restart), position->sequence, states[position->state],
			 position->async ? 1 : 0, position->barrier,
			 &CA_MESSAGE_MARK[sizeof(CA_MESSAGE_PREFIX)]);
}

/* Exact inverse of ca_position_format: what does not format to the same text again is refused. */
bool
ca_position_parse(const char *stored, Size len, CaPosition *position)
{
	char copy[CA_POSITION_TEXT];
	char again[CA_POSITION_TEXT];
	char state[16];
	unsigned int confirmed_hi, confirmed_lo, restart_hi, restart_lo, timeline;
	unsigned long long sequence, barrier;
	int async;

	if (len >= sizeof(copy))
		return false;
	memcpy(copy, stored, len);
	copy[len] = '\0';
	if (sscanf(copy, "%u %X/%X %X/%X %llu %15s %d %llu", &timeline, &confirmed_hi, &confirmed_lo,
			   &restart_hi, &restart_lo, &sequence, state, &async, &barrier) != 9)
		return false;
	position->timeline = timeline;
	position->confirmed = ((uint64) confirmed_hi << 32) | confirmed_lo;
	position->restart = ((uint64) restart_hi << 32) | restart_lo;
	position->sequence = sequence;
	position->state = CA_POSITION_PENDING;
	while (position->state > 0 && strcmp(state, states[position->state]) != 0)
		position->state--;
	position->async = async != 0;
	position->barrier = barrier;
	ca_position_format(position, again);
	return strcmp(copy, again) == 0 && timeline > 0 && position->restart <= position->confirmed &&
		   position->restart > 0;
}

/*
 * position.c: where delivery stands, as text in Redis.
 *
 * The text is "<timeline> <confirmed> <restart> <sequence> <state> <async> <barrier> <database> <prefixes>
 * <seen> <last> <timed> <format>", and " events:<how>:<series>:<number>" if others are told: the timeline first and in decimal, because a script in Redis compares it
 * to fence off an old primary; LSNs as PostgreSQL prints them; state "ok", "widened", "unlogged" or
 * "pending"; database and prefixes see keyspace.c; last and timed are records, "<start>:<CRC>". The key
 * carries the system identifier, so that two clusters that share a Redis never read each other's position.
 *
 * The format is that of the messages in the log (CA_MESSAGE_MARK). After the library was replaced by
 * one of another format, the log from the position on may have messages that this one does not follow.
 * So a position of another format, or of before it had these fields, is none: blind start, and a resync.
 *
 * THE SAME TIMELINE, ANOTHER LOG. A volume or a machine that is rolled back, or a power failure without
 * fsync, ends the log at some F and goes on from there with other records at the same LSNs. What was read
 * beyond F was delivered, cached, and given tokens for, and is no more. By LSNs alone the new log looks
 * delivered up to `confirmed`, and nobody would delete what it wrote below. Therefore two records:
 *
 *	last	the last one that was read. If it is still there, so is all log before it, which is chained
 *			(each record's CRC covers the address of the one before): F lies behind it.
 *	timed	the last one that carries a time: an end of a transaction. Two histories may write records of
 *			equal sizes and contents, even of equal CRC (who lists who is running); no two ends have the
 *			same microsecond. If F lies before `last`, and the new log has an equal record there, then
 *			either transactions ended between F and `last` in the old log, and `timed` is one of them; or
 *			none did, so that nothing was visible from there that is lost, and none did in the new one
 *			either, or the record would have other transaction ids in it.
 *
 * They are those of what was read, not of what is confirmed: also what was visible, and so maybe cached, but
 * not delivered yet, is found to be lost. Another record at either place, or none: start anew from the last
 * checkpoint and delete everything (resume.c). Log that was removed cannot be compared: likewise, if it is
 * `last`; the slot keeps that (slot.c), `timed` may be older than any log that is kept.
 *
 * WHAT A TOKEN OF THE OLD LIFE CAN STILL DO. It says (timeline, R): "saw every commit up to R"; R is never
 * beyond what was read then. The new log says the same of other commits. If R <= F it is as good as ever:
 * both logs are one up to there. If R > F it must be refused, for ever, though it names this timeline, and
 * E (the end of the new log when it was read) may be far below it. So the floor is the higher of E and
 * `seen`, the highest end of log that a position ever told of (and one more, for R may be just that).
 * `seen` never goes back, so it is the floor of a guard made anew later, too. The price: tokens of the new
 * life are refused until its log is as long as the old one was. What is left: a token for log that was read
 * after the last position was written (while log grows, less than a second before the old life ended, or 16
 * MB), whose reader outlived its server, can be filled with once the new log is as long; and what was
 * visible then, but not read yet, is not found to be lost. When no reader of before is left, deleting
 * position and guard ends the wait.
 *
 * Nothing here allocates or raises: a text that does not parse is nonsense, and the caller resyncs.
 */
#include "cache_aside.h"
#include "keys/keys.h"
#include "log/log.h"

#include "access/xlog.h"

const char *
ca_position_key(void)
{
	static char key[64];

	snprintf(key, sizeof(key), "cache_aside:position:" UINT64_FORMAT, GetSystemIdentifier());
	return key;
}

static const char *const states[] = {"ok", "widened", "unlogged",
									 "pending"}; /* by CaPositionState */

static void
format_events(const CaEventMark *events, char *out, Size size)
{
	if (events->how != '\0')
		snprintf(out, size, " events:%c:%08x:" UINT64_FORMAT, events->how, events->series,
				 events->number);
}

/* Any text: what is no such mark leaves none, and the comparison finds that out. */
static void
parse_events(const char *stored, CaEventMark *events)
{
	const char *at = strstr(stored, " events:");
	unsigned long long number;

	if (at == NULL || sscanf(at, " events:%c:%x:%llu", &events->how, &events->series, &number) != 3)
		memset(events, 0, sizeof(*events));
	else
		events->number = number;
}

void
ca_position_format(const CaPosition *position, char *out)
{
	char keyspace[CA_KEYSPACE_TEXT];
	char events[64] = "";

	ca_keyspace_format(&position->keyspace, keyspace);
	format_events(&position->events, events, sizeof(events));
	snprintf(out, CA_POSITION_TEXT,
			 "%u %X/%X %X/%X " UINT64_FORMAT " %s %d " UINT64_FORMAT
			 " %s %X/%X %X/%X:%08x %X/%X:%08x %s%s",
			 position->timeline, LSN_FORMAT_ARGS(position->confirmed),
			 LSN_FORMAT_ARGS(position->restart), position->sequence, states[position->state],
			 position->async ? 1 : 0, position->barrier, keyspace, LSN_FORMAT_ARGS(position->seen),
			 LSN_FORMAT_ARGS(position->last.start), position->last.crc,
			 LSN_FORMAT_ARGS(position->timed.start), position->timed.crc,
			 &CA_MESSAGE_MARK[sizeof(CA_MESSAGE_PREFIX)], events);
}

static XLogRecPtr
lsn(const unsigned int *halves)
{
	return ((uint64) halves[0] << 32) | halves[1];
}

static CaPositionState
parse_state(const char *state)
{
	int i = CA_POSITION_PENDING;

	while (i > 0 && strcmp(state, states[i]) != 0)
		i--;
	return i;
}

/* Exact inverse of ca_position_format: what does not format to the same text again is refused. */
bool
ca_position_parse(const char *stored, Size len, CaPosition *position)
{
	char copy[CA_POSITION_TEXT];
	char again[CA_POSITION_TEXT];
	char state[16];
	char prefixes[CA_KEYSPACE_TEXT];
	unsigned int at[5][2];
	unsigned long long sequence, barrier;
	int async, database;

	if (len >= sizeof(copy))
		return false;
	memset(position, 0, sizeof(*position));
	memcpy(copy, stored, len);
	copy[len] = '\0';
	if (sscanf(copy, "%u %X/%X %X/%X %llu %15s %d %llu %d %87s %X/%X %X/%X:%x %X/%X:%x",
			   &position->timeline, &at[0][0], &at[0][1], &at[1][0], &at[1][1], &sequence, state,
			   &async, &barrier, &database, prefixes, &at[2][0], &at[2][1], &at[3][0], &at[3][1],
			   &position->last.crc, &at[4][0], &at[4][1], &position->timed.crc) != 19)
		return false;
	position->confirmed = lsn(at[0]);
	position->restart = lsn(at[1]);
	position->sequence = sequence;
	position->state = parse_state(state);
	position->async = async != 0;
	position->barrier = barrier;
	ca_keyspace_parse(database, prefixes, &position->keyspace);
	position->seen = lsn(at[2]);
	position->last.start = lsn(at[3]);
	position->timed.start = lsn(at[4]);
	parse_events(copy, &position->events);
	ca_position_format(position, again);
	return strcmp(copy, again) == 0 && position->timeline > 0 &&
		   position->restart <= position->confirmed && position->restart > 0;
}

XLogRecPtr
ca_position_keep(const CaPosition *position)
{
	XLogRecPtr last = position->last.start;

	return XLogRecPtrIsInvalid(last) ? position->restart : Min(position->restart, last);
}

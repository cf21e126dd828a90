/*
 * events.c: others are told which keys are deleted: a CDN, a memcached, caches inside processes.
 *
 * With cache_aside.events each call that deletes keys also publishes them, or adds them to a stream: one event for a
 * batch, in the same atomic call, before the position (library/apply.lua, apply_plain.lua). event_text.c has its form.
 * An event tells what is deleted in Redis by then, never what is yet to be: who fills again from Redis after it finds
 * nothing old there. So
 *
 *	keys of a batch		are in its own event
 *	patterns			when the scan is over, in the event of the next batch
 *	keys deleted again	when Redis has answered (redelete.c), likewise
 *	a resync			when it is over: "all", everything may have changed
 *
 * The last three are kept here as notes until a batch with them was answered. Commits and resyncs are not taken for
 * delivered before (ca_delivery_send, ca_sinks_told), so if we die in between, the next session does all of it again.
 * What is deleted again is kept in memory alone, and lost with the worker, as redelete.c says of itself.
 *
 * NOTHING IS LOST UNSEEN. The position names the series of events and the number of the last one. It is written by the
 * call that tells, so what it confirms was told, in this series, up to this number. A session goes on with the number
 * that it finds; if it finds none, or one of the other kind (events were off, refused, or told in another way meanwhile;
 * a server of another release delivered; the position is lost and so is our memory of it), the first event is "all", and
 * begins a series. A reader who sees another series, or a number that is more than one above the last, has missed
 * something: a stream that was cut, a connection that broke. A number may come again: what Redis, or a lost answer, made us
 * send twice. When Redis itself went back (a fail-over to a replica that lags), numbers come again with other keys: nothing
 * is missed by who reads on, but who slept through it may see no gap. So a reader begins anew with each connection.
 *
 * A REFUSAL MUST NOT STOP DELIVERIES: a user without the right to the channel, something else under the stream's name.
 *
 *	SILENT		nobody is told, and the position names no number
 *	TO_PROBE	a batch without keys is to be sent, with the event "all" that may fail
 *	PROBING		it was; until it is answered nothing else is sent, so nothing is deleted untold behind it
 *	TOLD		each batch with keys has an event; if that fails the batch does, and the session with it
 *
 * A refusal leads to SILENT, and after RETRY_MS to TO_PROBE; so the next session delivers, without events.
 *
 * Bounded when nobody reads: the stream by its length and by BATCH_BYTES, a subscriber by Redis's own
 * client-output-buffer-limit, notes by the scans, which stop while there are many (ca_events_full). Nothing of this costs
 * anything while the setting is off. Of the worker alone.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "redis/redis.h"
#include "shared/status.h"
#include "shared/trouble.h"
#include "delivery/delivery.h"
#include "delivery/event_text.h"
#include "delivery/sink.h"

#include "common/pg_prng.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define RETRY_MS 5000
#define BATCH_BYTES (64 * 1024)  /* of keys, and as much of notes, in one event */
#define MANY_NOTES (1024 * 1024) /* bytes */
#define REFUSED "CA_EVENTS "

static const char marks[] = {'\0', 'p', 's'}; /* by CaEventsMode */

static Size
unanswered(const CaSinkEvents *events)
{
	return (Size) (events->notes.len - events->notes.cursor);
}

static void
forget_notes(CaSinkEvents *events)
{
	events->notes.len = events->notes.cursor = 0;
	events->taken = 0;
	if (events->notes.maxlen > MANY_NOTES)
	{
		pfree(events->notes.data);
		memset(&events->notes, 0, sizeof(events->notes));
	}
}

/* ---- stages ---- */

static void
show(CaSink *sink)
{
	const char *const names[] = {"off", "publish", "stream"};

	ca_endpoint_events(&sink->endpoint,
					   sink->events.retry_at != 0 ? "refused" : names[sink->events.mode]);
}

/* Nobody is told from here on, and the next position says so. */
static void
fall_silent(CaSink *sink)
{
	memset(&sink->events.mark, 0, sizeof(sink->events.mark));
	sink->events.stage = CA_EVENTS_SILENT;
	forget_notes(&sink->events);
}

static void
follow_settings(CaSink *sink)
{
	fall_silent(sink);
	sink->events.mode = guc_events;
	sink->events.retry_at = 0;
	if (guc_events == CA_EVENTS_OFF)
		ca_trouble_over(CA_AREA_EVENTS);
	else
		sink->events.stage = CA_EVENTS_TO_PROBE;
	show(sink);
}

static void
be_refused(CaSink *sink, const char *error)
{
	fall_silent(sink);
	sink->events.retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), RETRY_MS);
	ca_trouble_begin_at(CA_AREA_EVENTS, ca_trouble_judge(error), error, sink->endpoint.name);
	show(sink);
}

/* What Redis said, behind the name of our error; NULL: it is another error. */
static const char *
reason_in(const char *error)
{
	const char *at = strstr(error, REFUSED);

	return at ? at + strlen(REFUSED) : NULL;
}

const CaEventMark *
ca_events_mark(CaSink *sink)
{
	return &sink->events.mark;
}

/* A session begins, from a position that names a number, or none. */
void
ca_events_begin(CaSink *sink, const CaEventMark *mark)
{
	if (sink->events.retry_at != 0 && sink->events.mode == guc_events)
		fall_silent(sink);
	else if (guc_events != CA_EVENTS_OFF && mark->how == marks[guc_events])
	{
		sink->events.mode = guc_events;
		sink->events.stage = CA_EVENTS_TOLD;
		sink->events.retry_at = 0;
		sink->events.mark = *mark;
		ca_trouble_over(CA_AREA_EVENTS);
	}
	else
		follow_settings(sink);
	show(sink);
}

/* What was in batches without an answer is told again. */
void
ca_events_session_ended(CaSink *sink)
{
	sink->events.taken = 0;
}

bool
ca_events_step(CaSink *sink)
{
	CaSinkEvents *events = &sink->events;

	if (events->stage == CA_EVENTS_PROBING)
		return true;
	if (guc_events != (int) events->mode)
		follow_settings(sink);
	if (events->stage == CA_EVENTS_SILENT && events->retry_at != 0 &&
		GetCurrentTimestamp() >= events->retry_at)
		events->stage = CA_EVENTS_TO_PROBE;
	return events->stage == CA_EVENTS_TO_PROBE;
}

bool
ca_events_probe(CaSink *sink)
{
	if (sink->events.stage != CA_EVENTS_TO_PROBE)
		return false;
	sink->events.stage = CA_EVENTS_PROBING;
	sink->events.series = (uint32) pg_prng_uint64(&pg_global_prng_state);
	return true;
}

long
ca_events_timeout(CaSink *sink)
{
	const CaSinkEvents *events = &sink->events;

	if (events->stage == CA_EVENTS_SILENT && events->retry_at != 0)
		return TimestampDifferenceMilliseconds(GetCurrentTimestamp(), events->retry_at);
	if (events->stage == CA_EVENTS_PROBING) /* notes wait for its answer */
		return -1;
	return events->stage == CA_EVENTS_TO_PROBE || ca_events_unsent(sink) ? 0 : -1;
}

/* ---- notes ---- */

static void
append_note(StringInfo notes, char kind, const char *data, Size len)
{
	uint32 size = (uint32) len;

	if (notes->data == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		initStringInfo(notes);
		MemoryContextSwitchTo(old);
	}
	/* All of it, or an ERROR and nothing: half a note would be in the way for ever. */
	enlargeStringInfo(notes, CA_ENTRY_HEADER_SIZE + (int) len);
	appendStringInfoChar(notes, kind);
	appendBinaryStringInfo(notes, (char *) &size, sizeof(size));
	if (len > 0)
		appendBinaryStringInfo(notes, data, (int) len);
}

/* "all" says all that is not told yet. */
void
ca_events_note(CaSink *sink, char kind, const char *data, Size len)
{
	CaSinkEvents *events = &sink->events;

	if (events->stage != CA_EVENTS_TOLD && events->stage != CA_EVENTS_PROBING)
		return;
	if (kind == CA_ENTRY_RESYNC)
		events->notes.len = events->notes.cursor + (int) events->taken;
	append_note(&events->notes, kind, data, len);
}

void
ca_events_note_pattern(void *sink, const char *pattern, Size len)
{
	ca_events_note(sink, CA_ENTRY_PATTERN, pattern, len);
}

bool
ca_events_unsent(CaSink *sink)
{
	return unanswered(&sink->events) > sink->events.taken;
}

bool
ca_events_full(CaSink *sink)
{
	return unanswered(&sink->events) >= MANY_NOTES;
}

void
ca_events_take(CaSink *sink, CaBatch *batch)
{
	CaSinkEvents *events = &sink->events;
	CaMessage rest = {0};
	CaEntry entry;

	if (events->stage != CA_EVENTS_TOLD)
		return;
	batch->most = BATCH_BYTES;
	if (!ca_events_unsent(sink))
		return;
	rest.next = events->notes.data + events->notes.cursor + events->taken;
	rest.end = events->notes.data + events->notes.len;
	while (batch->notes < BATCH_BYTES && ca_record_next(&rest, &entry))
		batch->notes += CA_ENTRY_HEADER_SIZE + entry.len;
	events->taken += batch->notes;
}

/* ---- events ---- */

static void
write_how(const CaSink *sink, const CaBatch *batch, char *how, Size size)
{
	const char *tried = batch->probe ? "!" : "";

	if (sink->events.mode == CA_EVENTS_PUBLISH)
		strlcpy(how, tried, size);
	else
		snprintf(how, size, "%s%d", tried, guc_events_stream_length);
}

/*
 * What is deleted was committed below. A session reads from before what is confirmed, and what was confirmed without
 * being told is in the event "all".
 */
static XLogRecPtr
committed_below(const CaTap *tap, const CaBatch *batch)
{
	if (batch->notes == 0 && !batch->probe)
		return batch->lsn;
	return Max(ca_tap_read_end(tap), batch->position.confirmed);
}

/* The batch gets its number, and its event, if it has something to tell. */
void
ca_events_compose(CaSink *sink, const CaTap *tap, CaBatch *batch)
{
	CaSinkEvents *events = &sink->events;
	CaEventMark mark = {marks[events->mode], events->series, 1};
	MemoryContext old;
	CaMessage notes = {0};
	CaEvent *event;

	if (!batch->probe &&
		(events->stage != CA_EVENTS_TOLD || (batch->nkeys == 0 && batch->notes == 0)))
		return;
	if (!batch->probe)
	{
		events->mark.number++;
		mark = batch->position.events = events->mark;
	}
	if (batch->notes > 0)
	{
		notes.end = events->notes.data + events->notes.cursor + events->taken;
		notes.next = notes.end - batch->notes;
	}
	old = MemoryContextSwitchTo(GetMemoryChunkContext(batch));
	event = palloc(sizeof(CaEvent));
	initStringInfo(&event->text);
	batch->event = event; /* not before: who frees the batch frees its text */
	write_how(sink, batch, event->how, sizeof(event->how));
	ca_event_text_write(&event->text, batch, &mark, notes, committed_below(tap, batch));
	MemoryContextSwitchTo(old);
}

static void
forget_told(CaSinkEvents *events, const CaBatch *batch)
{
	events->notes.cursor += (int) batch->notes;
	events->taken -= batch->notes;
	if (unanswered(events) == 0)
		forget_notes(events);
	else if (events->notes.cursor >= MANY_NOTES) /* or it grows, if more come all the time */
	{
		events->notes.len -= events->notes.cursor;
		memmove(events->notes.data, events->notes.data + events->notes.cursor, events->notes.len);
		events->notes.cursor = 0;
	}
}

/* It was applied. */
void
ca_events_answered(CaSink *sink, const CaBatch *batch, const CaApplied *applied)
{
	CaSinkEvents *events = &sink->events;

	/* Otherwise it was sent under other settings: its notes are forgotten already. */
	if (batch->notes > 0 && events->stage == CA_EVENTS_TOLD)
		forget_told(events, batch);
	if (!batch->probe)
		return;
	if (applied->unheard[0])
	{
		const char *reason = reason_in(applied->unheard);

		be_refused(sink, reason ? reason : applied->unheard);
		return;
	}
	events->mark = (CaEventMark){marks[events->mode], events->series, 1};
	events->stage = CA_EVENTS_TOLD;
	events->retry_at = 0;
	ca_trouble_over(CA_AREA_EVENTS);
	show(sink);
}

/* Any other error says nothing about events, nor does one of a batch that was sent before they were switched off. */
void
ca_events_judge(CaSink *sink, const CaReply *reply)
{
	Size len;
	const char *error;

	if (sink->events.mode == CA_EVENTS_OFF || reply == NULL ||
		ca_redis_reply_type(reply) != CA_REPLY_ERROR)
		return;
	error = reason_in(ca_redis_reply_text(reply, &len));
	if (error)
		be_refused(sink, error);
}

/*
 * publish_json.c: the JSON that stands in Redis of a replica and of the primary; its fields are listed in publish.c.
 *
 * Written without its end: the scripts of publish.c add the value of "at" and the brace. Read is what standbys wrote, with
 * that end. What is read is anybody's who may write to Redis: it is not parsed, only looked through, and what is not a
 * fresh entry of our own history counts for nothing.
 */
#include "cache_aside.h"
#include "routing/routing.h"

#include "access/xlog.h"
#include "utils/json.h"
#include "utils/timestamp.h"

/* ---- written ---- */

static void
add_json_text(StringInfo json, const char *key, const char *value)
{
	appendStringInfo(json, ",\"%s\":", key);
	if (value && value[0])
		escape_json(json, value);
	else
		appendStringInfoString(json, "null");
}

static void
begin_json(StringInfo json, XLogRecPtr lsn, TimeLineID timeline)
{
	initStringInfo(json);
	appendStringInfo(json, "{\"lsn\":\"%X/%X\",\"timeline\":%u,\"system\":\"" UINT64_FORMAT "\"",
					 LSN_FORMAT_ARGS(lsn), timeline, GetSystemIdentifier());
}

char *
ca_publish_json_replica(const CaTopologyRow *row, XLogRecPtr lsn, TimeLineID timeline,
						int64 lag_bytes, int64 lag_ms, const char *by)
{
	StringInfoData json;

	begin_json(&json, lsn, timeline);
	appendStringInfo(&json, ",\"lag_bytes\":" INT64_FORMAT, lag_bytes);
	if (lag_ms >= 0)
		appendStringInfo(&json, ",\"lag_ms\":" INT64_FORMAT, lag_ms);
	else
		appendStringInfoString(&json, ",\"lag_ms\":null");
	add_json_text(&json, "region", row->region);
	add_json_text(&json, "conninfo", row->conninfo);
	appendStringInfo(&json, ",\"weight\":%d,\"by\":\"%s\",\"at\":", row->weight, by);
	return json.data;
}

char *
ca_publish_json_primary(const CaTopologyRow *own, const char *name, XLogRecPtr end,
						TimeLineID timeline)
{
	StringInfoData json;

	begin_json(&json, end, timeline);
	add_json_text(&json, "name", name);
	add_json_text(&json, "conninfo", own ? own->conninfo : NULL);
	add_json_text(&json, "region", own ? own->region : NULL);
	appendStringInfoString(&json, ",\"at\":");
	return json.data;
}

/* ---- read ---- */

/* The text after `"key":`, or NULL. */
static const char *
json_value(const char *json, const char *key)
{
	char pattern[32];
	const char *found;

	snprintf(pattern, sizeof(pattern), "\"%s\":", key);
	found = strstr(json, pattern);
	return found ? found + strlen(pattern) : NULL;
}

/* One entry as a standby of our own history wrote it; false for any other. */
bool
ca_publish_json_read(const char *json, double redis_now, CaPublished *entry)
{
	const char *lsn = json_value(json, "lsn");
	const char *timeline = json_value(json, "timeline");
	const char *system = json_value(json, "system");
	const char *at = json_value(json, "at");
	uint32 high;
	uint32 low;
	double age;

	if (!lsn || !timeline || !system || !at || strstr(json, "\"by\":\"replica\"") == NULL ||
		sscanf(lsn, "\"%X/%X\"", &high, &low) != 2 ||
		strtoul(timeline, NULL, 10) != GetWALInsertionTimeLine() || system[0] != '"' ||
		strtou64(system + 1, NULL, 10) != GetSystemIdentifier())
		return false;
	age = redis_now - strtod(at, NULL);
	if (!(age >= 0 && age <= CA_PUBLISHED_TTL_MS)) /* strtod knows "nan" */
		return false;
	entry->replayed = ((uint64) high << 32) | low;
	entry->seen = GetCurrentTimestamp() - (int64) (age * 1000);
	return true;
}

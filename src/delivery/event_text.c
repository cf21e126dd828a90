/*
 * event_text.c: the text of an event, which a consumer in any language reads without a library: JSON.
 *
 *	{"series": "5f3a9c01", "number": 17, "system": "7301234567890123456", "timeline": 1, "lsn": "0/16B3748",
 *	 "all": false, "keys": ["user:1"], "patterns": ["post:*"]}
 *
 * Keys and patterns (Redis's globs) as they are in Redis, with the prefix. System and LSN are texts, for many languages
 * round a number of that size. Keys are UTF-8, which JSON has to be; one of a database in SQL_ASCII need not be. Those that
 * are not, or that have a NUL, are in "keys_hex" and "patterns_hex" instead, two digits a byte; without such there are
 * no such fields.
 *
 * Allocates in the current context; cannot fail otherwise.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "delivery/event_text.h"

#include "access/xlog.h"
#include "mb/pg_wchar.h"

typedef struct Names
{
	StringInfoData texts;
	StringInfoData hex;
} Names;

static void
append_escaped(StringInfo out, const char *str, Size len)
{
	for (Size i = 0; i < len; i++)
	{
		unsigned char c = (unsigned char) str[i];

		if (c == '"' || c == '\\')
			appendStringInfoChar(out, '\\');
		if (c < ' ')
			appendStringInfo(out, "\\u%04x", c);
		else
			appendStringInfoChar(out, (char) c);
	}
}

static void
append_hex(StringInfo out, const char *bytes, Size len)
{
	for (Size i = 0; i < len; i++)
		appendStringInfo(out, "%02x", (unsigned char) bytes[i]);
}

static void
add(Names *list, const char *bytes, Size len)
{
	bool is_text = pg_encoding_verifymbstr(PG_UTF8, bytes, (int) len) == (int) len;
	StringInfo out = is_text ? &list->texts : &list->hex;

	appendStringInfoString(out, out->len > 0 ? ",\"" : "\"");
	(is_text ? append_escaped : append_hex)(out, bytes, len);
	appendStringInfoChar(out, '"');
}

static void
begin_list(Names *list)
{
	initStringInfo(&list->texts);
	initStringInfo(&list->hex);
}

static void
end_list(Names *list, const char *name, StringInfo out)
{
	appendStringInfo(out, ",\"%s\":[", name);
	appendBinaryStringInfo(out, list->texts.data, list->texts.len);
	appendStringInfoChar(out, ']');
	if (list->hex.len > 0)
	{
		appendStringInfo(out, ",\"%s_hex\":[", name);
		appendBinaryStringInfo(out, list->hex.data, list->hex.len);
		appendStringInfoChar(out, ']');
	}
	pfree(list->texts.data);
	pfree(list->hex.data);
}

void
ca_event_text_write(StringInfo out, const CaBatch *batch, const CaEventMark *mark, CaMessage notes,
					XLogRecPtr lsn)
{
	bool all = batch->probe;
	Names keys;
	Names patterns;
	CaEntry note;

	begin_list(&keys);
	begin_list(&patterns);
	for (int i = 0; i < batch->nkeys; i++)
		add(&keys, batch->bytes.data + batch->keys[i].offset, batch->keys[i].len);
	while (ca_record_next(&notes, &note))
	{
		all |= note.kind == CA_ENTRY_RESYNC;
		if (note.kind != CA_ENTRY_RESYNC)
			add(note.kind == CA_ENTRY_KEY ? &keys : &patterns, note.data, note.len);
	}
	appendStringInfo(out,
					 "{\"series\":\"%08x\",\"number\":" UINT64_FORMAT ",\"system\":\"" UINT64_FORMAT
					 "\",\"timeline\":%u,\"lsn\":\"%X/%X\",\"all\":%s",
					 mark->series, mark->number, GetSystemIdentifier(), batch->position.timeline,
					 LSN_FORMAT_ARGS(lsn), all ? "true" : "false");
	end_list(&keys, "keys", out);
	end_list(&patterns, "patterns", out);
	appendStringInfoChar(out, '}');
}

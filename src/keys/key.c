/*
 * key.c: rows to the text of keys.
 *
 * Input: a parsed template (template.c) and a row in a slot. Output: keys in UTF-8, without prefix, to a handler; a NULL
 * in any column gives no key.
 *
 * Key text must not depend on who writes. Values go through the type's output function, and where that function reads
 * session settings, these are pinned for the call (ISO dates, UTC, ...). Integers, text and uuid, the hot path, need none;
 * dates and the like switch only when the session differs from the pinned value; unknown types (arrays, composites,
 * extension types) always switch all.
 *
 * Errors: 54000 for a key longer than CA_MAX_KEY, and those of output functions; a pinned setting is undone by the
 * (sub)transaction's abort then.
 *
 * An output function that is not one of the known ones (output_settings.c) may run anything, a write that makes keys by
 * this very template included. So nothing about a row is kept in the template, and such a template's buffers are made
 * anew for each row; the others share this backend's.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "keys/keys.h"
#include "keys/output_settings.h"
#include "keys/template.h"

#include "executor/tuptable.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

/* One row on its way. */
typedef struct Scratch
{
	StringInfoData values; /* text of its values */
	StringInfoData key;    /* being assembled */
	int *ends;             /* where the value of each part ends in `values` */
	int room;              /* for so many parts */
} Scratch;

static Scratch common;

static void
refuse_long_key(const CaTemplate *template, Size len)
{
	ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("cache key is too long"),
					errdetail("Template \"%s\" of table \"%s\" gives %zu bytes; %d are allowed.",
							  template->text, template->relname, len, CA_MAX_KEY),
					errhint("Use shorter columns in the template, such as the primary key.")));
}

static inline void
put(StringInfo target, const char *str, int len)
{
	if (target->maxlen - target->len <= len)
		enlargeStringInfo(target, len);
	memcpy(target->data + target->len, str, len);
	target->len += len;
}

/* Appends the text of one value, UTF-8. The commonest types skip the output function. */
static void
append_value(CaTemplate *template, CaTemplatePart *part, Datum value, StringInfo values)
{
	PGFunction function = part->output.fn_addr;
	char *str;
	Size len;

	if (values->maxlen - values->len <= 32)
		enlargeStringInfo(values, 32);
	if (function == int4out)
		values->len += pg_ltoa(DatumGetInt32(value), values->data + values->len);
	else if (function == int8out)
		values->len += pg_lltoa(DatumGetInt64(value), values->data + values->len);
	else
	{
		str = OutputFunctionCall(&part->output, value);
		str = ca_prefix_utf8(str, strlen(str), &len);
		if (len > CA_MAX_KEY)
			refuse_long_key(template, len);
		put(values, str, (int) len);
	}
}

/* False when a column is NULL. */
static bool
collect_values(CaTemplate *template, TupleTableSlot *row, Scratch *scratch)
{
	resetStringInfo(&scratch->values);
	scratch->ends[0] = 0;
	for (int i = 1; i < template->part_count; i++)
	{
		CaTemplatePart *part = &template->parts[i];
		bool isnull;
		Datum value = slot_getattr(row, part->attnum, &isnull);

		if (isnull)
			return false;
		append_value(template, part, value, &scratch->values);
		scratch->ends[i] = scratch->values.len;
	}
	return true;
}

/* The n-th combination of copies: each sharded part takes its digit, the last one runs fastest. */
static void
assemble_key(CaTemplate *template, int n, Scratch *scratch)
{
	StringInfo key = &scratch->key;
	int weight = template->combinations;
	int at = 0;

	resetStringInfo(key);
	for (int i = 0; i < template->part_count; i++)
	{
		CaTemplatePart *part = &template->parts[i];

		put(key, scratch->values.data + at, scratch->ends[i] - at);
		at = scratch->ends[i];
		if (part->copies > 0)
		{
			weight /= part->copies;
			appendStringInfo(key, "#%d", n / weight % part->copies);
		}
		put(key, part->literal, part->literal_len);
	}
	if (key->len > CA_MAX_KEY)
		refuse_long_key(template, key->len);
}

/* A template that gives one key, as nearly all do: its text is made once. False when a column is NULL. */
static bool
assemble_only_key(CaTemplate *template, TupleTableSlot *row, StringInfo key)
{
	resetStringInfo(key);
	put(key, template->parts->literal, template->parts->literal_len);
	for (int i = 1; i < template->part_count; i++)
	{
		CaTemplatePart *part = &template->parts[i];
		bool isnull;
		Datum value = slot_getattr(row, part->attnum, &isnull);

		if (isnull)
			return false;
		append_value(template, part, value, key);
		if (part->copies > 0) /* one */
			put(key, "#0", 2);
		put(key, part->literal, part->literal_len);
	}
	if (key->len > CA_MAX_KEY)
		refuse_long_key(template, key->len);
	return true;
}

static void
init_scratch(Scratch *scratch, int parts)
{
	initStringInfo(&scratch->values);
	initStringInfo(&scratch->key);
	scratch->ends = palloc(parts * sizeof(int));
	scratch->room = parts;
}

static Scratch *
choose_scratch(const CaTemplate *template, Scratch *own)
{
	static MemoryContext context;
	MemoryContext previous;

	if (!ca_template_is_plain(template))
	{
		init_scratch(own, template->part_count);
		return own;
	}
	if (common.room >= template->part_count)
		return &common;
	if (context == NULL)
		context =
			AllocSetContextCreate(TopMemoryContext, "cache_aside scratch", ALLOCSET_SMALL_SIZES);
	common.room = 0;
	MemoryContextReset(context);
	previous = MemoryContextSwitchTo(context);
	init_scratch(&common, Max(template->part_count, 16));
	MemoryContextSwitchTo(previous);
	return &common;
}

void
ca_key_build(CaTemplate *template, TupleTableSlot *row, CaKeyHandler handler, void *arg)
{
	Scratch own;
	Scratch *scratch = choose_scratch(template, &own);
	int nest = -1;
	bool complete;

	if (template->pins != 0)
		nest = ca_output_settings_apply(template->pins);
	complete = template->combinations == 1 ? assemble_only_key(template, row, &scratch->key)
										   : collect_values(template, row, scratch);
	if (nest >= 0)
		ca_output_settings_undo(nest);
	for (int n = 0; complete && n < template->combinations; n++)
	{
		if (template->combinations > 1)
			assemble_key(template, n, scratch);
		handler(arg, scratch->key.data, scratch->key.len);
	}
}

bool
ca_key_same(CaTemplate *template, TupleTableSlot *old_row, TupleTableSlot *new_row)
{
	for (int i = 1; i < template->part_count; i++)
	{
		CaTemplatePart *part = &template->parts[i];
		bool old_null;
		bool new_null;
		Datum old_value = slot_getattr(old_row, part->attnum, &old_null);
		Datum new_value = slot_getattr(new_row, part->attnum, &new_null);

		if (old_null != new_null)
			return false;
		if (old_null || (part->by_value && old_value == new_value))
			continue;
		if (part->by_value || !datum_image_eq(old_value, new_value, part->by_value, part->length))
			return false;
	}
	return true;
}

/*
 * key.c: templates and rows to the text of keys.
 *
 *	"user:{tenant_id}:{id}"   {column} is the row's value, {{ and }} are literal braces
 *	"hot:{id#4}"              four copies of one entry: hot:7#0 .. hot:7#3
 *
 * Input: a template (server encoding) and a row in a slot. Output: keys in UTF-8, without prefix, to
 * a handler; a NULL in any column gives no key. The pattern of a template covers all its keys: `*`
 * per placeholder, the literal text glob-escaped.
 *
 * Key text must not depend on who writes. Values go through the type's output function, and where
 * that function reads session settings, these are pinned for the call (ISO dates, UTC, ...). Which
 * settings matter is decided once, when the template is parsed: integers, text and uuid, the hot
 * path, need none; dates and the like switch only when the session differs from the pinned value;
 * unknown types (arrays, composites, extension types) always switch all.
 *
 * Errors: 22021, 22023 and 42703 for templates, 54000 for a key longer than CA_MAX_KEY. A pinned
 * setting is undone by the (sub)transaction's abort if an output function raises. A parsed template
 * lives in the memory context that was current at ca_key_parse.
 *
 * An output function that is not one of the known ones (output_settings.c) may run anything, a write that makes
 * keys by this very template included. So nothing about a row is kept in the template, and such a
 * template's buffers are made anew for each row; the others share this backend's.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "keys/keys.h"
#include "keys/output_settings.h"

#include "access/htup_details.h"
#include "access/tupdesc.h"
#include "executor/tuptable.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#define MAX_COPIES 1000 /* keys of one row and one template */

typedef struct Part
{
	AttrNumber attnum; /* 0: literal text only */
	int copies;        /* 0: not sharded */
	bool by_value;     /* with `length`, to compare values */
	int16 length;
	int pins; /* CA_PIN_* that the output function depends on */
	FmgrInfo output;
	char *literal; /* UTF-8, follows the value */
	int literal_len;
} Part;

struct CaTemplate
{
	char *text;
	char *relname;
	char *pattern;
	int combinations; /* product of all copies */
	int pins;
	int part_count;
	Part *parts; /* the first has no value, only literal text */
};

/* One row on its way. */
typedef struct Scratch
{
	StringInfoData values; /* text of its values */
	StringInfoData key;    /* being assembled */
	int *ends;             /* where the value of each part ends in `values` */
	int room;              /* for so many parts */
} Scratch;

static Scratch common;

/* ---- parsing ---- */

static void
refuse_template(const char *str, const char *detail)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					errmsg("cache key template \"%s\" is malformed", str), errdetail("%s", detail),
					errhint("Write {column} for a value, {{ and }} for literal braces.")));
}

static void
refuse_column(const char *str, const char *column, const char *relname, bool is_virtual)
{
	if (is_virtual)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("cache key template \"%s\" names a virtual generated column", str),
						errdetail("Column \"%s\" of \"%s\" has no stored value.", column, relname),
						errhint("Use the columns it is generated from, or a stored one.")));
	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN),
					errmsg("column \"%s\" of relation \"%s\" does not exist", column, relname),
					errdetail("Template \"%s\" names it.", str),
					errhint("Use a column of the table; write {{ for a literal brace.")));
}

/* As in a shell or a JavaScript template: the "$" would become part of the key. */
void
ca_key_refuse_shell(const char *str)
{
	const char *at = strstr(str, "${");

	while (at != NULL && at[2] == '{') /* a literal brace */
		at = strstr(at + 2, "${");
	if (at == NULL)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("cache key template \"%s\" is malformed", str),
			 errdetail("It has \"${\" at character %d; the \"$\" would be part of every key.",
					   pg_mbstrlen_with_len(str, (int) (at - str)) + 1),
			 errhint("Write {column} for a value, without the \"$\".")));
}

static Form_pg_attribute
find_column(TupleDesc columns, const char *name)
{
	for (int i = 0; i < columns->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(columns, i);

		if (!column->attisdropped && strcmp(NameStr(column->attname), name) == 0)
			return column;
	}
	return NULL;
}

const char *
ca_key_missing(TupleDesc columns, const char *name)
{
	return find_column(columns, name) == NULL ? "is gone" : "is a virtual generated column now";
}

/* "column#N": cuts the name and returns N; 0 when there is no such suffix. */
static int
split_copies(char *name, const char *str)
{
	char *mark = strrchr(name, '#');
	long copies;
	char *end;

	if (mark == NULL)
		return 0;
	copies = strtol(mark + 1, &end, 10);
	if (end == mark + 1 || *end != '\0')
		return 0;
	if (copies < 1 || copies > MAX_COPIES)
		refuse_template(str, psprintf("{%s} asks for %ld copies; 1 to %d are possible.", name,
									  copies, MAX_COPIES));
	*mark = '\0';
	return (int) copies;
}

static void
fill_column(Part *part, Form_pg_attribute column)
{
	Oid function;
	bool is_varlena;

	part->attnum = column->attnum;
	part->by_value = column->attbyval;
	part->length = column->attlen;
	getTypeOutputInfo(column->atttypid, &function, &is_varlena);
	fmgr_info_cxt(function, &part->output, CurrentMemoryContext);
	part->pins = ca_output_settings_needed(&part->output);
}

static void
parse_placeholder(CaTemplate *template, Part *part, TupleDesc columns, char *name,
				  const char **missing)
{
	Form_pg_attribute column;

	if (name[0] == '\0')
		refuse_template(template->text, "It has an empty placeholder {}.");
	column = find_column(columns, name);
	if (column == NULL && (part->copies = split_copies(name, template->text)) > 0)
		column = find_column(columns, name);
	if (column == NULL || column->attgenerated == 'v')
	{
		if (missing == NULL)
			refuse_column(template->text, name, template->relname, column != NULL);
		*missing = name;
		return;
	}
	fill_column(part, column);
	template->pins |= part->pins;
	if (part->copies > 0)
		template->combinations *= part->copies;
	if (template->combinations > MAX_COPIES)
		refuse_template(template->text,
						psprintf("It stands for more than %d copies of an entry.", MAX_COPIES));
}

static void
finish_literal(Part *part, StringInfo literal, StringInfo pattern)
{
	Size len;
	char *utf8 = ca_prefix_utf8(literal->data, literal->len, &len);

	part->literal = utf8 == literal->data ? pnstrdup(utf8, len) : utf8;
	part->literal_len = (int) len;
	ca_prefix_escape(pattern, utf8, len);
	resetStringInfo(literal);
}

/* End of the placeholder that begins after `*at`; moves `*at` to its closing brace. */
static char *
read_placeholder(const char *str, const char **at)
{
	const char *end = strpbrk(*at + 1, "{}");
	char *name;

	if (end == NULL || *end == '{')
		refuse_template(str, psprintf("The brace at character %d is not closed.",
									  pg_mbstrlen_with_len(str, (int) (*at - str)) + 1));
	name = pnstrdup(*at + 1, end - *at - 1);
	*at = end;
	return name;
}

/* A key names one entry; a literal star is a pattern in the wrong place. */
static void
refuse_star(const char *str)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("cache key template \"%s\" is a pattern", str),
			 errdetail("It has a \"*\" outside its placeholders; a key names exactly one entry."),
			 errhint("Write {column} for what varies, or use attach_query(), which takes a "
					 "pattern.")));
}

static void
check_text(const char *str)
{
	if (str[0] == '\0')
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("cache key template must not be empty"),
						errdetail("An empty template names no key."),
						errhint("Write one such as \"user:{id}\".")));
	if (strlen(str) > CA_MAX_KEY)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("cache key template is too long"),
				 errdetail("It has %zu bytes; %d are allowed.", strlen(str), CA_MAX_KEY),
				 errhint("Shorten the template.")));
	ca_text_require(str, "cache key template");
}

CaTemplate *
ca_key_parse(const char *str, TupleDesc columns, const char *relname, const char **missing)
{
	CaTemplate *template = palloc0(sizeof(CaTemplate));
	StringInfoData literal;
	StringInfoData pattern;
	Part *part;

	check_text(str);
	if (missing == NULL)
		ca_key_refuse_shell(str);
	initStringInfo(&literal);
	initStringInfo(&pattern);
	template->text = pstrdup(str);
	template->relname = pstrdup(relname);
	template->combinations = 1;
	template->parts = palloc0((strlen(str) / 3 + 2) * sizeof(Part));
	part = template->parts;
	for (const char *at = str; *at != '\0'; at++)
	{
		if ((*at == '{' || *at == '}') && at[1] == *at)
			appendStringInfoChar(&literal, *at++);
		else if (*at == '{')
		{
			finish_literal(part++, &literal, &pattern);
			parse_placeholder(template, part, columns, read_placeholder(str, &at), missing);
			appendStringInfoChar(&pattern, '*');
		}
		else if (*at == '}')
			refuse_template(str, psprintf("The brace at character %d was not opened.",
										  pg_mbstrlen_with_len(str, (int) (at - str)) + 1));
		else if (*at == '*')
			refuse_star(str);
		else
			appendStringInfoChar(&literal, *at);
	}
	finish_literal(part, &literal, &pattern);
	template->part_count = (int) (part - template->parts) + 1;
	template->pattern = pattern.data;
	return template;
}

Bitmapset *
ca_key_columns(const CaTemplate *template)
{
	Bitmapset *columns = NULL;

	for (int i = 1; i < template->part_count; i++)
		columns = bms_add_member(columns, template->parts[i].attnum);
	return columns;
}

const char *
ca_key_pattern(const CaTemplate *template)
{
	return template->pattern;
}

/* Never raises for the form of a template: views show whatever triggers were written by hand. */
const char *
ca_key_template_pattern(const char *str)
{
	StringInfoData pattern;
	Size len;

	if (!ca_text_is_valid(str))
		return NULL;
	initStringInfo(&pattern);
	for (const char *at = str; *at != '\0'; at++)
	{
		const char *end;

		if ((*at == '{' || *at == '}') && at[1] == *at)
			appendStringInfoChar(&pattern, *at++);
		else if (*at == '{')
		{
			end = strpbrk(at + 1, "{}");
			if (end == NULL || *end == '{' || end == at + 1)
				return NULL;
			appendStringInfoChar(&pattern, '*');
			at = end;
		}
		else if (*at == '}' || *at == '*')
			return NULL;
		else
			ca_prefix_escape(&pattern, at, 1);
	}
	return pattern.len == 0 ? NULL : ca_prefix_pattern_utf8(pattern.data, &len);
}

/* ---- rows ---- */

static void
refuse_long_key(const CaTemplate *template, Size len)
{
	ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("cache key is too long"),
					errdetail("Template \"%s\" of table \"%s\" gives %zu bytes; %d are allowed.",
							  template->text, template->relname, len, CA_MAX_KEY),
					errhint("Use shorter columns in the template, such as the primary key.")));
}

/* Appends the text of one value, UTF-8. The commonest types skip the output function. */
static void
append_value(CaTemplate *template, Part *part, Datum value, StringInfo values)
{
	PGFunction function = part->output.fn_addr;
	char *str;
	Size len;

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
		appendBinaryStringInfoNT(values, str, (int) len);
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
		Part *part = &template->parts[i];
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
		Part *part = &template->parts[i];

		appendBinaryStringInfoNT(key, scratch->values.data + at, scratch->ends[i] - at);
		at = scratch->ends[i];
		if (part->copies > 0)
		{
			weight /= part->copies;
			appendStringInfo(key, "#%d", n / weight % part->copies);
		}
		appendBinaryStringInfoNT(key, part->literal, part->literal_len);
	}
	if (key->len > CA_MAX_KEY)
		refuse_long_key(template, key->len);
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

	if ((template->pins & CA_PIN_OTHER) != 0)
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
	complete = collect_values(template, row, scratch);
	if (nest >= 0)
		ca_output_settings_undo(nest);
	for (int n = 0; complete && n < template->combinations; n++)
	{
		assemble_key(template, n, scratch);
		handler(arg, scratch->key.data, scratch->key.len);
	}
}

bool
ca_key_same(CaTemplate *template, TupleTableSlot *old_row, TupleTableSlot *new_row)
{
	for (int i = 1; i < template->part_count; i++)
	{
		Part *part = &template->parts[i];
		bool old_null;
		bool new_null;
		Datum old_value = slot_getattr(old_row, part->attnum, &old_null);
		Datum new_value = slot_getattr(new_row, part->attnum, &new_null);

		if (old_null != new_null)
			return false;
		if (!old_null && !datum_image_eq(old_value, new_value, part->by_value, part->length))
			return false;
	}
	return true;
}

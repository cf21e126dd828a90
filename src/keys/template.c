/*
 * template.c: the text of a template, parsed against the columns of a relation.
 *
 *	"user:{tenant_id}:{id}"   {column} is the row's value, {{ and }} are literal braces
 *	"hot:{id#4}"              four copies of one entry: hot:7#0 .. hot:7#3
 *
 * Input: a template in the server's encoding. Output: its parts, which key.c puts together for each row, and the pattern
 * that covers all its keys: `*` for each placeholder, the literal text glob-escaped. For each column it is decided here,
 * once, which settings its output function depends on (output_settings.c).
 *
 * Errors: 22021, 22023 and 42703. What is parsed lives in the memory context that was current.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "keys/keys.h"
#include "keys/output_settings.h"
#include "keys/template.h"

#include "access/tupdesc.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#define MAX_COPIES 1000 /* keys of one row and one template */

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
ca_template_refuse_shell(const char *str)
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
ca_template_missing(TupleDesc columns, const char *name)
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
fill_column(CaTemplatePart *part, Form_pg_attribute column)
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
parse_placeholder(CaTemplate *template, CaTemplatePart *part, TupleDesc columns, char *name,
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
finish_literal(CaTemplatePart *part, StringInfo literal, StringInfo pattern)
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
ca_template_parse(const char *str, TupleDesc columns, const char *relname, const char **missing)
{
	CaTemplate *template = palloc0(sizeof(CaTemplate));
	StringInfoData literal;
	StringInfoData pattern;
	CaTemplatePart *part;

	check_text(str);
	if (missing == NULL)
		ca_template_refuse_shell(str);
	initStringInfo(&literal);
	initStringInfo(&pattern);
	template->text = pstrdup(str);
	template->relname = pstrdup(relname);
	template->combinations = 1;
	template->parts = palloc0((strlen(str) / 3 + 2) * sizeof(CaTemplatePart));
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

bool
ca_template_is_plain(const CaTemplate *template)
{
	return (template->pins & CA_PIN_OTHER) == 0;
}

/* May DDL that touches no relation change the text of a value? Types of extensions, labels of enums. */
bool
ca_template_is_computed(const CaTemplate *template)
{
	for (int i = 1; i < template->part_count; i++)
		if (template->parts[i].output.fn_addr == enum_out)
			return true;
	return !ca_template_is_plain(template);
}

Bitmapset *
ca_template_columns(const CaTemplate *template)
{
	Bitmapset *columns = NULL;

	for (int i = 1; i < template->part_count; i++)
		columns = bms_add_member(columns, template->parts[i].attnum);
	return columns;
}

const char *
ca_template_pattern(const CaTemplate *template)
{
	return template->pattern;
}

/* Never raises for the form of a template: views show whatever triggers were written by hand. */
const char *
ca_template_text_pattern(const char *str)
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

/*
 * template.c: any template and row to keys, and any key_prefix in front of them (key.c, prefix.c).
 *
 * Input: a byte, its first two bits the encoding of the database, then lines: template, key_prefix,
 * the row's values: "text", "value of a type with an unknown output" and the rest, two numbers and
 * which of all are NULL. Values are valid in the encoding, as the server guarantees; the template need
 * not be, for it may come from a trigger whose arguments were written by hand.
 *
 * Holds: errors quote valid text only; a key is never longer than allowed, is valid UTF-8 unless
 * nobody knows its encoding, and is covered by the pattern; both ways to the pattern agree. Bites:
 * `strlen(str) / 3 + 2` made `/ 4`; ca_prefix_escape() without "["; check_text() without
 * ca_text_require().
 */
#include "fuzz.h"

#include "access/tupdesc.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"

#include "cache_aside.h"
#include "common/common.h"
#include "keys/keys.h"
#include "keys/output_settings.h"

#define COLUMNS 5

char *guc_key_prefix;

/* ---- what key.c calls in the server ---- */

Datum
int4out(PG_FUNCTION_ARGS)
{
	return (Datum) 0;
}

Datum
int8out(PG_FUNCTION_ARGS)
{
	return (Datum) 0;
}

Datum
textout(PG_FUNCTION_ARGS)
{
	return (Datum) 0;
}

int
pg_ltoa(int32 value, char *a)
{
	return sprintf(a, "%d", value);
}

int
pg_lltoa(int64 value, char *a)
{
	return sprintf(a, INT64_FORMAT, value);
}

void
getTypeOutputInfo(Oid type, Oid *typOutput, bool *typIsVarlena)
{
	*typOutput = type;
	*typIsVarlena = type == TEXTOID;
}

void
fmgr_info_cxt(Oid functionId, FmgrInfo *finfo, MemoryContext mcxt)
{
	finfo->fn_addr = functionId == INT4OID ? int4out : functionId == INT8OID ? int8out : textout;
}

char *
OutputFunctionCall(FmgrInfo *flinfo, Datum val)
{
	return pstrdup(DatumGetCString(val));
}

int
ca_output_settings_needed(const FmgrInfo *output)
{
	return 0;
}

int
ca_output_settings_apply(int pins)
{
	return -1;
}

void
ca_output_settings_undo(int nest)
{
}

bool
datum_image_eq(Datum value1, Datum value2, bool typByVal, int typLen)
{
	return value1 == value2;
}

void
slot_getsomeattrs_int(TupleTableSlot *slot, int attnum)
{
	FUZZ_CHECK(attnum <= slot->tts_nvalid);
}

Bitmapset *
bms_add_member(Bitmapset *a, int x)
{
	FUZZ_CHECK(x > 0 && x <= COLUMNS);
	return a;
}

/* ---- a table and a row ---- */

static TupleDesc
make_columns(void)
{
	static const char *const names[COLUMNS] = {"id", "big", "n", "na me", "\xc3\xa9"};
	static const Oid types[COLUMNS] = {INT4OID, INT8OID, TEXTOID, TEXTOID, TEXTOID};
	Size size = offsetof(struct TupleDescData, attrs) + COLUMNS * sizeof(FormData_pg_attribute);
	TupleDesc desc = palloc0(size);

	desc->natts = COLUMNS;
	for (int i = 0; i < COLUMNS; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);

		strlcpy(NameStr(column->attname), names[i], NAMEDATALEN);
		column->atttypid = types[i];
		column->attnum = (AttrNumber) (i + 1);
		column->attisdropped = i == 3;
	}
	return desc;
}

static TupleTableSlot *
read_row(FuzzInput *input, TupleDesc columns)
{
	TupleTableSlot *row = palloc0(sizeof(TupleTableSlot));

	row->tts_tupleDescriptor = columns;
	row->tts_nvalid = COLUMNS;
	row->tts_values = palloc(COLUMNS * sizeof(Datum));
	row->tts_isnull = palloc0(COLUMNS * sizeof(bool));
	for (int i = 2; i < COLUMNS; i++)
	{
		char *value = fuzz_text(input);

		fuzz_require_text(value);
		row->tts_values[i] = CStringGetDatum(value);
	}
	row->tts_values[0] = Int32GetDatum((int32) fuzz_number(input));
	row->tts_values[1] = Int64GetDatum((int64) fuzz_number(input) << 32 | fuzz_number(input));
	row->tts_isnull[fuzz_byte(input) % 16 % COLUMNS] = fuzz_byte(input) % 4 == 1;
	return row;
}

/* ---- keys ---- */

static int keys_made; /* of this input's row */

/* A row may have a thousand copies of a key, which differ in digits: a few are matched. */
static void
check_key(void *pattern, const char *key, Size len)
{
	FUZZ_CHECK(len <= CA_MAX_KEY && memchr(key, '\0', len) == NULL);
	FUZZ_CHECK(fuzz_encoding == PG_SQL_ASCII || pg_verify_mbstr(PG_UTF8, key, (int) len, true));
	if (keys_made++ < 16)
		FUZZ_CHECK(ca_glob_match(pattern, strlen(pattern), key, len));
}

static void
check_prefixed(void *arg, const char *text, Size len)
{
	FUZZ_CHECK(len <= CA_MAX_KEY && memchr(text, '\0', len) == NULL);
}

static void
add_prefixes(void *pattern, const char *key, Size len)
{
	check_key(pattern, key, len);
	ca_prefix_each(CA_ENTRY_KEY, key, len, "it", check_prefixed, NULL);
}

typedef struct Template
{
	const char *str;
	const char *pattern; /* set when it is well formed */
} Template;

static void
read_pattern(void *arg)
{
	Template *template = arg;
	const char *pattern = ca_template_text_pattern(template->str);

	if (pattern != NULL)
		template->pattern = pattern;
}

static void
try(void *arg)
{
	static const int encodings[] = {PG_UTF8, PG_UTF8, PG_SQL_ASCII, PG_LATIN1};
	FuzzInput *input = arg;
	TupleDesc columns = make_columns();
	Template template = {0};
	const char *missing = NULL;
	CaTemplate *parsed;
	TupleTableSlot *row;

	fuzz_encoding = encodings[fuzz_byte(input) & 3];
	template.str = fuzz_text(input);
	guc_key_prefix = fuzz_text(input);
	row = read_row(input, columns);
	ca_prefix_assign(guc_key_prefix, NULL);
	read_pattern(&template);
	parsed = ca_template_parse(template.str, columns, "t", &missing);
	FUZZ_CHECK(template.pattern != NULL &&
			   strcmp(template.pattern, ca_template_pattern(parsed)) == 0);
	ca_prefix_each(CA_ENTRY_PATTERN, template.pattern, strlen(template.pattern), "it",
				   check_prefixed, NULL);
	if (missing != NULL)
		return;
	ca_template_columns(parsed);
	FUZZ_CHECK(ca_key_same(parsed, row, row));
	keys_made = 0;
	ca_key_build(parsed, row, add_prefixes, unconstify(char *, template.pattern));
}

const FuzzTarget fuzz_target = {try, .raises = true};

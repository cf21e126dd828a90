/*
 * prefix.c: cache_aside.key_prefix, encodings and glob text.
 *
 * Input: a key or pattern without prefix, UTF-8. Output: the text under each prefix. The setting
 * is a list, separated by commas, so that a deploy that changes the prefix invalidates under both;
 * an empty element stands for no prefix. It is applied when the key is captured: what is in the log
 * keeps the prefix it was written with.
 *
 * Keys that begin with CA_RESERVED are ours, before the prefix is added and after it: a user's key is
 * refused, for whoever could name the key of a position, a guard or a lease could falsify it. A
 * pattern that can match nothing else is refused where somebody gives it (ca_prefix_check_pattern)
 * and passed over where a rule has it: nothing of it can be cached. Whatever else a pattern matches,
 * the scan leaves our keys alone (scan.c).
 *
 * Errors: 54000 when key and prefix together are longer than CA_MAX_KEY, 22023 for reserved names.
 * The parsed list lives in TopMemoryContext and is made anew after the setting changed.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "common/debug.h"
#include "keys/keys.h"

#include "catalog/namespace.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/memutils.h"

static MemoryContext prefix_context;
static int prefix_count;
static char **prefixes;
static Size *lengths; /* of each */
static bool prefixes_stale = true;
static uint64 generation;    /* of the list */
static StringInfoData entry; /* prefix and key */

/* GUC assign hook: must not fail, hence the list is made on next use. */
void
ca_prefix_assign(const char *newval, void *extra)
{
	prefixes_stale = true;
}

static void
parse_prefixes(void)
{
	MemoryContext previous;
	const char *at = guc_key_prefix ? guc_key_prefix : "";
	int room = 1;

	if (prefix_context == NULL)
		prefix_context =
			AllocSetContextCreate(TopMemoryContext, "cache_aside prefixes", ALLOCSET_SMALL_SIZES);
	prefix_count = 0;
	MemoryContextReset(prefix_context);
	previous = MemoryContextSwitchTo(prefix_context);
	initStringInfo(&entry);
	for (const char *comma = at; *comma != '\0'; comma++)
		room += *comma == ',';
	prefixes = palloc(room * sizeof(char *));
	lengths = palloc(room * sizeof(Size));
	for (;;)
	{
		Size len;

		at += strspn(at, " \t");
		len = strcspn(at, ",");
		prefixes[prefix_count] = pnstrdup(at, len);
		at += len;
		while (len > 0 && strchr(" \t", prefixes[prefix_count][len - 1]) != NULL)
			prefixes[prefix_count][--len] = '\0';
		lengths[prefix_count++] = len;
		if (*at++ == '\0')
			break;
	}
	MemoryContextSwitchTo(previous);
	prefixes_stale = false;
	generation++;
}

uint64
ca_prefix_generation(void)
{
	if (prefixes_stale)
		parse_prefixes();
	return generation;
}

int
ca_prefix_count(void)
{
	if (prefixes_stale)
		parse_prefixes();
	return prefix_count;
}

bool
ca_prefix_is_none(void)
{
	return !prefixes_stale && prefix_count == 1 && lengths[0] == 0;
}

/* Valid until the setting changes */
const char *
ca_prefix_get(int i)
{
	return prefixes[i];
}

static void
refuse_long_entry(Size len, const char *what)
{
	ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED), errmsg("cache key is too long"),
					errdetail("%s gives %zu bytes with its prefix; %d are allowed.", what, len,
							  CA_MAX_KEY),
					errhint("Shorten the key or cache_aside.key_prefix.")));
}

void
ca_prefix_escape(StringInfo target, const char *str, Size len)
{
	for (Size i = 0; i < len; i++)
	{
		if (strchr("*?[]\\", str[i]) != NULL && str[i] != '\0')
			appendStringInfoChar(target, '\\');
		appendStringInfoChar(target, str[i]);
	}
}

/*
 * Server encoding to UTF-8; returns `text` itself when nothing is to be done. SQL_ASCII means that
 * nobody knows: the bytes stay as they are, for verifying them would refuse the user's write.
 */
char *
ca_prefix_utf8(const char *str, Size len, Size *result_len)
{
	int encoding = GetDatabaseEncoding();
	char *utf8;

	*result_len = len;
	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII || len == 0)
		return unconstify(char *, str);
	utf8 = pg_server_to_any(str, (int) len, PG_UTF8);
	if (utf8 != str)
		*result_len = strlen(utf8);
	return utf8;
}

/*
 * The same for a pattern that a rule has, which must not raise: one bad rule would keep all others
 * from being read. What cannot be converted, and all behind it, becomes a star: that covers more.
 */
char *
ca_prefix_pattern_utf8(const char *str, Size *result_len)
{
	int encoding = GetDatabaseEncoding();
	Size len = strlen(str);
	Oid function;
	char *utf8;
	int done;

	*result_len = len;
	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII || len == 0)
		return unconstify(char *, str);
	function = FindDefaultConversionProc(encoding, PG_UTF8);
	utf8 = palloc0(len * MAX_CONVERSION_GROWTH + 2);
	done = pg_do_encoding_conversion_buf(
		function, encoding, PG_UTF8, unconstify(unsigned char *, (const unsigned char *) str),
		(int) len, (unsigned char *) utf8, (int) (len * MAX_CONVERSION_GROWTH) + 1, true);
	if ((Size) done < len)
	{
		utf8[strcspn(utf8, "[\\")] = '\0'; /* nor may a set or an escape be cut in two */
		strcat(utf8, "*");
	}
	*result_len = strlen(utf8);
	return utf8;
}

/* UTF-8 to server encoding, to show a key; `utf8` is NUL-terminated. */
char *
ca_prefix_from_utf8(char *utf8)
{
	int encoding = GetDatabaseEncoding();

	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII)
		return utf8;
	return pg_any_to_server(utf8, (int) strlen(utf8), PG_UTF8);
}

bool
ca_prefix_is_reserved(const char *key, Size len)
{
	return len >= sizeof(CA_RESERVED) - 1 && memcmp(key, CA_RESERVED, sizeof(CA_RESERVED) - 1) == 0;
}

static bool
is_reserved(char kind, const char *str, Size len)
{
	return kind == CA_ENTRY_KEY ? ca_prefix_is_reserved(str, len)
								: ca_glob_begins(str, len, CA_RESERVED, sizeof(CA_RESERVED) - 1);
}

static void
refuse_reserved(const char *what, const char *names)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("cache key is reserved"),
			 errdetail("%s names %s \"" CA_RESERVED "\".", what, names),
			 errhint("Such keys hold positions, guards, leases and sticks. Choose another name, "
					 "or another cache_aside.key_prefix.")));
}

/* The text under the i-th prefix; it may be `str` itself, or `entry`. */
static const char *
put_prefix(int i, char kind, const char *str, Size *len)
{
	if (lengths[i] == 0)
		return str;
	resetStringInfo(&entry);
	if (kind == CA_ENTRY_PATTERN)
		ca_prefix_escape(&entry, prefixes[i], lengths[i]);
	else
		appendBinaryStringInfo(&entry, prefixes[i], (int) lengths[i]);
	appendBinaryStringInfo(&entry, str, (int) *len);
	*len = entry.len;
	return entry.data;
}

bool
ca_prefix_reserves(const char *pattern, Size len)
{
	bool reserved = is_reserved(CA_ENTRY_PATTERN, pattern, len);

	if (prefixes_stale)
		parse_prefixes();
	for (int i = 0; i < prefix_count; i++)
	{
		Size n = len;
		const char *prefixed = put_prefix(i, CA_ENTRY_PATTERN, pattern, &n);

		reserved |= is_reserved(CA_ENTRY_PATTERN, prefixed, n);
	}
	return reserved;
}

void
ca_prefix_check_pattern(const char *pattern, Size len, const char *what)
{
	if (ca_prefix_reserves(pattern, len))
		refuse_reserved(what, "only keys that begin with");
}

/*
 * Calls `handler` with the text under each prefix. `what` begins the DETAIL of an error; NULL for a
 * pattern that does not go into the log, and may have any length.
 */
void
ca_prefix_each(char kind, const char *str, Size len, const char *what, CaKeyHandler handler,
			   void *arg)
{
	bool reserved = is_reserved(kind, str, len);

	if (prefixes_stale)
		parse_prefixes();
	for (int i = 0; i < prefix_count; i++)
	{
		Size prefixed_len = len;
		const char *prefixed;

		if (what != NULL && lengths[i] + len > CA_MAX_KEY)
			refuse_long_entry(lengths[i] + len, what);
		prefixed = put_prefix(i, kind, str, &prefixed_len);
		if (what != NULL && prefixed_len > CA_MAX_KEY) /* the escapes */
			refuse_long_entry(prefixed_len, what);
		if ((!reserved && (prefixed == str || !is_reserved(kind, prefixed, prefixed_len))) ||
			CA_DEBUG_SKIP("reserved"))
			handler(arg, prefixed, prefixed_len);
		else if (kind == CA_ENTRY_KEY)
			refuse_reserved(what, "a key that begins with");
	}
}

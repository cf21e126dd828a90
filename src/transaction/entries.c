/*
 * entries.c: keys and patterns into the pending set, once for each prefix.
 *
 * Input: a key or pattern as rules and SQL functions give it, without prefix, UTF-8. Output: entries of the
 * open transaction (pending.c). Errors: those of ca_prefix_each and of ca_pending_add.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "keys/keys.h"
#include "transaction/transaction.h"

/* With the keys, once: the set of pending entries has no duplicates. */
static void
note_prefixes(void)
{
	Size len;
	const char *packed = ca_keyspace_packed(&len);

	if (len > 0)
		ca_pending_add(CA_ENTRY_PREFIXES, packed, len);
}

static void
add_entry(void *kind, const char *str, Size len)
{
	ca_pending_add(*(char *) kind, str, len);
}

void
ca_entries_add_key(const char *key, Size len, const char *what)
{
	char kind = CA_ENTRY_KEY;

	/* Nothing to put before it, nor to note. What is wrong with a key is told on the long way. */
	if (ca_prefix_is_none() && len <= CA_MAX_KEY && !ca_prefix_is_reserved(key, len))
	{
		ca_pending_add(kind, key, len);
		return;
	}
	ca_prefix_each(kind, key, len, what, add_entry, &kind);
	note_prefixes();
}

void
ca_entries_add_pattern(const char *pattern, Size len, const char *what)
{
	char kind = CA_ENTRY_PATTERN;

	ca_prefix_each(kind, pattern, len, what, add_entry, &kind);
	note_prefixes();
}

/* What is longer than a record takes ends earlier, in a star: that covers more. */
static void
add_shortened(void *arg, const char *str, Size len)
{
	StringInfoData shorter;

	if (len <= CA_MAX_KEY)
	{
		ca_pending_add(CA_ENTRY_PATTERN, str, len);
		return;
	}
	initStringInfo(&shorter);
	appendBinaryStringInfo(&shorter, str, (int) ca_glob_cut(str, len, CA_MAX_KEY - 1));
	appendStringInfoChar(&shorter, '*');
	ca_pending_add(CA_ENTRY_PATTERN, shorter.data, shorter.len);
	pfree(shorter.data);
}

/*
 * The pattern of a rule, whatever it is: writes, TRUNCATE and DDL must not fail on it. It may have been
 * made while nobody checked it, or before the prefix. An empty one names nothing.
 */
void
ca_entries_add_rule_pattern(const char *pattern)
{
	if (pattern[0] == '\0')
		return;
	ca_prefix_each(CA_ENTRY_PATTERN, pattern, strlen(pattern), NULL, add_shortened, NULL);
	note_prefixes();
}

/*
 * pattern_index.c: which of many patterns match a key, without trying them all.
 *
 * Nearly all patterns begin with literal text, and what they match begins with it too. So patterns are
 * sorted by their literal prefix, and each knows the next one before it whose prefix begins its own
 * (`wider`). Prefixes of a key sort before it, and whatever lies between a prefix and the key begins with
 * that prefix. Hence the last pattern whose prefix is not behind the key has all that can match among
 * itself and those wider than it: a binary search, and a walk along a chain.
 *
 * Patterns that begin with a star are tried on every key, as they must be. No pattern is copied: they
 * live as long as the index. Pure functions of their arguments, but for memory (CurrentMemoryContext).
 */
#include "cache_aside.h"
#include "common/common.h"
#include "resync/resync.h"

typedef struct Entry
{
	const char *text;
	Size len;
	const char *prefix; /* unescaped */
	Size prefix_len;
	int wider; /* -1: none */
} Entry;

struct CaPatternIndex
{
	char *prefixes;
	int n;
	Entry entries[FLEXIBLE_ARRAY_MEMBER];
};

static int
compare_texts(const char *a, Size a_len, const char *b, Size b_len)
{
	int order = memcmp(a, b, Min(a_len, b_len));

	return order != 0 ? order : (a_len > b_len) - (a_len < b_len);
}

static int
compare_entries(const void *a, const void *b)
{
	const Entry *x = a;
	const Entry *y = b;

	return compare_texts(x->prefix, x->prefix_len, y->prefix, y->prefix_len);
}

static bool
begins(const Entry *entry, const char *subject, Size len)
{
	return entry->prefix_len <= len && memcmp(entry->prefix, subject, entry->prefix_len) == 0;
}

/* Each walks past entries that nobody after it walks past again. */
static void
link_wider(CaPatternIndex *index)
{
	Entry *entries = index->entries;

	for (int i = 0; i < index->n; i++)
	{
		int at = i - 1;

		while (at >= 0 && !begins(&entries[at], entries[i].prefix, entries[i].prefix_len))
			at = entries[at].wider;
		entries[i].wider = at;
	}
}

CaPatternIndex *
ca_pattern_index_make(const CaGlob *patterns, int n)
{
	CaPatternIndex *index =
		palloc_extended(offsetof(CaPatternIndex, entries) + n * sizeof(Entry), MCXT_ALLOC_HUGE);
	Size bytes = 1;
	char *free;

	for (int i = 0; i < n; i++)
		bytes += patterns[i].len;
	free = index->prefixes = palloc_extended(bytes, MCXT_ALLOC_HUGE);
	index->n = n;
	for (int i = 0; i < n; i++)
	{
		Entry *entry = &index->entries[i];

		entry->text = patterns[i].text;
		entry->len = patterns[i].len;
		entry->prefix = free;
		entry->prefix_len = ca_glob_prefix(entry->text, entry->len, free);
		free += entry->prefix_len;
	}
	qsort(index->entries, n, sizeof(Entry), compare_entries);
	link_wider(index);
	return index;
}

void
ca_pattern_index_free(CaPatternIndex *index)
{
	pfree(index->prefixes);
	pfree(index);
}

/* What all the prefixes begin with: what the first and the last have in common. */
Size
ca_pattern_index_common(const CaPatternIndex *index, const char **common)
{
	const Entry *first = &index->entries[0];
	const Entry *last = &index->entries[index->n - 1];
	Size n = 0;

	while (n < first->prefix_len && n < last->prefix_len && first->prefix[n] == last->prefix[n])
		n++;
	*common = first->prefix;
	return n;
}

/* The last entry whose prefix is not behind the key; -1: none. */
static int
last_not_behind(const CaPatternIndex *index, const char *key, Size len)
{
	int low = 0;
	int high = index->n;

	while (low < high)
	{
		int middle = low + (high - low) / 2;
		const Entry *entry = &index->entries[middle];

		if (compare_texts(entry->prefix, entry->prefix_len, key, len) <= 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low - 1;
}

static void
spend(Size *budget, Size cost)
{
	*budget -= Min(*budget, cost);
}

/*
 * Does any pattern match? Stops when the budget is spent (bytes of pattern times bytes of key) and is then
 * to be called again with the same *reached, which is 0 at first.
 */
CaPatternMatch
ca_pattern_index_match(const CaPatternIndex *index, const char *key, Size len, int *reached,
					   Size *budget)
{
	int at = *reached > 0 ? *reached - 1 : last_not_behind(index, key, len);

	*reached = 0;
	for (; at >= 0; at = index->entries[at].wider)
	{
		const Entry *entry = &index->entries[at];

		if (*budget == 0)
		{
			*reached = at + 1;
			return CA_PATTERN_LATER;
		}
		if (!begins(entry, key, len))
			spend(budget, entry->prefix_len + 1);
		else
		{
			spend(budget, (entry->len + 1) * (len + 1));
			if (ca_glob_match(entry->text, entry->len, key, len))
				return CA_PATTERN_MATCHES;
		}
	}
	spend(budget, len + 1);
	return CA_PATTERN_MISSES;
}

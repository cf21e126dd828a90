/*
 * patterns.c: a key is matched by an index of patterns exactly when one of them matches it
 * (pattern_index.c).
 *
 * Input: a byte, the budget of one call; lines that are patterns; the rest is the key. Patterns of letters
 * of a small alphabet share prefixes, which is where the index could err (the dictionary has the
 * letters that mean something).
 *
 * Holds: the same answer as trying each pattern, whatever the budget; the common prefix begins whatever
 * matches; a key costs what the patterns cost whose prefix begins it, or begins the last prefix not behind it,
 * however many others there are. Bites: `low - 1` in last_not_behind() made `low - 2`, `<= 0` there made `< 0`, -1
 * for each wider; and for the cost, `at - 1` for each wider.
 */
#include "fuzz.h"

#include "cache_aside.h"
#include "common/common.h"
#include "resync/resync.h"

#include "utils/memutils.h"

#define MOST 64

static bool
matches_one(const CaGlob *patterns, int n, const char *key, Size len)
{
	for (int i = 0; i < n; i++)
		if (ca_glob_match(patterns[i].text, patterns[i].len, key, len))
			return true;
	return false;
}

typedef struct Prefix
{
	char *text;
	Size len;
} Prefix;

static bool
begins(const Prefix *prefix, const char *text, Size len)
{
	return prefix->len <= len && memcmp(prefix->text, text, prefix->len) == 0;
}

static int
compare(const Prefix *prefix, const char *text, Size len)
{
	int order = memcmp(prefix->text, text, Min(prefix->len, len));

	return order != 0 ? order : (prefix->len > len) - (prefix->len < len);
}

/* What looking up the key may cost: of the patterns that the index cannot rule out by their order. */
static Size
most_cost(const CaGlob *patterns, int n, const char *key, Size len)
{
	Prefix prefixes[MOST];
	Prefix *last = NULL;
	Size cost = len + 1;

	for (int i = 0; i < n; i++)
	{
		prefixes[i].text = palloc(patterns[i].len + 1);
		prefixes[i].len = ca_glob_prefix(patterns[i].text, patterns[i].len, prefixes[i].text);
		if (compare(&prefixes[i], key, len) <= 0 &&
			(!last || compare(&prefixes[i], last->text, last->len) > 0))
			last = &prefixes[i];
	}
	for (int i = 0; i < n; i++)
	{
		if (begins(&prefixes[i], key, len))
			cost += (patterns[i].len + 1) * (len + 1);
		else if (last && begins(&prefixes[i], last->text, last->len))
			cost += prefixes[i].len + 1;
	}
	return cost;
}

static void
try(void *arg)
{
	FuzzInput *input = arg;
	Size step = fuzz_byte(input) + 1;
	int wanted = fuzz_byte(input) % MOST + 1;
	CaGlob patterns[MOST];
	CaPatternIndex *index;
	CaPatternMatch answer;
	const char *common;
	Size common_len;
	Size all = MaxAllocHugeSize;
	int reached = 0;
	char *key;
	Size len;

	for (int i = 0; i < wanted; i++)
		patterns[i].text = fuzz_bytes(input, &patterns[i].len);
	key = fuzz_rest(input, &len);
	index = ca_pattern_index_make(patterns, wanted);
	common_len = ca_pattern_index_common(index, &common);
	do
	{
		Size budget = step;

		answer = ca_pattern_index_match(index, key, len, &reached, &budget);
	} while (answer == CA_PATTERN_LATER);
	FUZZ_CHECK(ca_pattern_index_match(index, key, len, &reached, &all) == answer);
	FUZZ_CHECK(MaxAllocHugeSize - all <= most_cost(patterns, wanted, key, len));
	FUZZ_CHECK((answer == CA_PATTERN_MATCHES) == matches_one(patterns, wanted, key, len));
	if (answer == CA_PATTERN_MATCHES)
		FUZZ_CHECK(common_len <= len && memcmp(common, key, common_len) == 0);
	ca_pattern_index_free(index);
}

const FuzzTarget fuzz_target = {try, .raises = false};

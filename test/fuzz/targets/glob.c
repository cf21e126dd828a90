/*
 * glob.c: any pattern against any key (glob.c).
 *
 * Input: two numbers of repetitions, a line that is the pattern, the rest is the key; each is repeated
 * up to 1 kB, so that a matcher whose time is exponential (Redis's was until 2023) or worse than
 * pattern times key is found as a hang.
 *
 * Holds: an escaped text matches itself and nothing longer; what matches begins with the pattern's
 * literal prefix; a star in front matches as well. Bites: `s + 1 < end` in match_set() made
 * `s < end`, and `subject_len` not passed on by a matcher that recurses at each star.
 */
#include "fuzz.h"

#include "cache_aside.h"
#include "common/common.h"

#define MOST 1024

static char *
repeat(const char *piece, Size *len, Size times)
{
	Size n = *len == 0 ? 0 : Min(times + 1, MOST / *len + 1);
	char *all = palloc(n * *len);

	for (Size i = 0; i < n; i++)
		memcpy(all + i * *len, piece, *len);
	*len *= n;
	return all;
}

static void
check_escaped(const char *key, Size len)
{
	StringInfoData escaped;
	char *copy;
	char *literal;
	Size literal_len;

	initStringInfo(&escaped);
	ca_glob_escape(&escaped, key, len);
	copy = palloc(escaped.len);
	memcpy(copy, escaped.data, escaped.len);
	literal = palloc(escaped.len);
	literal_len = ca_glob_prefix(copy, escaped.len, literal);
	FUZZ_CHECK(literal_len == len && memcmp(literal, key, len) == 0);
	FUZZ_CHECK(ca_glob_match(copy, escaped.len, key, len));
	FUZZ_CHECK(len == 0 || !ca_glob_match(copy, escaped.len, key, len - 1));
}

static void
try(void *arg)
{
	FuzzInput *input = arg;
	Size pattern_times = fuzz_byte(input) * fuzz_byte(input);
	Size key_times = fuzz_byte(input) * fuzz_byte(input);
	Size pattern_len;
	Size key_len;
	char *pattern = fuzz_bytes(input, &pattern_len);
	char *key = fuzz_rest(input, &key_len);
	char *prefix;
	Size prefix_len;

	pattern = repeat(pattern, &pattern_len, pattern_times);
	key = repeat(key, &key_len, key_times);
	prefix = palloc(pattern_len);
	prefix_len = ca_glob_prefix(pattern, pattern_len, prefix);
	if (ca_glob_match(pattern, pattern_len, key, key_len))
	{
		char *wider = palloc(pattern_len + 1);

		FUZZ_CHECK(prefix_len <= key_len && memcmp(prefix, key, prefix_len) == 0);
		wider[0] = '*';
		memcpy(wider + 1, pattern, pattern_len);
		FUZZ_CHECK(ca_glob_match(wider, pattern_len + 1, key, key_len));
	}
	check_escaped(key, key_len);
}

const FuzzTarget fuzz_target = {try, .raises = false};

/*
 * glob.c: Redis glob patterns, as SCAN MATCH understands them.
 *
 * A scan for several patterns reads the keyspace once and matches here; it asks Redis only for the
 * longest literal prefix that all of them share. The rules are Redis's own (util.c, stringmatchlen):
 * `*` any run, `?` one byte, `[a-z]` and `[^a-z]` sets, `\` takes the next byte literally.
 * Bytes, not characters. Pure functions of their arguments.
 */
#include "cache_aside.h"
#include "common/common.h"

/* Length of the literal prefix, which is copied to `out` (at least `len` bytes) unescaped. */
Size
ca_glob_prefix(const char *pattern, Size len, char *out)
{
	Size n = 0;

	for (Size i = 0; i < len; i++)
	{
		char c = pattern[i];

		if (c == '*' || c == '?' || c == '[')
			break;
		if (c == '\\' && i + 1 < len)
			c = pattern[++i];
		out[n++] = c;
	}
	return n;
}

/* Matches one byte against the set that starts behind '['; *p moves to its last byte. */
static bool
match_set(const char **p, const char *end, unsigned char c)
{
	const char *s = *p;
	bool negated = s < end && *s == '^';
	bool found = false;

	if (negated)
		s++;
	for (; s < end && *s != ']'; s++)
	{
		unsigned char low;
		unsigned char high;

		if (*s == '\\' && s + 1 < end)
			s++;
		low = high = (unsigned char) *s;
		if (s + 2 < end && s[1] == '-' && s[-1] != '\\')
		{
			high = (unsigned char) s[2];
			s += 2;
		}
		found |= c >= Min(low, high) && c <= Max(low, high);
	}
	*p = s < end ? s : end - 1;
	return found != negated;
}

/* Where the unit ends that begins here: a byte, an escaped byte, a set. */
static const char *
skip_unit(const char *p, const char *end)
{
	if (*p == '\\' && p + 1 < end)
		return p + 2;
	if (*p != '[')
		return p + 1;
	p++;
	(void) match_set(&p, end, 0);
	return p + 1;
}

/* The longest beginning, of at most `most` bytes, that cuts no unit in two. */
Size
ca_glob_cut(const char *pattern, Size len, Size most)
{
	const char *end = pattern + len;
	const char *p = pattern;

	while (p < end)
	{
		const char *next = skip_unit(p, end);

		if (next > pattern + most)
			break;
		p = next;
	}
	return p - pattern;
}

/* Must everything that matches begin with the literal text? A set counts if it has one byte only. */
bool
ca_glob_begins(const char *pattern, Size len, const char *literal, Size literal_len)
{
	const char *end = pattern + len;
	const char *p = pattern;

	for (Size i = 0; i < literal_len; i++, p++)
	{
		const char *set = p + 1;

		if (p == end || *p == '*' || *p == '?')
			return false;
		if (*p == '[')
		{
			for (int c = 0; c < 256; c++)
			{
				set = p + 1;
				if (match_set(&set, end, (unsigned char) c) != (c == (unsigned char) literal[i]))
					return false;
			}
			p = set;
			continue;
		}
		if (*p == '\\' && p + 1 < end)
			p++;
		if (*p != literal[i])
			return false;
	}
	return true;
}

void
ca_glob_escape(StringInfo out, const char *subject, Size len)
{
	for (Size i = 0; i < len; i++)
	{
		if (strchr("*?[]^\\-", subject[i]) != NULL && subject[i] != '\0')
			appendStringInfoChar(out, '\\');
		appendStringInfoChar(out, subject[i]);
	}
}

/* Does `subject` match? Iterative: one place to come back to, the last star. */
bool
ca_glob_match(const char *pattern, Size pattern_len, const char *subject, Size subject_len)
{
	const char *p = pattern;
	const char *pend = pattern + pattern_len;
	const char *t = subject;
	const char *tend = subject + subject_len;
	const char *star = NULL;
	const char *star_text = NULL;

	while (t < tend)
	{
		const char *q = p;
		bool matched = false;

		if (p < pend && *p == '*')
		{
			star = ++p;
			star_text = t;
			continue;
		}
		if (p < pend && *p == '?')
			matched = true;
		else if (p < pend && *p == '[')
		{
			q = p + 1;
			matched = match_set(&q, pend, (unsigned char) *t);
		}
		else if (p < pend)
		{
			if (*p == '\\' && p + 1 < pend)
				q = p + 1;
			matched = *q == *t;
		}
		if (matched)
		{
			p = q + 1;
			t++;
		}
		else if (star)
		{
			p = star;
			t = ++star_text;
		}
		else
			return false;
	}
	while (p < pend && *p == '*')
		p++;
	return p == pend;
}

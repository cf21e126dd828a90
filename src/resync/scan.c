/*
 * scan.c: patterns; SCAN and UNLINK in steps between normal deliveries.
 *
 * TRUNCATE, invalidate_pattern() and a resync ask for patterns. They are collected for the next pass
 * over the keyspace; a pass serves up to PASS_PATTERNS patterns that were asked for before it began,
 * and whoever asks during a pass waits for the next one (SCAN returns every key that is there from
 * the beginning to the end of a full iteration, so only a pass that begins later is complete).
 * A ticket is the number of the pass; ca_scan_done tells the last one that ended.
 *
 * One command is unanswered at a time and steps are spaced so that at most guc_scan_rate keys are
 * looked at per second: neither Redis nor the deliveries beside it notice. An error answer or a lost
 * connection ends the session; the commits that wait for the pass are read again from the log.
 *
 * Patterns and keys are other people's text, and matching a pattern costs in the worst case its length
 * times the key's. So a page is looked at in steps of LOOK_COST, between which the worker does the
 * rest of its work; keys longer than any rule can name are left alone; and Redis, which cannot stop in
 * between, is given the literal prefix alone when the pattern could be costly (an old one takes
 * exponential time for many stars).
 *
 * The caller raises the guard's floor when a pass begins (ca_scan_begins), so that no guarded fill
 * puts an old value behind the cursor.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "common/debug.h"
#include "keys/keys.h"
#include "redis/redis.h"
#include "shared/status.h"
#include "resync/resync.h"

#include <math.h>

#include "lib/ilist.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define STEP_KEYS 512
#define PASS_PATTERNS 32768 /* most in one pass */
#define MOST_PATTERNS 32768 /* asked for and not served; what transactions may add stops here, */
#define MOST_BYTES (8 * 1024 * 1024) /* or here */
#define LOOK_BACK                                                                                  \
	1024 /* patterns asked for last, among which one is looked for before it is added */
#define LOOK_COST (16 * 1024 * 1024) /* bytes of keys times bytes of patterns in one step */
#define CHEAP_PATTERN 128            /* bytes; with one star at most, Redis may match it */

typedef struct Pattern
{
	dlist_node node;
	uint64 pass; /* that will serve it */
	Size len;
	char text[FLEXIBLE_ARRAY_MEMBER];
} Pattern;

/*
 * Of the server: a transaction asks for its pattern once, and its ticket is done when every Redis was scanned. With
 * a second sink `ended` has to wait for the last of them; how far each is, its CaScan has.
 */
static MemoryContext scan_cxt;
static dlist_head wanted = DLIST_STATIC_INIT(wanted); /* for the next pass */
static dlist_head served = DLIST_STATIC_INIT(served); /* by the pass under way */
static uint64 nwanted;
static Size wanted_bytes;
static uint64 begun; /* passes */
static uint64 ended;
static StringInfoData match;
static CaPatternIndex *served_index;

static void
free_patterns(dlist_head *list)
{
	while (!dlist_is_empty(list))
		pfree(dlist_container(Pattern, node, dlist_pop_head_node(list)));
}

static void
free_served(void)
{
	if (served_index)
		ca_pattern_index_free(served_index);
	served_index = NULL;
	free_patterns(&served);
}

/* Nothing waits for a pass any more. */
void
ca_scan_forget(void)
{
	free_patterns(&wanted);
	free_served();
	nwanted = 0;
	wanted_bytes = 0;
	ended = begun;
}

/*
 * A cursor of SCAN counts upwards in reversed bits: reversed again, it is the share of the buckets that were looked at, whatever
 * their number is.
 */
static double
share_of(const char *cursor)
{
	uint64 bits = strtoull(cursor, NULL, 10);
	uint64 reversed = 0;

	for (int i = 0; i < 64; i++, bits >>= 1)
		reversed = reversed << 1 | (bits & 1);
	return ldexp((double) reversed, -64);
}

static void
show(const CaScan *scan)
{
	double share = share_of(scan->cursor);

	ca_status_put_scan(
		&(CaStatusScan){.since = scan->running ? scan->since : 0,
						.seen = scan->looked_at,
						.total = share > 0 ? (uint64) Min(scan->looked_at / share, 1e15) : 0});
}

void
ca_scan_reset(CaScan *scan)
{
	scan->running = scan->waiting = false;
	scan->deleted = 0;
	scan->page_count = scan->page_looked = scan->page_matched = 0;
	scan->page_reached = 0;
	scan->failure[0] = '\0';
	show(scan);
}

/* Looks among the patterns asked for last; one that is missed costs a little time, no more. */
static Pattern *
find_wanted(const char *pattern, Size len)
{
	dlist_iter iter;
	int looks = 0;

	dlist_reverse_foreach(iter, &wanted)
	{
		Pattern *p = dlist_container(Pattern, node, iter.cur);

		if (p->len == len && memcmp(p->text, pattern, len) == 0)
			return p;
		if (++looks == LOOK_BACK)
			break;
	}
	return NULL;
}

uint64
ca_scan_request(const char *pattern, Size len)
{
	Pattern *p;

	if (scan_cxt == NULL)
		scan_cxt =
			AllocSetContextCreate(TopMemoryContext, "cache_aside scan", ALLOCSET_DEFAULT_SIZES);
	p = find_wanted(pattern, len);
	if (p != NULL)
		return p->pass;
	p = MemoryContextAlloc(scan_cxt, offsetof(Pattern, text) + len);
	p->pass = begun + 1 + nwanted / PASS_PATTERNS;
	p->len = len;
	memcpy(p->text, pattern, len);
	dlist_push_tail(&wanted, &p->node);
	nwanted++;
	wanted_bytes += len;
	return p->pass;
}

bool
ca_scan_full(void)
{
	return nwanted >= MOST_PATTERNS || wanted_bytes >= MOST_BYTES;
}

uint64
ca_scan_done(void)
{
	return ended;
}

bool
ca_scan_running(CaScan *scan)
{
	return scan->running || !dlist_is_empty(&wanted);
}

const char *
ca_scan_error(CaScan *scan)
{
	return scan->failure[0] ? scan->failure : NULL;
}

static bool
is_cheap(const Pattern *p)
{
	int stars = 0;

	for (Size i = 0; i < p->len; i++)
		stars += p->text[i] == '*';
	return stars <= 1 && p->len <= CHEAP_PATTERN;
}

/* What Redis is asked for: the one pattern, or the literal prefix that all share, and a star. */
static void
choose_match(void)
{
	Pattern *first = dlist_head_element(Pattern, node, &served);
	const char *common;
	Size n = ca_pattern_index_common(served_index, &common);

	resetStringInfo(&match);
	if (!dlist_has_next(&served, &first->node) && is_cheap(first))
		appendBinaryStringInfo(&match, first->text, first->len);
	else
	{
		ca_glob_escape(&match, common, n);
		appendStringInfoChar(&match, '*');
	}
}

/* The patterns that were asked for first become those of this pass. */
static void
serve_wanted(void)
{
	int n = (int) Min(nwanted, PASS_PATTERNS);
	CaGlob *globs = palloc_extended(n * sizeof(CaGlob), MCXT_ALLOC_HUGE);

	for (int i = 0; i < n; i++)
	{
		Pattern *p = dlist_container(Pattern, node, dlist_pop_head_node(&wanted));

		wanted_bytes -= p->len;
		dlist_push_tail(&served, &p->node);
		globs[i] = (CaGlob){p->text, p->len};
	}
	nwanted -= n;
	served_index = ca_pattern_index_make(globs, n);
	pfree(globs);
}

static void
begin_pass(CaScan *scan)
{
	MemoryContext old = MemoryContextSwitchTo(scan_cxt);

	if (match.data == NULL)
		initStringInfo(&match);
	serve_wanted();
	choose_match();
	MemoryContextSwitchTo(old);
	CA_DEBUG_POINT("scan-begins");
	begun++;
	scan->running = true;
	scan->last_page = false;
	strlcpy(scan->cursor, "0", sizeof(scan->cursor));
	scan->looked_at = 0;
	scan->since = GetCurrentTimestamp();
	show(scan);
}

static bool
answer_ok(CaScan *scan, const CaReply *reply)
{
	Size len;

	scan->waiting = false;
	if (reply == NULL)
		strlcpy(scan->failure, "connection lost", sizeof(scan->failure));
	else if (ca_redis_reply_type(reply) == CA_REPLY_ERROR)
	{
		ca_status_count(CA_COUNT_SCAN_ERRORS, 1);
		strlcpy(scan->failure, ca_redis_reply_text(reply, &len), sizeof(scan->failure));
	}
	return scan->failure[0] == '\0';
}

static void
tell_served(const CaScan *scan)
{
	dlist_iter iter;

	if (scan->served == NULL)
		return;
	dlist_foreach (iter, &served)
	{
		const Pattern *p = dlist_container(Pattern, node, iter.cur);

		scan->served(scan->served_arg, p->text, p->len);
	}
}

static void
finish_page(CaScan *scan)
{
	if (!scan->last_page)
		return;
	tell_served(scan);
	free_served();
	scan->running = false;
	ended = begun;
	show(scan);
}

static void
handle_unlink(void *arg, const CaReply *reply)
{
	CaScan *scan = arg;
	if (answer_ok(scan, reply))
	{
		int64 deleted = Max(0, ca_redis_reply_integer(reply));

		scan->deleted += deleted;
		ca_status_count(CA_COUNT_SCAN_KEYS, deleted);
		finish_page(scan);
	}
}

/* Deletes what matched on this page. */
static void
unlink_matching(CaScan *scan, CaRedis *redis)
{
	const char **argv = palloc(sizeof(char *) * (scan->page_matched + 1));
	size_t *argvlen = palloc(sizeof(size_t) * (scan->page_matched + 1));

	argv[0] = "UNLINK";
	argvlen[0] = 6;
	for (Size i = 0; i < scan->page_matched; i++)
	{
		argv[i + 1] = scan->page.data + scan->page_keys[i].offset;
		argvlen[i + 1] = scan->page_keys[i].len;
	}
	scan->waiting = true;
	ca_redis_send(redis, (int) scan->page_matched + 1, argv, argvlen, handle_unlink, scan);
	pfree(argv);
	pfree(argvlen);
}

/* Looks at the page as far as one step goes; at its end, deletes what matched. */
static void
look_at_page(CaScan *scan, CaRedis *redis)
{
	Size budget = LOOK_COST;

	while (scan->page_looked < scan->page_count)
	{
		CaSlice key = scan->page_keys[scan->page_looked];
		CaPatternMatch answer = ca_pattern_index_match(served_index, scan->page.data + key.offset,
													   key.len, &scan->page_reached, &budget);

		if (answer == CA_PATTERN_LATER)
			return;
		if (answer == CA_PATTERN_MATCHES)
			scan->page_keys[scan->page_matched++] = key;
		scan->page_looked++;
	}
	scan->page_looked = scan->page_count = 0;
	if (scan->page_matched > 0)
		unlink_matching(scan, redis);
	else
		finish_page(scan);
	scan->page_matched = 0;
}

/* Keeps a page's keys, but for those that no pattern deletes: our own are nobody's cache. */
static void
keep_page(CaScan *scan, const CaReply *keys)
{
	MemoryContext old = MemoryContextSwitchTo(scan_cxt);
	Size n = ca_redis_reply_count(keys);

	if (scan->page.data == NULL)
		initStringInfo(&scan->page);
	if (scan->page_keys)
		pfree(scan->page_keys);
	scan->page_keys = palloc_extended(sizeof(CaSlice) * (n + 1), MCXT_ALLOC_HUGE);
	MemoryContextSwitchTo(old);
	resetStringInfo(&scan->page);
	for (Size i = 0; i < n; i++)
	{
		const CaReply *key = ca_redis_reply_element(keys, i);
		Size len;
		const char *name = ca_redis_reply_text(key, &len);

		if (ca_redis_reply_type(key) != CA_REPLY_STRING || len > CA_MAX_KEY ||
			ca_prefix_is_reserved(name, len))
			continue;
		scan->page_keys[scan->page_count++] = (CaSlice){scan->page.len, len};
		appendBinaryStringInfo(&scan->page, name, (int) len);
	}
}

static void
handle_page(void *arg, const CaReply *reply)
{
	CaScan *scan = arg;
	const CaReply *next;
	const CaReply *keys;
	Size len;

	if (!answer_ok(scan, reply))
		return;
	if (ca_redis_reply_type(reply) != CA_REPLY_ARRAY || ca_redis_reply_count(reply) != 2 ||
		ca_redis_reply_type(next = ca_redis_reply_element(reply, 0)) != CA_REPLY_STRING ||
		ca_redis_reply_type(keys = ca_redis_reply_element(reply, 1)) != CA_REPLY_ARRAY)
	{
		strlcpy(scan->failure, "unexpected answer to SCAN", sizeof(scan->failure));
		return;
	}
	strlcpy(scan->cursor, ca_redis_reply_text(next, &len), sizeof(scan->cursor));
	scan->last_page = strcmp(scan->cursor, "0") == 0;
	scan->looked_at += ca_redis_reply_count(keys);
	show(scan);
	keep_page(scan, keys);
	look_at_page(scan, scan->redis);
}

/* Has it deleted anything in this session? */
bool
ca_scan_deleted(const CaScan *scan)
{
	return scan->deleted > 0;
}

bool
ca_scan_begins(CaScan *scan)
{
	return !scan->running && !scan->waiting && scan->failure[0] == '\0' &&
		   !dlist_is_empty(&wanted) && GetCurrentTimestamp() >= scan->next_step;
}

void
ca_scan_step(CaScan *scan, CaRedis *redis)
{
	const char *argv[6] = {"SCAN", scan->cursor, "MATCH", match.data, "COUNT", "512"};
	size_t len[6] = {4, 0, 5, 0, 5, 3};
	TimestampTz now;

	scan->redis = redis;
	if (scan->waiting || scan->failure[0] || !ca_scan_running(scan))
		return;
	if (scan->page_count > 0)
	{
		look_at_page(scan, redis);
		return;
	}
	now = GetCurrentTimestamp();
	if (now < scan->next_step)
		return;
	if (!scan->running)
		begin_pass(scan);
	argv[3] = match.data;
	len[1] = strlen(scan->cursor);
	len[3] = match.len;
	scan->waiting = true;
	scan->next_step = now + (guc_scan_rate > 0 ? USECS_PER_SEC * STEP_KEYS / guc_scan_rate : 0);
	ca_redis_send(redis, 6, argv, len, handle_page, scan);
}

/* Milliseconds until ca_scan_step has something to do; -1: it waits for an answer or is idle. */
long
ca_scan_timeout(CaScan *scan)
{
	if (scan->waiting || !ca_scan_running(scan))
		return -1;
	if (scan->page_count > 0)
		return 0;
	return TimestampDifferenceMilliseconds(GetCurrentTimestamp(), scan->next_step);
}

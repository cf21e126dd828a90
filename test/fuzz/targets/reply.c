/*
 * reply.c: any bytes as what Redis answers, through the whole connection (redis.c, redis_reply.c,
 * redis_login.c, redis_pipeline.c over hiredis' reader) to the files that read the answers.
 *
 * Input: a byte, which part asks (its highest bit: the login is the input's too); a byte, how much
 * arrives at a time, 0 for a line when something was asked; then what Redis sends. Where a pattern is needed it is the first line.
 *
 * Holds: reading ends; no message, no field of status and no result is anything but text of the
 * database; what is believed to be a position or token is what we write. Bites:
 * `i < n` made `<=` in unlink_matching() of scan.c; `< 5` made `< 3` in ca_guard_read_claim(); the age
 * of ca_publish_json_read() compared by `age < 0 ||`; printable() left out of handshake.c;
 * pg_verify_mbstr() left out of reads.c; the check of the characters left out of stick.c, and out of read_host() of
 * sentinel.c.
 */
#include "fuzz.h"

#include "redis/redis.h"
#include "redis/sentinel.h"
#include "shared/shared.h"
#include "shared/status.h"
#include "log/log.h"
#include "resync/resync.h"
#include "delivery/delivery.h"
#include "delivery/sink.h"
#include "reads/reads.h"
#include "routing/routing.h"

#include "access/xlog.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "storage/spin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/pg_lsn.h"

#include "wire.h"

extern Datum cache_aside_get(PG_FUNCTION_ARGS);
extern Datum cache_aside_fill(PG_FUNCTION_ARGS);
extern Datum cache_aside_stuck_at(PG_FUNCTION_ARGS);

static CaSink fuzz_sink;

static CaRedis *redis;

static void
check_text(const char *text)
{
	FUZZ_CHECK(pg_verify_mbstr(fuzz_encoding, text, (int) strlen(text), true));
}

/* Advances until nothing is unanswered; false: the connection has failed. */
static bool
exchange(void)
{
	bool good = ca_redis_wait(redis, -1, 0);

	if (!good)
		check_text(ca_redis_error(redis));
	return good;
}

/* ---- who asks ---- */

static void
claim(FuzzInput *input)
{
	CaPosition position;
	CaHandshakeState state = CA_HANDSHAKE_WAITING;

	ca_handshake_begin(&fuzz_sink, redis);
	while (state == CA_HANDSHAKE_WAITING && exchange())
		state = ca_handshake_step(&fuzz_sink);
	check_text(ca_handshake_error(&fuzz_sink));
	check_text(ca_handshake_result(&fuzz_sink)->run_id);
	check_text(ca_handshake_result(&fuzz_sink)->replication_id);
	check_text(fuzz_sink.endpoint.version);
	if (state != CA_HANDSHAKE_DONE)
		return;
	if (ca_position_parse(ca_handshake_result(&fuzz_sink)->stored,
						  strlen(ca_handshake_result(&fuzz_sink)->stored), &position))
	{
		char again[CA_POSITION_TEXT];

		ca_position_format(&position, again);
		FUZZ_CHECK(strcmp(again, ca_handshake_result(&fuzz_sink)->stored) == 0);
	}
}

static const char *pattern;
static Size pattern_len;

static void
scan(FuzzInput *input)
{
	ca_scan_reset(&fuzz_sink.scan);
	ca_scan_request(pattern, pattern_len);
	ca_scan_request("user:*", 6);
	while (ca_scan_running(&fuzz_sink.scan) && ca_scan_error(&fuzz_sink.scan) == NULL && exchange())
		ca_scan_step(&fuzz_sink.scan, redis);
	if (ca_scan_error(&fuzz_sink.scan))
		check_text(ca_scan_error(&fuzz_sink.scan));
	ca_scan_reset(&fuzz_sink.scan);
}

static void
publish(FuzzInput *input)
{
	for (int i = 0; i < 3 && ca_redis_state(redis) == CA_REDIS_READY; i++)
	{
		ca_publish_step(redis);
		exchange();
	}
}

static void
handle_batch(void *arg, const CaReply *reply)
{
	CaApplied applied;
	CaClaim claimed;
	CaArming arming;

	if (reply == NULL)
		return;
	ca_guard_problem(reply);
	ca_guard_read_claim(reply, &claimed);
	if (ca_guard_read_arming(reply, &arming))
	{
		ca_arming_answered(&fuzz_sink, &arming);
		if (arming.renewed)
			ca_contest_renewed(&fuzz_sink, &arming);
		(void) ca_contest_step(&fuzz_sink);
	}
	(void) ca_arming_extend(&fuzz_sink);
	if (ca_apply_read(&fuzz_sink, reply, &applied))
		FUZZ_CHECK(ca_redis_reply_type(reply) == CA_REPLY_ARRAY);
}

/* As many as there is input for; the first two in the dialect with functions. */
static void
apply(FuzzInput *input)
{
	CaBatch *batch = palloc0(sizeof(CaBatch));

	initStringInfo(&batch->bytes);
	ca_apply_use_functions(&fuzz_sink);
	do
	{
		ca_apply_send(&fuzz_sink, redis, batch, "", "", handle_batch);
		if (exchange())
			ca_apply_use_plain(&fuzz_sink, redis);
	} while (exchange());
}

static Size
walk(const CaReply *reply)
{
	Size len;
	const char *text = ca_redis_reply_text(reply, &len);
	Size n = len;

	FUZZ_CHECK(text[len] == '\0');
	n += ca_redis_reply_integer(reply) == 1;
	for (Size i = 0; i < ca_redis_reply_count(reply); i++)
		n += walk(ca_redis_reply_element(reply, i));
	return n;
}

static void
handle_any(void *arg, const CaReply *reply)
{
	if (reply != NULL)
		walk(reply);
}

static void
any(FuzzInput *input)
{
	const char *argv[] = {"PING"};
	size_t len[] = {4};

	while (ca_redis_state(redis) == CA_REDIS_READY)
	{
		ca_redis_send(redis, 1, argv, len, handle_any, NULL);
		exchange();
	}
}

/* ---- SQL functions ---- */

CaRedis *
ca_backend_connection_hold(void)
{
	return redis;
}

CaRedis *
ca_backend_connection_hold_new(void)
{
	return redis;
}

void
ca_backend_connection_release(CaRedis *held)
{
}

void
ca_backend_connection_forgive(void)
{
}

bool
ca_backend_connection_wait(CaRedis *held)
{
	return exchange();
}

const char *
ca_backend_connection_problem(void)
{
	return "fuzz";
}

bool
ca_backend_connection_is_news(const char *error)
{
	check_text(error);
	return true;
}

bool
ca_backend_connection_all(const CaQuestion *questions, int n)
{
	for (const CaQuestion *q = questions; q < questions + n; q++)
		ca_redis_send(redis, q->argc, q->argv, q->lens, q->handler, q->arg);
	return exchange();
}

bool
ca_backend_connection_ask(int argc, const char **argv, const size_t *lens, CaReplyHandler handler,
						  void *arg)
{
	ca_redis_send(redis, argc, argv, lens, handler, arg);
	return exchange();
}

char *
ca_backend_connection_endpoint(void)
{
	return pstrdup("fuzz");
}

void
ca_backend_connection_warn(const char *consequence)
{
}

static void
get(FuzzInput *input)
{
	LOCAL_FCINFO(fcinfo, 1);
	Datum value;

	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = PointerGetDatum(cstring_to_text("user:1"));
	fcinfo->args[0].isnull = false;
	value = cache_aside_get(fcinfo);
	if (!fcinfo->isnull)
		check_text(text_to_cstring(DatumGetTextPP(value)));
}

static void
fill(FuzzInput *input)
{
	LOCAL_FCINFO(fcinfo, 5);
	Interval ttl = {.time = 1000000};

	InitFunctionCallInfoData(*fcinfo, NULL, 5, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = PointerGetDatum(cstring_to_text("user:1"));
	fcinfo->args[1].value = PointerGetDatum(cstring_to_text("value"));
	fcinfo->args[2].value = PointerGetDatum(&ttl);
	fcinfo->args[3].value = PointerGetDatum(cstring_to_text("42-1-0/1"));
	fcinfo->args[4].value = PointerGetDatum(cstring_to_text("lease"));
	for (int i = 0; i < 5; i++)
		fcinfo->args[i].isnull = false;
	cache_aside_fill(fcinfo);
}

static void
stick(FuzzInput *input)
{
	LOCAL_FCINFO(fcinfo, 1);

	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = PointerGetDatum(cstring_to_text("user:1"));
	fcinfo->args[0].isnull = false;
	cache_aside_stuck_at(fcinfo);
}

static void
token(FuzzInput *input)
{
	uint64 sysid;
	TimeLineID timeline;
	XLogRecPtr lsn;
	char again[CA_READ_TOKEN_TEXT];
	char *text = fuzz_rest_text(input);

	if (!ca_read_token_parse(text, &sysid, &timeline, &lsn))
		return;
	ca_read_token_format(sysid, timeline, lsn, again);
	FUZZ_CHECK(strcmp(again, text) == 0);
}

/* A Sentinel, asked and listened to: two connections, which get the input in turn. */
static void
sentinel(FuzzInput *input)
{
	CaRedisAddress *address = palloc0(sizeof(CaRedisAddress));
	CaSentinels *sentinels;
	CaSentinelPeer peer;
	CaRedisHost master = {0};

	address->nhosts = 1;
	address->hosts[0] = (CaRedisHost){.name = "localhost", .port = 26379};
	strlcpy(address->sentinel_name, "cache", sizeof(address->sentinel_name));
	sentinels = ca_sentinel_open(CurrentMemoryContext, address);
	for (int i = 0; i < 20; i++)
	{
		uint64 ticket = ca_sentinel_ask(sentinels);

		ca_sentinel_step(sentinels);
		(void) ca_sentinel_timeout(sentinels);
		if (ca_sentinel_word(sentinels, i % 2 ? ticket : 0, &master) == CA_SENTINEL_AGREED)
			FUZZ_CHECK(master.name[0] != '\0' && master.port > 0 && master.port <= 65535);
	}
	ca_sentinel_peer(sentinels, 0, &peer);
	check_text(peer.problem);
	check_text(master.name);
	ca_sentinel_close(sentinels);
}

/* ---- the input ---- */

static void (*const parts[])(FuzzInput *) = {any, claim, scan,  publish, apply,
											 get, fill,  stick, token,   sentinel};

static void
try(void *arg)
{
	static const char logged_in[] = "+OK\r\n+OK\r\n+OK\r\n+PONG\r\n";
	FuzzInput *input = arg;
	uint8 which = fuzz_byte(input);
	uint8 chunk = fuzz_byte(input);
	void (*part)(FuzzInput *) = parts[(which & 0x7f) % lengthof(parts)];
	StringInfoData sent;
	CaRedisAddress address;

	if (part == scan)
		pattern = fuzz_bytes(input, &pattern_len);
	initStringInfo(&sent);
	if ((which & 0x80) == 0)
		appendStringInfoString(&sent, logged_in);
	appendBinaryStringInfo(&sent, (const char *) input->at, (int) (input->end - input->at));
	wire_feed((uint8 *) sent.data, sent.len, chunk == 255 ? (Size) sent.len : chunk);
	if (part == token || part == sentinel)
	{
		part(input);
		return;
	}
	ca_redis_address_of_settings(&address);
	redis = ca_redis_open(CurrentMemoryContext, &address, "fuzz");
	if (exchange())
		part(input);
	ca_redis_close(redis);
}

const FuzzTarget fuzz_target = {try, .raises = true};

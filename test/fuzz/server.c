/*
 * server.c: what the files that read Redis' answers ask of the server and of the rest of the worker:
 * a primary, cluster 42, timeline 1, with one registered replica.
 */
#include "fuzz.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "fmgr.h"
#include "replication/walreceiver.h"
#include "storage/s_lock.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/pg_lsn.h"
#include "utils/fmgrprotos.h"

#include "cache_aside.h"
#include "keys/keys.h"
#include "shared/status.h"
#include "shared/trouble.h"
#include "log/log.h"
#include "resync/resync.h"
#include "delivery/delivery.h"
#include "routing/routing.h"

char *guc_key_prefix;
int guc_scan_rate;
bool guc_guard = true;
WalRcvData *WalRcv;

/* ---- the cluster ---- */

uint64
GetSystemIdentifier(void)
{
	return 42;
}

bool
RecoveryInProgress(void)
{
	return false;
}

TimeLineID
GetWALInsertionTimeLine(void)
{
	return 1;
}

TimeLineID
ca_wal_timeline(XLogRecPtr *end)
{
	*end = 1;
	return 1;
}

TransactionId
GetTopTransactionIdIfAny(void)
{
	return InvalidTransactionId;
}

const char *
GetConfigOption(const char *name, bool missing_ok, bool restrict_privileged)
{
	return "";
}

/* ---- which Redis was claimed last: breaker.c keeps it in a file ---- */

const char *
ca_breaker_claimed(TimeLineID timeline, bool *never)
{
	*never = true;
	return "";
}

void
ca_breaker_note_claim(const char *nonce, TimeLineID timeline, bool untold)
{
	FUZZ_CHECK(strlen(nonce) == 16);
}

void
ca_breaker_note_told(void)
{
}

bool
ca_breaker_untold(void)
{
	return false;
}

/* ---- the worker's state ---- */

void
ca_status_copy(CaStatus *status)
{
	memset(status, 0, sizeof(*status));
}

void
ca_status_count(CaCount what, uint64 by)
{
	FUZZ_CHECK(what < CA_COUNTS);
}

void
ca_status_put_scan(const CaStatusScan *scan)
{
}

XLogRecPtr
GetFlushRecPtr(TimeLineID *insertTLI)
{
	return 1;
}

static CaShared shared_state;
CaShared *ca_status_shared = &shared_state;

const char *
ca_announce_key(void)
{
	return "cache_aside:standby:42:fuzz";
}

XLogRecPtr
ca_wal_mark(void)
{
	return 1;
}

/* ---- what is wrong: trouble.c keeps it in shared memory ---- */

void
ca_trouble_begin(CaTroubleArea area, CaTrouble cause, const char *what)
{
	FUZZ_CHECK(area < CA_AREAS && cause < CA_TROUBLES && strlen(what) < (Size) 1 << 30);
}

void
ca_trouble_begin_at(CaTroubleArea area, CaTrouble cause, const char *what, const char *endpoint)
{
	FUZZ_CHECK(area < CA_AREAS && cause < CA_TROUBLES && strlen(what) < (Size) 1 << 30);
}

void
ca_trouble_over(CaTroubleArea area)
{
}

CaTrouble
ca_trouble_judge(const char *error)
{
	return CA_TROUBLE_ANSWER;
}

/* ---- a standby only ---- */

XLogRecPtr
GetXLogReplayRecPtr(TimeLineID *replayTLI)
{
	return 1;
}

TimestampTz
GetLatestXTime(void)
{
	return 1;
}

#if PG_VERSION_NUM >= 190000
void
WalRcvRequestApplyReply(void)
#else
void
WalRcvForceReply(void)
#endif
{
}

int
s_lock(volatile slock_t *lock, const char *file, int line, const char *func)
{
	return 0;
}

/* ---- the registry ---- */

bool
ca_visit_registries_step(TimestampTz now)
{
	return true;
}

bool
ca_visit_registries_complete(void)
{
	return true;
}

int
ca_visit_registries_rows(CaTopologyRow *rows)
{
	memset(rows, 0, sizeof(*rows));
	strlcpy(rows->name, "replica1", NAMEDATALEN);
	return 1;
}

void
ca_progress_sample(TimestampTz now, XLogRecPtr end)
{
}

XLogRecPtr
ca_wal_inserted(void)
{
	return 1;
}

CaProgressView *
ca_progress_look(void)
{
	return palloc0(sizeof(CaProgressView));
}

CaReplicaState
ca_progress_of(const CaProgressView *view, const char *name)
{
	CaReplicaState state = {.connected = true, .replayed = 1};

	return state;
}

int64
ca_progress_lag(XLogRecPtr lsn, XLogRecPtr end, TimestampTz now)
{
	return 0;
}

void
ca_progress_set_published(const CaPublished *list, int count)
{
	FUZZ_CHECK(count <= CA_MAX_PUBLISHED);
	for (int i = 0; i < count; i++)
		FUZZ_CHECK(strnlen(list[i].name, NAMEDATALEN) < NAMEDATALEN);
}

/* ---- texts ---- */

struct varlena *
pg_detoast_datum_packed(struct varlena *datum)
{
	return datum;
}

text *
cstring_to_text(const char *s)
{
	Size len = strlen(s);
	text *result = palloc(VARHDRSZ + len);

	SET_VARSIZE(result, VARHDRSZ + len);
	memcpy(VARDATA(result), s, len);
	return result;
}

char *
text_to_cstring(const text *t)
{
	return pnstrdup(VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t));
}

void
escape_json(StringInfo buf, const char *str)
{
	appendStringInfoString(buf, "\"\"");
}

/* As in the server: quotes what it refuses. */
Datum
pg_lsn_in(PG_FUNCTION_ARGS)
{
	const char *str = DatumGetCString(PG_GETARG_DATUM(0));
	uint32 high;
	uint32 low;
	char end;

	if (strlen(str) > 17 || sscanf(str, "%X/%X%c", &high, &low, &end) != 2)
		ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
						errmsg("invalid input syntax for type %s: \"%s\"", "pg_lsn", str)));
	return (Datum) 0;
}

Datum
DirectFunctionCall1Coll(PGFunction func, Oid collation, Datum arg1)
{
	LOCAL_FCINFO(fcinfo, 1);

	InitFunctionCallInfoData(*fcinfo, NULL, 1, collation, NULL, NULL);
	fcinfo->args[0].value = arg1;
	fcinfo->args[0].isnull = false;
	return func(fcinfo);
}

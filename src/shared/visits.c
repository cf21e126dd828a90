/*
 * visits.c: the worker sends visitors into one database after the other.
 *
 * The worker is connected to no database. What it must know of each, a short-lived background worker
 * looks up there (visitor.c): which patterns the rules cover (visit_rules.c), which replicas are registered
 * (visit_registries.c). This file knows to whom one has to go, sends them one at a time, and says what is to
 * become of a visit that fails:
 *
 *	all databases but an untouched template0 are visited, those that allow no connections included:
 *	prepared transactions, and what is cached from them, are there all the same. One that DROP DATABASE
 *	left half dropped lets nobody in, and nothing of it will ever change: it is left out.
 *
 *	A visitor that waits for a lock longer than LOCK_PATIENCE is told to go: whoever holds it may keep
 *	it for ever (ALTER DATABASE ... RENAME in a transaction left open). So is one that takes longer
 *	than its patience for whatever reason, which doubles each time, so that a slow one gets done. A
 *	visit that failed puts its database behind the others; when all that are left have failed there is a
 *	pause. Each is named once in the log with what to do, and in status as long as it is waited for;
 *	the round goes on by itself when it can. It is never taken for visited.
 *
 *	No free background worker: tried again, and told when it lasts.
 *
 * Never more than one visitor at a time, whichever round it belongs to, and never before the last one
 * is gone: one free slot is enough. Nothing here blocks. Memory: the list of databases.
 */
#include "cache_aside.h"
#include "common/compat.h"
#include "shared/status.h"
#include "shared/trouble.h"
#include "shared/visitor.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/array.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#define LOCK_PATIENCE 3000   /* ms */
#define FIRST_PATIENCE 10000 /* ms that a visit may take */
#define LONGEST_PATIENCE 600000
#define FIRST_PAUSE 500 /* ms, when all that are left have failed */
#define LONGEST_PAUSE 15000
#define LOCK_PAUSE 2000    /* ms; waiting in a queue again costs nobody anything */
#define SLOT_PAUSE 500     /* ms until the next look for a free background worker */
#define SLOT_PATIENCE 2000 /* ms without one that are not worth a word */
#define CLASS_OF_WAIT 0xFF000000

typedef struct Place
{
	Oid oid;
	NameData name;
	bool failed; /* in this round, the last time */
} Place;

static CaVisits *rounds[2]; /* that ever began */
static CaVisits *out;       /* whose visitor is out */
static BackgroundWorkerHandle *leaving;
static List *told; /* databases (Oid) of which the log says that they cannot be visited */
static TimestampTz no_slot_since; /* 0: there was one the last time */

/* ---- the list ---- */

static Place *
make_place(Form_pg_database database)
{
	Place *place = palloc0(sizeof(Place));

	place->oid = database->oid;
	place->name = database->datname;
	return place;
}

/* `invalid`: gets those that were left half dropped, of Oid; may be NULL. */
static List *
list_places(List **invalid)
{
	MemoryContext caller = CurrentMemoryContext;
	List *places = NIL;
	Relation rel;
	TableScanDesc scan;
	HeapTuple tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	MemoryContextSwitchTo(TopMemoryContext);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);

		if (ca_database_is_invalid(database))
		{
			if (invalid)
				*invalid = lappend_oid(*invalid, database->oid);
		}
		else if (database->oid != Template0DbOid || database->datallowconn)
			places = lappend(places, make_place(database));
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	return places;
}

static bool
still_there(Oid database)
{
	List *places = list_places(NULL);
	ListCell *cell;
	bool found = false;

	foreach (cell, places)
		found |= ((Place *) lfirst(cell))->oid == database;
	list_free_deep(places);
	return found;
}

/* ---- trouble ---- */

/*
 * One area for both rounds: it is over when neither has anything left that is known not to work. A round
 * that begins anew has it left again until it was there.
 */
static bool
all_well(void)
{
	ListCell *cell;

	for (int i = 0; i < lengthof(rounds); i++)
		foreach (cell, rounds[i] ? rounds[i]->left : NIL)
			if (list_member_oid(told, ((Place *) lfirst(cell))->oid))
				return false;
	return no_slot_since == 0;
}

static void
note_failure(Place *place, const char *why)
{
	char *what = psprintf("database \"%s\" %s", NameStr(place->name), why);

	ca_status_put_waits_for(NameStr(place->name));
	/* Once each: a round that is begun anew, with each connection to Redis perhaps, says it no more. */
	ca_trouble_tell(CA_AREA_VISITS, CA_TROUBLE_DATABASE, !list_member_oid(told, place->oid));
	ca_trouble_begin(CA_AREA_VISITS, CA_TROUBLE_DATABASE, what);
	pfree(what);
	told = list_append_unique_oid(told, place->oid);
}

static void
note_success(CaVisits *visits, Place *place)
{
	told = list_delete_oid(told, place->oid);
	visits->failing -= place->failed;
	visits->left = list_delete_first(visits->left);
	pfree(place);
	if (all_well())
		ca_trouble_over(CA_AREA_VISITS);
}

static void
note_no_slot(TimestampTz now)
{
	if (no_slot_since == 0)
		no_slot_since = now;
	if (TimestampDifferenceExceeds(no_slot_since, now, SLOT_PATIENCE))
		ca_trouble_begin(CA_AREA_VISITS, CA_TROUBLE_NO_WORKER,
						 "no background worker is free for a visit");
}

/* " by process 42", of those who hold the lock that this process waits for */
static const char *
blockers_of(pid_t pid)
{
	ArrayType *pids = DatumGetArrayTypeP(DirectFunctionCall1(pg_blocking_pids, Int32GetDatum(pid)));
	int count = ArrayGetNItems(ARR_NDIM(pids), ARR_DIMS(pids));

	/* 0: a prepared transaction */
	if (count == 0)
		return "";
	if (((int32 *) ARR_DATA_PTR(pids))[0] == 0)
		return " by a prepared transaction";
	return psprintf(" by process %d", ((int32 *) ARR_DATA_PTR(pids))[0]);
}

/* ---- the visitor that is out ---- */

static void
let_go(CaVisits *visits)
{
	leaving = visits->visitor;
	visits->visitor = NULL;
	out = NULL;
}

/* Is the slot of the last one still taken? */
static bool
somebody_leaves(void)
{
	pid_t pid;

	if (leaving == NULL)
		return false;
	if (GetBackgroundWorkerPid(leaving, &pid) != BGWH_STOPPED)
		return true;
	pfree(leaving);
	leaving = NULL;
	return false;
}

static bool
waits_for_lock(pid_t pid)
{
	PGPROC *proc = BackendPidGetProc(pid);

	return proc && (proc->wait_event_info & CLASS_OF_WAIT) == PG_WAIT_LOCK;
}

static void
put_last(CaVisits *visits, bool locked)
{
	Place *place = linitial(visits->left);

	visits->left = lappend(list_delete_first(visits->left), place);
	visits->failing += !place->failed;
	place->failed = true;
	if (visits->failing < list_length(visits->left))
		return;
	visits->pause = locked               ? LOCK_PAUSE
					: visits->pause == 0 ? FIRST_PAUSE
										 : Min(visits->pause * 2, LONGEST_PAUSE);
	visits->not_before = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), visits->pause);
}

static void
fail(CaVisits *visits, const char *why, bool locked)
{
	Place *place = linitial(visits->left);
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	let_go(visits);
	if (!still_there(place->oid))
		note_success(visits, place); /* nothing is left to be asked */
	else
	{
		put_last(visits, locked);
		note_failure(place, why);
	}
	MemoryContextSwitchTo(old);
}

/* ---- for visit_rules.c and visit_registries.c ---- */

static void
clear(CaVisits *visits)
{
	if (visits->visitor)
	{
		TerminateBackgroundWorker(visits->visitor);
		let_go(visits);
	}
	list_free_deep(visits->left);
	list_free(visits->invalid);
	visits->left = visits->invalid = NIL;
	visits->failing = 0;
	visits->not_before = 0;
	visits->pause = 0;
}

/* Whatever could not be visited: nobody waits for it any more, if the other round does not. */
void
ca_visits_cancel(CaVisits *visits)
{
	bool others = false;

	clear(visits);
	for (int i = 0; i < lengthof(rounds); i++)
		others |= rounds[i] && rounds[i]->left != NIL;
	if (!others)
		no_slot_since = 0;
	if (all_well())
		ca_trouble_drop(CA_AREA_VISITS);
}

void
ca_visits_begin(CaVisits *visits)
{
	rounds[rounds[0] != NULL && rounds[0] != visits] = visits;
	clear(visits);
	visits->patience = FIRST_PATIENCE;
	visits->left = list_places(&visits->invalid);
}

bool
ca_visits_complete(const CaVisits *visits)
{
	return visits->left == NIL;
}

bool
ca_visits_stuck(const CaVisits *visits)
{
	return no_slot_since != 0 || (visits->left && visits->failing == list_length(visits->left));
}

/* It is there, and was not looked into in this round. */
bool
ca_visits_owed(const CaVisits *visits, Oid database)
{
	ListCell *cell;

	if (list_member_oid(visits->invalid, database))
		return true;

	foreach (cell, visits->left)
		if (((Place *) lfirst(cell))->oid == database)
			return true;
	return false;
}

/* Is it time to visit the next one? */
bool
ca_visits_due(CaVisits *visits)
{
	return visits->left != NIL && out == NULL && !somebody_leaves() &&
		   GetCurrentTimestamp() >= visits->not_before;
}

Oid
ca_visits_next(const CaVisits *visits)
{
	return ((Place *) linitial(visits->left))->oid;
}

/* `worker` has function, name, argument and what is extra. */
BackgroundWorkerHandle *
ca_visits_send(CaVisits *visits, BackgroundWorker *worker)
{
	TimestampTz now = GetCurrentTimestamp();
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	bool sent;

	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_ConsistentState;
	worker->bgw_restart_time = BGW_NEVER_RESTART;
	snprintf(worker->bgw_library_name, sizeof(worker->bgw_library_name), "cache_aside");
	worker->bgw_notify_pid = MyProcPid;
	sent = RegisterDynamicBackgroundWorker(worker, &visits->visitor);
	MemoryContextSwitchTo(old);
	if (!sent)
	{
		visits->visitor = NULL;
		visits->not_before = TimestampTzPlusMilliseconds(now, SLOT_PAUSE);
		note_no_slot(now);
		return NULL;
	}
	out = visits;
	visits->sent_at = now;
	no_slot_since = 0;
	if (all_well())
		ca_trouble_over(CA_AREA_VISITS);
	return visits->visitor;
}

bool
ca_visits_stopped(const CaVisits *visits)
{
	pid_t pid;

	return visits->visitor && GetBackgroundWorkerPid(visits->visitor, &pid) == BGWH_STOPPED;
}

/* The visitor has told all that it was sent for (`well`), or is gone. */
void
ca_visits_ended(CaVisits *visits, bool well)
{
	if (!well)
	{
		fail(visits, "cannot be visited; the log has the error", false);
		return;
	}
	let_go(visits);
	visits->pause = 0;
	note_success(visits, linitial(visits->left));
}

/* Has it been out for too long? Then it is told to go, and its visit has failed. */
bool
ca_visits_too_long(CaVisits *visits)
{
	TimestampTz now = GetCurrentTimestamp();
	bool late;
	bool locked;
	pid_t pid = 0;
	const char *why = "does not answer in time";

	if (visits->visitor == NULL || !TimestampDifferenceExceeds(visits->sent_at, now, LOCK_PATIENCE))
		return false;
	late = TimestampDifferenceExceeds(visits->sent_at, now, visits->patience);
	locked = GetBackgroundWorkerPid(visits->visitor, &pid) == BGWH_STARTED && waits_for_lock(pid);
	if (!late && !locked)
		return false;
	if (locked)
		why = psprintf("is locked%s", blockers_of(pid));
	else
		visits->patience = Min(visits->patience * 2, LONGEST_PATIENCE);
	TerminateBackgroundWorker(visits->visitor);
	fail(visits, why, locked);
	return true;
}

/* Milliseconds until something has to be looked at; -1: nothing. Starts and ends of visitors set our latch. */
long
ca_visits_timeout(void)
{
	TimestampTz now = GetCurrentTimestamp();
	long soonest = -1;

	for (int i = 0; i < lengthof(rounds); i++)
	{
		CaVisits *visits = rounds[i];
		long ms;

		if (visits == NULL || visits->left == NIL)
			continue;
		ms = visits->visitor ? 1000 : TimestampDifferenceMilliseconds(now, visits->not_before);
		if (soonest < 0 || ms < soonest)
			soonest = ms;
	}
	return soonest;
}

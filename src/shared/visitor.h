/*
 * visitor.h: short-lived background workers that look something up in a database.
 */
#ifndef CA_VISITOR_H
#define CA_VISITOR_H

#include "cache_aside.h"

#include "nodes/pg_list.h"
#include "postmaster/bgworker.h"

/* ---- visitor.c: in the visitor ---- */
/* Connects with settings that the database's owner cannot bend; signals are unblocked before. */
extern void ca_visitor_connect(Oid database);
/* In a transaction: takes the rights of the owner of cache_aside.<name>; false if there is none. */
extern bool ca_visitor_become_owner(const char *name);

/* ---- visits.c: in the worker; a round through all databases ---- */
typedef struct CaVisits
{
	List *left;                      /* databases still to be visited; the first is next, or now */
	List *invalid;                   /* databases that were left half dropped, of Oid */
	BackgroundWorkerHandle *visitor; /* that is out; NULL: none is */
	TimestampTz sent_at;
	TimestampTz not_before; /* the next visit */
	int failing;            /* of those left: how many were tried in vain since one was not */
	int pause;              /* ms, the last */
	int patience;           /* ms that a visit may take */
} CaVisits;

extern void ca_visits_begin(CaVisits *visits);
extern void ca_visits_cancel(CaVisits *visits);
extern bool ca_visits_complete(const CaVisits *visits);
extern bool ca_visits_stuck(const CaVisits *visits); /* none that is left can be visited now */
extern bool ca_visits_owed(const CaVisits *visits, Oid database);
extern bool ca_visits_due(CaVisits *visits);
extern Oid ca_visits_next(const CaVisits *visits);
/* NULL: no background worker is free; the next attempt comes by itself. */
extern BackgroundWorkerHandle *ca_visits_send(CaVisits *visits, BackgroundWorker *worker);
extern bool ca_visits_stopped(const CaVisits *visits);
extern void ca_visits_ended(CaVisits *visits, bool well);
extern bool ca_visits_too_long(CaVisits *visits);
extern long ca_visits_timeout(void);

#endif

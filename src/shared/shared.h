/*
 * shared.h: what the worker and the backends share: status, waiters, read tokens.
 */
#ifndef CA_SHARED_H
#define CA_SHARED_H

#include "cache_aside.h"
#include "redis/redis.h"

#include "storage/lock.h"

/* ---- init.c: settings and start ---- */
extern void ca_shared_init(void);

/* ---- read_token.c: how fresh is what a transaction reads ---- */
#define CA_READ_TOKEN_TEXT 64 /* bytes enough for any token and its NUL */
extern void ca_read_token_shmem_request(void);
extern void ca_read_token_shmem_init(void);
/* Of the worker alone, with a snapshot taken before the call. */
extern void ca_read_token_sample(Snapshot snapshot, XLogRecPtr visible, TimeLineID timeline);
extern void ca_read_token_sample_replayed(void); /* for a standby that reads no log */
extern void ca_read_token_attach(void);          /* the worker begins; tokens end with it */
extern void ca_read_token_reset(void);
extern const char *ca_read_token_current(void); /* NULL: there is none; static storage */
extern void ca_read_token_format(uint64 sysid, TimeLineID timeline, XLogRecPtr lsn, char *token);
extern bool ca_read_token_parse(const char *token, uint64 *sysid, TimeLineID *timeline,
								XLogRecPtr *lsn);

/* ---- allowance.c: how many backends may be connected to Redis; see reads.h ---- */
extern int guc_max_backend_connections;
extern int guc_backend_idle_timeout; /* ms */
extern void ca_allowance_shmem_request(void);
extern void ca_allowance_shmem_init(void);
extern uint32 ca_allowance_used(void);

/* ---- prepared_lock.c: who is prepared, and has logged messages? ---- */
extern void ca_prepared_lock_take(void);
extern VirtualTransactionId *ca_prepared_lock_holders(int *count);

/* ---- key_ddl.c: DDL that changes what keys are called ---- */
extern void ca_key_ddl_shmem_request(void);
extern void ca_key_ddl_shmem_init(void);
extern void ca_key_ddl_begin(void); /* before its commit record */
extern void ca_key_ddl_end(void);   /* when others know of it, or it is rolled back; never raises */
extern uint64 ca_key_ddl_count(bool *quiet);
extern void ca_key_ddl_prepare(void);
extern bool ca_key_ddl_is_prepared(void);

/* ---- endpoint.c: what the worker tells of each Redis ---- */
extern void ca_endpoint_shmem_request(void);
extern void ca_endpoint_shmem_init(void);

/* ---- status.c: what the worker tells the world; all of it in shared memory ---- */
extern void ca_status_shmem_request(void);
extern void ca_status_shmem_init(void);
/*
 * Sets the worker's latch if there is a worker. Safe anywhere, after commit included: takes no
 * lock, never raises.
 */
extern void ca_status_wake_worker(void);
extern void ca_status_tell_commit(void); /* likewise, if it wants to know of a commit */
extern void ca_status_ask_census(void);  /* likewise */
extern void ca_status_note_keys(void);   /* likewise */

/* ---- allowance.c: places for backends' connections ---- */
/* Takes one; waits for it up to connect_timeout, and raises when interrupted. NULL, or why not. */
extern const char *ca_allowance_take(void);
extern void ca_allowance_give_back(void); /* may be repeated; never raises */
/* The connection is not used now. False: close it, somebody else needs the place. */
extern bool ca_allowance_keep(CaRedis *redis);
extern void ca_allowance_stop_clock(void); /* it is used, or closed */

#endif

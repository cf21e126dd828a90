/*
 * compat.h: the only place that knows PostgreSQL versions (15 to 19).
 *
 * Everything else is written against the newest spelling that all of them can be given.
 */
#ifndef CA_COMPAT_H
#define CA_COMPAT_H

#if PG_VERSION_NUM < 150000
#error "cache_aside needs PostgreSQL 15 or newer"
#endif

/* 18 writes it before the declaration, which every compiler of the others allows too. */
#if PG_VERSION_NUM < 180000
#define pg_noreturn pg_attribute_noreturn()
#endif

/* 17 added JSON_VALUE and its relatives, whose result type may call functions */
#if PG_VERSION_NUM >= 170000
#define CA_IS_JSON_EXPR(node) IsA(node, JsonExpr)
#else
#define CA_IS_JSON_EXPR(node) false
#endif

/* Where the grammar's user must write a literal, and analysis reads it: type modifiers, 17's JSON_TABLE */
#if PG_VERSION_NUM >= 170000
#define CA_TAKES_LITERALS_ONLY(node) (IsA(node, TypeName) || IsA(node, JsonTablePathSpec))
#define CA_JSON_DEFAULT(node) (IsA(node, JsonBehavior) ? &((JsonBehavior *) (node))->expr : NULL)
#else
#define CA_TAKES_LITERALS_ONLY(node) IsA(node, TypeName)
#define CA_JSON_DEFAULT(node) ((Node **) NULL)
#endif

/* 19 tells the planner what EXPLAIN wants */
#if PG_VERSION_NUM >= 190000
#define CA_PLANNER_MORE , struct ExplainState *explain
#define CA_PLANNER_PASS , explain
#else
#define CA_PLANNER_MORE
#define CA_PLANNER_PASS
#endif

/* 16 let CREATE SUBSCRIPTION insist on a password */
#if PG_VERSION_NUM >= 160000
#define ca_check_conninfo(conninfo) walrcv_check_conninfo(conninfo, false)
#else
#define ca_check_conninfo(conninfo) walrcv_check_conninfo(conninfo)
#endif

/* 16 renamed it; the index counts from 1 in both */
#if PG_VERSION_NUM >= 160000
#define ca_backend_status(index) pgstat_get_local_beentry_by_index(index)
#else
#define ca_backend_status(index) pgstat_fetch_stat_local_beentry(index)
#endif

/* 16 made ownership checks generic and gave foreign tables TRUNCATE triggers. */
#if PG_VERSION_NUM >= 160000
#define ca_owns_relation(relid, roleid) object_ownercheck(RelationRelationId, relid, roleid)
#define ca_may_execute(function, roleid)                                                           \
	(object_aclcheck(ProcedureRelationId, function, roleid, ACL_EXECUTE) == ACLCHECK_OK)
#define CA_FOREIGN_TRUNCATE_TRIGGERS true
#else
#define ca_owns_relation(relid, roleid) pg_class_ownercheck(relid, roleid)
#define ca_may_execute(function, roleid)                                                           \
	(pg_proc_aclcheck(function, roleid, ACL_EXECUTE) == ACLCHECK_OK)
#define CA_FOREIGN_TRUNCATE_TRIGGERS false
#endif

/* 17 numbers processes apart from their PGPROC. */
#if PG_VERSION_NUM >= 170000
#define ca_my_proc_number() ((uint32) MyProcNumber)
#else
#define ca_my_proc_number() ((uint32) MyProc->pgprocno)
#endif

/*
 * 17 added failover and synced to a slot, 18 the check that an acquired slot is still valid, 19
 * slots of REPACK.
 */
#if PG_VERSION_NUM >= 190000
#define ca_create_physical_slot(name)                                                              \
	ReplicationSlotCreate(name, false, RS_PERSISTENT, false, false, false, false)
#elif PG_VERSION_NUM >= 170000
#define ca_create_physical_slot(name)                                                              \
	ReplicationSlotCreate(name, false, RS_PERSISTENT, false, false, false)
#else
#define ca_create_physical_slot(name) ReplicationSlotCreate(name, false, RS_PERSISTENT, false)
#endif
/* 16 notes why a slot keeps nothing any more; before, the only reason took its restart LSN. */
#if PG_VERSION_NUM >= 160000
#define ca_slot_is_invalid(slot)                                                                   \
	((slot)->data.invalidated != RS_INVAL_NONE || XLogRecPtrIsInvalid((slot)->data.restart_lsn))
#else
#define ca_slot_is_invalid(slot) XLogRecPtrIsInvalid((slot)->data.restart_lsn)
#endif
#if PG_VERSION_NUM >= 180000
#define ca_acquire_slot(name) ReplicationSlotAcquire(name, true, false)
#else
#define ca_acquire_slot(name) ReplicationSlotAcquire(name, true)
#endif

/* 16 tells walsenders that decode from those that feed a standby. */
#if PG_VERSION_NUM >= 160000
#define ca_sender_is_physical(sender) ((sender)->kind == REPLICATION_KIND_PHYSICAL)
#else
#define ca_sender_is_physical(sender) true
#endif

#if PG_VERSION_NUM >= 190000
#define ca_check_slot_requirements() CheckSlotRequirements(false)
#else
#define ca_check_slot_requirements() CheckSlotRequirements()
#endif

/* 19 writes all digits of the lower half. What Redis holds is the same from every version. */
#if PG_VERSION_NUM >= 190000
#define CA_LSN_TEXT "%X/%08X"
#else
#define CA_LSN_TEXT "%X/%X"
#endif

/* 18 has columns without a stored value, which a trigger's WHEN computes. */
#if PG_VERSION_NUM >= 180000
#include "rewrite/rewriteHandler.h"
#define ca_expand_virtual(node, relation)                                                          \
	expand_generated_columns_in_expr(                                                              \
		expand_generated_columns_in_expr(node, relation, PRS2_OLD_VARNO), relation,                \
		PRS2_NEW_VARNO)
#else
#define ca_expand_virtual(node, relation) ((Node *) (node))
#endif

/* 19 added options to a scan. */
#if PG_VERSION_NUM >= 190000
#define ca_table_beginscan(rel, snapshot) table_beginscan(rel, snapshot, 0, NULL, SO_NONE)
#else
#define ca_table_beginscan(rel, snapshot) table_beginscan(rel, snapshot, 0, NULL)
#endif

/* 19 renamed it, and gave signal handlers a second argument. */
#if PG_VERSION_NUM >= 190000
#define ca_report_replay() WalRcvRequestApplyReply()
#else
#define ca_report_replay() WalRcvForceReply()
#define PG_SIG_IGN SIG_IGN
#endif

/* 17 lets extensions name their wait events. */
#if PG_VERSION_NUM >= 170000
#define ca_wait_event(name) WaitEventExtensionNew(name)
#else
#define ca_wait_event(name) PG_WAIT_EXTENSION
#endif

/* 17 counts the owner of a wait event set as a resource. */
#if PG_VERSION_NUM >= 170000
#define ca_create_wait_set(cxt, n) CreateWaitEventSet(NULL, n)
#else
#define ca_create_wait_set(cxt, n) CreateWaitEventSet(cxt, n)
#endif

/* DROP DATABASE that failed half way marks the row; minor releases before 15.4 do not know it. */
#if PG_VERSION_NUM >= 150004
#define ca_database_is_invalid(form) database_is_invalid_form(form)
#else
#define ca_database_is_invalid(form) false
#endif

#endif

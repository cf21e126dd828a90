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

/* 17 added the flush argument; delivery never needs the message flushed before its commit. */
#if PG_VERSION_NUM >= 170000
#define ca_log_message(prefix, data, len, transactional)                                           \
	LogLogicalMessage(prefix, data, len, transactional, false)
#else
#define ca_log_message(prefix, data, len, transactional)                                           \
	LogLogicalMessage(prefix, data, len, transactional)
#endif

/* 17 added JSON_VALUE and its relatives, whose result type may call functions */
#if PG_VERSION_NUM >= 170000
#define CA_IS_JSON_EXPR(node) IsA(node, JsonExpr)
#else
#define CA_IS_JSON_EXPR(node) false
#endif

/* 16 made ownership checks generic and gave foreign tables TRUNCATE triggers. */
#if PG_VERSION_NUM >= 160000
#define ca_owns_relation(relid, roleid) object_ownercheck(RelationRelationId, relid, roleid)
#define CA_FOREIGN_TRUNCATE_TRIGGERS true
#else
#define ca_owns_relation(relid, roleid) pg_class_ownercheck(relid, roleid)
#define CA_FOREIGN_TRUNCATE_TRIGGERS false
#endif

#endif

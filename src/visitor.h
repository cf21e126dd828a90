/*
 * visitor.h: short-lived background workers that look something up in a database.
 */
#ifndef CA_VISITOR_H
#define CA_VISITOR_H

/* Connects with settings that the database's owner cannot bend; signals are unblocked before. */
extern void ca_visitor_connect(Oid database);
/* In a transaction: takes the rights of the owner of cache_aside.<name>; false if there is none. */
extern bool ca_visitor_become_owner(const char *name);

#endif

/*
 * owner.h: running SQL of a table's owner with the owner's rights, whoever is calling.
 */
#ifndef CA_OWNER_H
#define CA_OWNER_H

#include "cache_aside.h"

typedef struct CaIdentity
{
	Oid user;
	int context;
	int nest; /* of the settings pinned meanwhile */
	bool read_only;
} CaIdentity;

extern void ca_owner_become(CaIdentity *saved, Oid owner);
/* From then on until leave, nothing is written: the transaction is read-only, and nobody can make it another. */
extern void ca_owner_write_nothing(void);
extern void ca_owner_leave(const CaIdentity *saved);

#endif

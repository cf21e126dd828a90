/*
 * rows.h: row versions and items.
 */
#ifndef CA_ROWS_H
#define CA_ROWS_H

#include "cache_aside.h"

/* ---- init.c: settings and start ---- */
extern void ca_rows_init(void);

/* ---- version_increment.c: SET version = version + 1 where writers present what they read ---- */
extern void ca_version_increment_init(void);
extern void ca_version_increment_assign(bool value, void *extra);

/* ---- version_trigger.c: the version trigger; see row_version.h, item.h ---- */
extern bool guc_import_mode; /* keep the versions that are given (superuser, SET LOCAL) */

#endif

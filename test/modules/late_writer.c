/*
 * late_writer.c: a library that writes rows in its own pre-commit callback, for write/late_writer.pl.
 *
 * Transaction callbacks run last-registered first: loaded before cache_aside this one runs after it,
 * when the pending set has been written already.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

PG_MODULE_MAGIC;

static char *late_sql;

void _PG_init(void);

static void
write_late(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_PRE_COMMIT && event != XACT_EVENT_PRE_PREPARE)
		return;
	if (late_sql == NULL || late_sql[0] == '\0')
		return;
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_execute(late_sql, false, 0);
	PopActiveSnapshot();
	SPI_finish();
}

void
_PG_init(void)
{
	DefineCustomStringVariable("late_writer.sql", "What to run before each commit.", NULL,
							   &late_sql, "", PGC_USERSET, 0, NULL, NULL, NULL);
	RegisterXactCallback(write_late, NULL);
}

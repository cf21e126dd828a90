/*
 * busy_output.c: a type whose output function runs what busy.sql says, once, for write/rule_in_use.pl.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"
#include "utils/guc.h"

PG_MODULE_MAGIC;
PG_FUNCTION_INFO_V1(busy_in);
PG_FUNCTION_INFO_V1(busy_out);

static char *busy_sql;

void _PG_init(void);

Datum
busy_in(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(atoi(PG_GETARG_CSTRING(0)));
}

Datum
busy_out(PG_FUNCTION_ARGS)
{
	static bool running = false;

	if (!running && busy_sql != NULL && busy_sql[0] != '\0')
	{
		running = true;
		SPI_connect();
		SPI_execute(busy_sql, false, 0);
		SPI_finish();
		running = false;
	}
	PG_RETURN_CSTRING(psprintf("b%d", PG_GETARG_INT32(0)));
}

void
_PG_init(void)
{
	DefineCustomStringVariable("busy.sql", "What output runs.", NULL, &busy_sql, "", PGC_USERSET, 0,
							   NULL, NULL, NULL);
}

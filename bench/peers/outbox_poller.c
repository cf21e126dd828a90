/*
 * outbox_poller conninfo socket milliseconds: takes rows from the outbox and deletes the keys they name. The rows go
 * when Redis has answered: their transaction is committed then. Sleeps only when there was nothing to do.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <libpq-fe.h>

#include "invalidator.h"

#define BATCH "1000"

static PGconn *db;

static PGresult *
query(const char *sql)
{
	PGresult *result = PQexec(db, sql);
	ExecStatusType status = PQresultStatus(result);

	if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
	{
		fputs(PQerrorMessage(db), stderr);
		exit(1);
	}
	return result;
}

/* How many there were. */
static int
take_batch(void)
{
	PGresult *result = query("BEGIN; DELETE FROM outbox WHERE ctid = ANY (ARRAY("
							 "SELECT ctid FROM outbox ORDER BY id LIMIT " BATCH ")) RETURNING key");
	int taken = PQntuples(result);

	for (int i = 0; i < taken; i++)
		invalidator_add(PQgetvalue(result, i, 0), PQgetlength(result, i, 0));
	invalidator_flush();
	PQclear(result);
	PQclear(query("COMMIT"));
	return taken;
}

int
main(int argc, char **argv)
{
	useconds_t pause = 1000 * atoi(argv[3]);

	db = PQconnectdb(argv[1]);
	invalidator_open(argv[2]);
	/* A row whose removal is lost in a crash is taken again. */
	PQclear(query("SET synchronous_commit = off"));
	puts("ready");
	fflush(stdout);
	for (;;)
	{
		if (take_batch() == 0)
			usleep(pause);
	}
}

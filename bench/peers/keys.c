/*
 * keys.c: what is in the cache, against the rows.
 *
 *	keys fill  conninfo cache rows [prefix]    caches each row's value under its key; prints how many were stored
 *	keys audit conninfo cache rows             prints how many keys are there, and of those how many are stale: their
 *	                                           value is older than the row
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>

#include "cache.h"

static PGresult *
read_rows(const char *conninfo, const char *rows)
{
	PGconn *db = PQconnectdb(conninfo);
	PGresult *result = PQexecParams(db, "SELECT id, n FROM account WHERE id <= $1 ORDER BY id", 1,
									NULL, &rows, NULL, NULL, 0);

	if (PQresultStatus(result) != PGRES_TUPLES_OK || PQntuples(result) != atoi(rows))
		die("%s rows? %s", rows, PQerrorMessage(db));
	PQfinish(db);
	return result;
}

int
main(int argc, char **argv)
{
	bool fill = argc > 4 && strcmp(argv[1], "fill") == 0;
	PGresult *result = argc > 4 ? read_rows(argv[2], argv[4]) : (die("what?"), NULL);
	Cache *cache = cache_open(argv[3]);
	int found = 0, stale = 0, rows = PQntuples(result);

	for (int i = 0, sent = 0; i < rows; i++)
	{
		char text[96];

		for (; sent < rows && sent < i - i % CACHE_PIPELINE + CACHE_PIPELINE; sent++)
		{
			snprintf(text, sizeof(text), "%saccount:%s", fill && argc > 5 ? argv[5] : "",
					 PQgetvalue(result, sent, 0));
			if (fill)
				cache_set(cache, text, PQgetvalue(result, sent, 1));
			else
				cache_get(cache, text);
		}
		if (cache_found(cache, text, sizeof(text)))
		{
			found++;
			stale += !fill && atoi(text) < atoi(PQgetvalue(result, i, 1));
		}
	}
	if (fill)
		printf("%d\n", found);
	else
		printf("%d %d\n", found, stale);
	return 0;
}

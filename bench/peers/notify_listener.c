/*
 * notify_listener conninfo socket: deletes each key that a notification names. Those that came together are deleted
 * together.
 */
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include <libpq-fe.h>

#include "invalidator.h"

int
main(int argc, char **argv)
{
	PGconn *db = PQconnectdb(argv[1]);
	PGnotify *notify;

	invalidator_open(argv[2]);
	PQclear(PQexec(db, "LISTEN invalidate"));
	if (PQstatus(db) != CONNECTION_OK)
		return 1;
	puts("ready");
	fflush(stdout);
	for (;;)
	{
		struct pollfd fd = {.fd = PQsocket(db), .events = POLLIN};

		while ((notify = PQnotifies(db)) != NULL)
		{
			invalidator_add(notify->extra, strlen(notify->extra));
			PQfreemem(notify);
		}
		invalidator_flush();
		poll(&fd, 1, -1);
		if (!PQconsumeInput(db))
			return 1;
	}
}

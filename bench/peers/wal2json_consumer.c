/*
 * wal2json_consumer socket: reads what pg_recvlogical writes, a line of JSON for each changed row (format 2), and
 * deletes the row's key. What one read brings is deleted together.
 *
 * Of a line it wants the number behind the first "value" of "identity".
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "invalidator.h"

static void
take_line(const char *line)
{
	const char *identity = strstr(line, "\"identity\":");
	const char *value = identity ? strstr(identity, "\"value\":") : NULL;
	char key[64];

	if (value)
	{
		value += strlen("\"value\":");
		snprintf(key, sizeof(key), "account:%.*s", (int) strspn(value, "0123456789"), value);
		invalidator_add(key, strlen(key));
	}
}

int
main(int argc, char **argv)
{
	static char buffer[256 * 1024 + 1];
	size_t filled = 0;
	ssize_t n;

	invalidator_open(argv[1]);
	while ((n = read(STDIN_FILENO, buffer + filled, sizeof(buffer) - 1 - filled)) > 0)
	{
		char *line = buffer, *end;

		filled += n;
		buffer[filled] = '\0';
		while ((end = memchr(line, '\n', buffer + filled - line)) != NULL)
		{
			*end = '\0';
			take_line(line);
			line = end + 1;
		}
		filled = buffer + filled - line;
		memmove(buffer, line, filled);
		invalidator_flush();
	}
	return 1;
}

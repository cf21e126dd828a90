/*
 * not_followed.c: records in the log that have our name and are not followed.
 *
 * They are counted, and logged once in the life of a worker, so that nobody can fill the server's log with
 * them: any role can write records that have the name without the mark (record.c).
 */
#include "cache_aside.h"
#include "common/compat.h"
#include "shared/status.h"
#include "log/log.h"
#include "log/wal.h"

#include "access/xlogreader.h"

/* Each reconnect reads some of the log again; what is there is counted once. */
static bool
is_new(const XLogReaderState *reader)
{
	static XLogRecPtr counted;

	if (reader->ReadRecPtr <= counted)
		return false;
	counted = reader->ReadRecPtr;
	return true;
}

/* It has the name and not the mark. */
void
ca_not_followed_foreign(XLogReaderState *reader)
{
	static bool logged;

	ca_status_count(CA_COUNT_FOREIGN_RECORDS, is_new(reader));
	if (!logged)
		ereport(LOG, (errmsg("cache_aside does not follow a message in the log at " CA_LSN_TEXT
							 " that has its name but not its mark",
							 LSN_FORMAT_ARGS(reader->ReadRecPtr)),
					  errdetail(
						  "Transaction %u wrote %u bytes. Any role can write such a message with "
						  "pg_logical_emit_message(). It invalidates nothing, and further ones are "
						  "only counted.",
						  XLogRecGetXid(reader), XLogRecGetDataLen(reader))));
	logged = true;
}

/* It has both, and cannot be read. */
void
ca_not_followed_unreadable(XLogReaderState *reader, const char *problem)
{
	static bool logged;

	ca_status_count(CA_COUNT_UNREADABLE_RECORDS, is_new(reader));
	if (!logged)
		ereport(LOG,
				(errmsg("cache_aside cannot read a message of its own in the log at " CA_LSN_TEXT,
						LSN_FORMAT_ARGS(reader->ReadRecPtr)),
				 errdetail("%s Transaction %u wrote %u bytes. Further ones are only counted.",
						   problem, XLogRecGetXid(reader), XLogRecGetDataLen(reader)),
				 errhint("A newer version of the library may have written it. Everything is "
						 "deleted from the cache when its transaction commits.")));
	logged = true;
}

/*
 * breaker.c: the worker must not die of the same log for ever.
 *
 * A worker that is ended by a signal takes every session of the server with it, and the next one reads
 * the same log. So a small file in the data directory says where reading began and how many deaths
 * that place has seen. The fourth start there reads none of it: it begins blind, from the end of the
 * log, with everything deleted that the rules could have cached (resume.c, follow.c). To skip is a
 * blind start, so nothing is lost: what was committed and visible before the new beginning is deleted
 * by the resync, whose floor is raised first; who was open, or committed and not yet visible, is below
 * the barrier (open_at_start.c).
 *
 *	place         the position as Redis holds it, before anything is made of it; on a standby that
 *	              only follows, the checkpoint from which it reads
 *	safe point    Redis acknowledged a later position; or, out of recovery, everything that was in
 *	              the log when we connected was read and delivered. In recovery that says nothing:
 *	              the log that killed us may not be replayed again yet
 *	a death       the worker began here and neither reached a safe point nor ended in order: killed,
 *	              crashed, PANIC, immediate stop; or an ERROR ended its session (mishap.c). If it had reached one,
 *	              Redis holds the place where it died, and the next one begins there. Log that cannot be read (a
 *	              gap) counts as well, though nobody dies
 *	no death      Redis is away or refuses, reload, fenced, another duty, shutdown: however often
 *
 * Written when that changes, three times in the life of a session, in place, by the one worker. Before
 * the first record is read it is flushed; what follows is not, for a death is survived by the kernel's
 * memory, and a power failure that takes back a safe point is a death. If we die between a write and
 * what it announces: "began" without having begun, one death too many; safe or ended without it being
 * written, likewise; a skip that is not in Redis yet, the same place and count, hence skipped again.
 * Whenever the count is wrong, the price is a resync that was not needed, or one more death.
 *
 * In recovery the server replays anew what it had replayed, and log that is not replayed is read by
 * nobody. So before the last attempt reads on, it notes how far it may read (ca_breaker_reads), and
 * the skip begins no earlier.
 *
 * A file that is not there, torn, of another cluster or version counts as none, one that cannot be
 * written is told once and done without: never more than LOG. pg_basebackup and pg_rewind copy it; the
 * copy is another file, by its inode number, and counts as none. Should the number be the same, or a
 * volume be cloned: a place of another Redis or checkpoint gives away one of the three deaths at most.
 *
 * Deaths that have nothing to do with a place (in a claim, in a resync) are counted by process. From
 * the fourth in a row on, without that everything due was delivered in between, the worker waits before
 * it begins: 1 s, 2 s, ... an hour, so that the server can be used and looked at.
 */
#include "cache_aside.h"
#include "common/compat.h"
#include "shared/status.h"
#include "shared/sync.h"
#include "shared/trouble.h"
#include "log/log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/transam.h"
#include "access/xlog.h"
#include "port/pg_crc32c.h"
#include "storage/fd.h"
#include "utils/timestamp.h"

#define START_FILE "cache_aside.start" /* in the data directory, which is where we are */
#define MAGIC 0x43415354
#define VERSION 1
#define DEATHS 3           /* at one place: the next start skips */
#define LONGEST_PAUSE 3600 /* s */
#define LIFE 60000         /* ms; a worker without a session that lived so long is in no loop */

typedef enum Attempt
{
	ENDED, /* in order; or there was none */
	BEGUN,
	SAFE
} Attempt;

typedef enum Claims
{
	NOT_KNOWN, /* the file was a copy, torn, of another version */
	NONE_EVER, /* of this data directory */
	LAST_KNOWN,
	LAST_UNTOLD /* known, but nobody was told yet of what is delivered there */
} Claims;

/* As it is in the file, in native byte order. */
typedef struct Start
{
	uint32 magic;
	uint32 version;
	uint64 system;
	uint64 inode;        /* a copy of the file has another one */
	TimeLineID timeline; /* the place */
	uint32 attempt;
	XLogRecPtr restart;
	XLogRecPtr confirmed;
	uint32 deaths;    /* at the place, before this attempt */
	uint32 processes; /* that died in a row */
	uint32 alive;     /* a worker that reads log runs */
	TimeLineID reach_timeline;
	XLogRecPtr reach;     /* log before it may have been read there; 0: not noted */
	uint64 reach_xid;     /* full xid above any in it */
	XLogRecPtr skip_from; /* the last skip; 0: none */
	XLogRecPtr skip_to;
	TimestampTz skip_at;
	uint32 claims; /* Claims, below; for arming.c */
	TimeLineID claim_timeline;
	char nonce[20]; /* of the last claim; NUL-terminated */
	pg_crc32c crc;
} Start;

/* Of the server and its log. Only the nonce is of a Redis, the one claimed last: several need one each. */
static Start start;     /* magic 0: there is no file */
static bool attempting; /* by this process, which has not ended it yet */
static uint64 first_sequence;
static TimestampTz life_began;
static TimestampTz pause_until;

/* ---- the file ---- */

static pg_crc32c
checksum(const Start *s)
{
	pg_crc32c crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, s, offsetof(Start, crc));
	FIN_CRC32C(crc);
	return crc;
}

/* One line for each new reason. */
static void
complain(void)
{
	static int told;
	int now = errno;

	if (now != told)
		ereport(LOG,
				(errcode_for_file_access(), errmsg("could not write file \"%s\": %m", START_FILE),
				 errdetail("cache_aside goes on without. Should its worker die of what it reads "
						   "there, it will do so again and again.")));
	told = now;
}

/* With the directory, once: without, a power failure would take away a new file. */
static bool
flush(int fd)
{
	static bool directory_flushed;
	int dir;

	if (pg_fsync(fd) != 0)
		return false;
	if (directory_flushed)
		return true;
	dir = BasicOpenFile(".", O_RDONLY | PG_BINARY);
	directory_flushed = dir >= 0 && pg_fsync(dir) == 0;
	if (dir >= 0)
		close(dir);
	return directory_flushed;
}

static uint64
inode_of(int fd)
{
	struct stat info;

	return fd >= 0 && fstat(fd, &info) == 0 ? (uint64) info.st_ino : 0;
}

static void
write_start(bool durably)
{
	int fd = BasicOpenFile(START_FILE, O_RDWR | O_CREAT | PG_BINARY);
	bool done;

	start.inode = inode_of(fd);
	start.magic = MAGIC;
	start.version = VERSION;
	start.system = GetSystemIdentifier();
	start.crc = checksum(&start);
	if (fd >= 0)
		errno = 0;
	done = fd >= 0 && pg_pwrite(fd, &start, sizeof(start), 0) == sizeof(start) &&
		   (!durably || flush(fd));
	if (!done)
	{
		errno = errno ? errno : ENOSPC; /* a short write */
		complain();
	}
	if (fd >= 0)
		close(fd);
}

static void
read_start(void)
{
	int fd = BasicOpenFile(START_FILE, O_RDONLY | PG_BINARY);
	bool absent = fd < 0 && errno == ENOENT;
	bool valid = fd >= 0 && pg_pread(fd, &start, sizeof(start), 0) == sizeof(start) &&
				 start.magic == MAGIC && start.version == VERSION &&
				 start.system == GetSystemIdentifier() && start.inode == inode_of(fd) &&
				 start.crc == checksum(&start);

	if (fd >= 0)
		close(fd);
	if (!valid)
		memset(&start, 0, sizeof(start));
	if (absent)
		start.claims = NONE_EVER;
}

static void
show_skip(void)
{
	CaStatusSkip skip = {start.skip_from, start.skip_to, start.skip_at};

	ca_status_put_skip(&skip);
}

/* ---- places ---- */

static bool
is_place(const CaPosition *place)
{
	return start.timeline == place->timeline && start.restart == place->restart &&
		   start.confirmed == place->confirmed;
}

/* Deaths that are known of a place at which reading is to begin. */
static uint32
deaths_at(const CaPosition *place)
{
	if (start.attempt == SAFE)
		return 1;
	if (!is_place(place))
		return start.attempt == BEGUN ? 1 : 0;
	return start.attempt == BEGUN ? start.deaths + 1 : start.deaths;
}

/*
 * Reading begins here; `sequence`: of the position that delivery begins with. True: it has killed
 * often enough, skip it.
 */
bool
ca_breaker_begin(const CaPosition *place, uint64 sequence)
{
	start.deaths = deaths_at(place);
	if (!is_place(place))
		start.reach = start.reach_xid = 0;
	attempting = true;
	start.attempt = BEGUN;
	start.timeline = place->timeline;
	start.restart = place->restart;
	start.confirmed = place->confirmed;
	first_sequence = sequence;
	write_start(true);
	return start.deaths >= DEATHS;
}

/* Log up to `limit` is about to be read. Tells nothing before it matters. */
void
ca_breaker_reads(XLogRecPtr limit)
{
	XLogRecPtr end;

	if (start.attempt != BEGUN || start.deaths + 1 < DEATHS || limit <= start.reach)
		return;
	start.reach = limit;
	start.reach_timeline = ca_wal_timeline(&end);
	start.reach_xid = U64FromFullTransactionId(ReadNextFullTransactionId());
	write_start(false);
}

/* Where to begin instead, and the barrier: a full xid above that of any message before it. */
XLogRecPtr
ca_breaker_skip(XLogRecPtr from, uint64 *barrier)
{
	XLogRecPtr end;
	XLogRecPtr to = ca_wal_end(barrier);

	if (RecoveryInProgress() && start.reach_timeline == ca_wal_timeline(&end) && to < start.reach)
	{
		to = start.reach;
		*barrier = Max(*barrier, start.reach_xid);
	}
	ereport(
		LOG,
		(errmsg("cache_aside skips the log from " CA_LSN_TEXT " to " CA_LSN_TEXT,
				LSN_FORMAT_ARGS(from), LSN_FORMAT_ARGS(to)),
		 errdetail("Its worker began to read there %u times and ended before it got any further.",
				   start.deaths),
		 errhint("Please report this, with the server log of these ends and what pg_waldump "
				 "shows of that log.")));
	start.skip_from = from;
	start.skip_to = to;
	start.skip_at = GetCurrentTimestamp();
	ca_status_count(CA_COUNT_LOG_SKIPS, 1);
	show_skip();
	write_start(true);
	return to;
}

static void
end_attempt(Attempt how, uint32 deaths)
{
	attempting = how != ENDED;
	start.attempt = how;
	start.deaths = deaths;
	write_start(false);
}

/*
 * Called in each round of a session. `delivered`: so is everything that was in the log when it
 * connected. `due`: there is something else left to do.
 */
void
ca_breaker_progress(const CaPosition *acked, bool delivered, bool due)
{
	if (start.attempt == BEGUN && acked->sequence != first_sequence &&
		(acked->timeline != start.timeline || acked->confirmed > start.confirmed ||
		 acked->restart > start.restart || (delivered && !RecoveryInProgress())))
		end_attempt(SAFE, 0);
	if (start.processes > 0 && start.attempt == SAFE && delivered && !due)
	{
		start.processes = 0;
		write_start(false);
	}
}

bool
ca_breaker_suspects(void)
{
	return start.deaths > 0 || start.processes > 1;
}

/* Reading ends in order. */
void
ca_breaker_end(void)
{
	if (attempting)
		end_attempt(ENDED, start.deaths);
}

/* It goes on to count as begun, or safe: whoever begins next takes it for a death. */
void
ca_breaker_died(void)
{
	attempting = false;
}

/* The log that comes next cannot be read. */
void
ca_breaker_gap(void)
{
	if (start.attempt == BEGUN)
		end_attempt(ENDED, start.deaths + 1);
}

/* ---- which Redis this server claimed last ---- */

/* Its nonce, or "". A timeline of its own is another server's claim to another. */
const char *
ca_breaker_claimed(TimeLineID timeline, bool *never)
{
	*never = start.claims == NONE_EVER;
	return start.claims >= LAST_KNOWN && start.claim_timeline == timeline ? start.nonce : "";
}

/* Written with the next beginning, which comes before fills are admitted. `untold`: see ca_arming_untold(). */
void
ca_breaker_note_claim(const char *nonce, TimeLineID timeline, bool untold)
{
	start.claims = untold ? LAST_UNTOLD : LAST_KNOWN;
	start.claim_timeline = timeline;
	strlcpy(start.nonce, nonce, sizeof(start.nonce));
}

void
ca_breaker_note_told(void)
{
	start.claims = LAST_KNOWN;
	write_start(false);
}

bool
ca_breaker_untold(void)
{
	return start.claims == LAST_UNTOLD;
}

/* ---- processes ---- */

static void
pause_before(void)
{
	int seconds = LONGEST_PAUSE;

	if (start.processes <= DEATHS)
		return;
	if (start.processes - DEATHS <= 12)
		seconds = Min(seconds, 1 << (start.processes - DEATHS - 1));
	pause_until = TimestampTzPlusMilliseconds(life_began, seconds * 1000);
	ca_status_state("paused");
	ca_trouble_begin(CA_AREA_DELIVERY, CA_TROUBLE_PAUSED,
					 "the worker ended again and again before everything was delivered");
	ca_sync_outage();
	ereport(LOG, (errmsg("cache_aside waits %d s before it begins", seconds),
				  errdetail("Its worker ended %u times in a row before everything was delivered.",
							start.processes),
				  errhint("The server log says how it ended. A reload ends the wait; "
						  "cache_aside.delivery = off keeps it from beginning.")));
}

/* The worker begins. */
void
ca_breaker_attach(void)
{
	life_began = GetCurrentTimestamp();
	read_start();
	start.processes = start.alive ? start.processes + 1 : 0;
	start.alive = 0;
	show_skip();
	pause_before();
}

/* Milliseconds that the worker is to wait before it does anything. */
long
ca_breaker_pause(void)
{
	long left =
		pause_until == 0 ? 0 : TimestampDifferenceMilliseconds(GetCurrentTimestamp(), pause_until);

	if (pause_until != 0 && left == 0)
		ca_breaker_end_pause();
	return left;
}

void
ca_breaker_end_pause(void)
{
	if (pause_until == 0)
		return;
	pause_until = 0;
	life_began = GetCurrentTimestamp();
	ca_status_state("starting");
}

/* A duty begins: `reads`, one that reads log. */
void
ca_breaker_duty(bool reads)
{
	if (start.alive == reads)
		return;
	start.alive = reads;
	write_start(false);
}

/* Called in each round: Redis may be away for days. */
void
ca_breaker_lives(bool session)
{
	if (start.processes == 0 || pause_until != 0 || session ||
		!TimestampDifferenceExceeds(life_began, GetCurrentTimestamp(), LIFE))
		return;
	start.processes = 0;
	write_start(false);
}

/* The worker ends in order. */
void
ca_breaker_leave(void)
{
	ca_breaker_end();
	if (start.magic == 0)
		return;
	start.alive = start.processes = 0;
	write_start(false);
}

/* Nothing is delivered here any more. */
void
ca_breaker_forget(void)
{
	bool never;

	if (unlink(START_FILE) != 0 && errno != ENOENT)
		ereport(LOG, (errcode_for_file_access(),
					  errmsg("could not remove file \"%s\": %m", START_FILE)));
	never = start.claims == NONE_EVER;
	memset(&start, 0, sizeof(start));
	start.claims = never ? NONE_EVER : NOT_KNOWN;
	show_skip();
}

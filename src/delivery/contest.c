/*
 * contest.c: who else wants this Redis, and what an operator decided.
 *
 *	refused		A newer timeline does not tell a successor from a clone of this server that was restored
 *				somewhere with the same settings. So the library takes a newcomer only if its server
 *				announced itself (announce.c), or if who has the claim has been silent for seconds. Otherwise
 *				the newcomer is refused: it writes nothing and asks again each second (session.c). Both
 *				sides say so in the log.
 *	second		Another system (blue and green, pg_upgrade) writes the same keys. Deletions are harmless, so both
 *				delete; but LSNs of two systems cannot be compared, so only the writer's tokens are admitted.
 *				The second arms nothing. It takes over when the writer has been silent for seconds.
 *	adopt()		The next claim of this server is taken, whoever has it. Not undone by ROLLBACK; forgotten
 *				when the worker ends before it could claim.
 *
 * Redis before 7 knows no claims. There a newcomer looks at the position, which the holder writes every
 * two seconds even without news, and takes over when it has not changed for WATCH_MS.
 *
 * One contest for each sink; adopt() is about all. Of the worker alone, but for adopt(), which sets an atomic.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "shared/shared.h"
#include "shared/status.h"
#include "shared/trouble.h"
#include "log/log.h"
#include "delivery/delivery.h"
#include "delivery/sink.h"

#include "access/xlog.h"
#include "miscadmin.h"

PG_FUNCTION_INFO_V1(cache_aside_adopt);

#define WATCH_MS 5000

Datum
cache_aside_adopt(PG_FUNCTION_ARGS)
{
	ca_preload_require();
	if (!superuser())
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("only a superuser may decide which server delivers"),
						errhint("No GRANT changes that: ask a superuser.")));
	if (guc_delivery == CA_DELIVER_OFF ||
		(guc_delivery == CA_DELIVER_PRIMARY && RecoveryInProgress()))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("this server does not deliver"),
						errhint("Promote it, or see cache_aside.delivery.")));
	pg_atomic_fetch_add_u32(&ca_status_shared->adopt_asked, 1);
	ca_status_wake_worker();
	PG_RETURN_VOID();
}

/* The worker begins: what was asked of another is none of its. */
void
ca_contest_attach(CaSink *sink)
{
	sink->contest.adopted = pg_atomic_read_u32(&ca_status_shared->adopt_asked);
}

/* True: claim anew. */
bool
ca_contest_step(CaSink *sink)
{
	uint32 asked = pg_atomic_read_u32(&ca_status_shared->adopt_asked);
	bool again = sink->contest.claim_again;

	sink->contest.claim_again = false;
	if (asked == sink->contest.adopted)
		return again;
	sink->contest.adopted = asked;
	sink->contest.forced = true;
	ereport(LOG, (errmsg("cache_aside adopts Redis for this server, whoever delivers there")));
	return true;
}

/* As the claim wants it. */
const char *
ca_contest_force(CaSink *sink)
{
	return sink->contest.forced ? "1" : sink->contest.second ? "2" : "0";
}

bool
ca_contest_second(CaSink *sink)
{
	return sink->contest.second;
}

/* A claim was answered, or stands for one. */
void
ca_contest_claimed(CaSink *sink, CaRole role)
{
	sink->contest.forced = sink->contest.claim_again = false;
	sink->contest.refused_before = 0;
	sink->contest.second = role == CA_ROLE_SECOND;
	if (sink->contest.second)
		ca_trouble_begin_at(CA_AREA_FILLS, CA_TROUBLE_SECOND,
							"another PostgreSQL system writes these keys; its fills are admitted, "
							"not those of this one",
							sink->endpoint.name);
	else
		ca_trouble_over(CA_AREA_FILLS);
}

static void
tell_refused(CaSink *sink)
{
	ereport(LOG,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("cache_aside refused another server of this system, which claimed Redis at %s",
					sink->endpoint.name),
			 errdetail("It was not a standby of this server just now; a copy that was restored "
					   "somewhere, perhaps."),
			 errhint("Give that server another cache_aside.redis_url. If it is to take over, shut "
					 "this one down, or SELECT cache_aside.adopt() there.")));
}

static void
tell_second(CaSink *sink)
{
	ereport(LOG, (errmsg("another PostgreSQL system deletes the same keys in Redis at %s",
						 sink->endpoint.name),
				  errdetail("Its fills are not admitted; those of this server are.")));
}

/* A renewal was answered. */
void
ca_contest_renewed(CaSink *sink, const CaArming *answer)
{
	if (answer->refused > 0 && sink->contest.refused_before == 0)
		tell_refused(sink);
	sink->contest.refused_before = answer->refused;
	if (answer->foreign > 0 && !sink->contest.told_foreign && answer->role == CA_ROLE_WRITER)
		tell_second(sink);
	sink->contest.told_foreign |= answer->foreign > 0;
	sink->contest.claim_again = answer->role == CA_ROLE_TAKEN;
}

/*
 * Redis before 7 holds this position of an older timeline. True: nobody has written it for so long that
 * its server is gone.
 */
bool
ca_contest_watch(CaSink *sink, const char *stored)
{
	instr_time now;

	INSTR_TIME_SET_CURRENT(now);
	if (strcmp(sink->contest.watched, stored) != 0)
	{
		strlcpy(sink->contest.watched, stored, sizeof(sink->contest.watched));
		sink->contest.watched_since = now;
	}
	INSTR_TIME_SUBTRACT(now, sink->contest.watched_since);
	return sink->contest.forced || INSTR_TIME_GET_MILLISEC(now) >= WATCH_MS;
}

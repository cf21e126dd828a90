/*
 * former.c: the names that a table with rules or versions had before.
 *
 * Input: a table that gets another name (renamed.c). Output: the names it had, oldest first, as the comment of
 * each trigger of a rule, for any of them may be dropped by hand, and of the trigger for versions (of a
 * materialized view, in view_rule): heir.c asks whether another table has one of them now. A comment is dumped,
 * follows transactions, and goes with the trigger; one that a user (or watch.c) wrote is left alone.
 *
 * Not only the first name: "users" may be what "u" was called since long, when it is swapped for a copy. Who
 * returns to a former name is as if it had never gone: that name and those after it are forgotten. Of more
 * than MOST_NAMES the oldest go.
 */
#include "cache_aside.h"
#include "rules/rules.h"

#include "catalog/pg_trigger.h"
#include "commands/comment.h"

#define COMMENT_BEGIN "cache_aside: of "
#define MOST_NAMES 8

/* Names are quoted where they need it: a blank outside of quotes separates them. */
static List *
split_names(char *joined)
{
	List *names = NIL;
	bool quoted = false;
	char *begin = joined;

	for (char *at = joined;; at++)
	{
		if (*at == '"')
			quoted = !quoted;
		if (*at != '\0' && (*at != ' ' || quoted))
			continue;
		if (at > begin)
			names = lappend(names, pnstrdup(begin, at - begin));
		if (*at == '\0')
			return names;
		begin = at + 1;
	}
}

/* *foreign: the comment is somebody else's. */
static List *
read_names(Oid trigger, bool *foreign)
{
	char *comment = GetComment(trigger, TriggerRelationId, 0);

	*foreign = comment != NULL && strncmp(comment, COMMENT_BEGIN, strlen(COMMENT_BEGIN)) != 0;
	return comment == NULL || *foreign ? NIL : split_names(comment + strlen(COMMENT_BEGIN));
}

List *
ca_former_names(Oid trigger)
{
	bool foreign;

	return read_names(trigger, &foreign);
}

/* Those before `now` if it is one of them, else all and `before`. */
List *
ca_former_change(List *names, const char *before, const char *now)
{
	List *kept = NIL;
	ListCell *cell;

	foreach (cell, names)
	{
		if (strcmp(lfirst(cell), now) == 0)
			return kept;
		kept = lappend(kept, lfirst(cell));
	}
	kept = lappend(kept, pstrdup(before));
	return list_length(kept) > MOST_NAMES ? list_delete_first(kept) : kept;
}

static char *
join_names(List *names)
{
	StringInfoData comment;
	ListCell *cell;

	if (names == NIL)
		return NULL;
	initStringInfo(&comment);
	appendStringInfoString(&comment, COMMENT_BEGIN);
	foreach (cell, names)
		appendStringInfo(&comment, "%s%s", foreach_current_index(cell) > 0 ? " " : "",
						 (char *) lfirst(cell));
	return comment.data;
}

typedef struct Renamed
{
	char *before;
	char *now;
} Renamed;

static void
note_trigger(Relation catalog, HeapTuple tuple, CaTriggerFacts *facts, void *arg)
{
	Renamed *renamed = arg;
	bool foreign;
	List *names;

	if (OidIsValid(facts->parent))
		return;
	names = read_names(facts->oid, &foreign);
	if (!foreign)
		CreateComments(facts->oid, TriggerRelationId, 0,
					   join_names(ca_former_change(names, renamed->before, renamed->now)));
}

/* A table, not a materialized view, gets another name; the caches still have the old one. */
void
ca_former_note(Oid relid, char *before, char *now)
{
	Renamed renamed = {before, now};

	ca_rule_trigger_each(relid, AccessShareLock, note_trigger, &renamed);
}

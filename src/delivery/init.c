/*
 * init.c: settings of delivery.
 */
#include "cache_aside.h"
#include "common/common.h"
#include "delivery/delivery.h"
#include "delivery/redelete.h"

int guc_delivery;
bool guc_guard;
int guc_resync_on_promotion;
int guc_events;
int guc_events_stream_length;

static const struct config_enum_entry events_modes[] = {
	{"off", CA_EVENTS_OFF, false},
	{"publish", CA_EVENTS_PUBLISH, false},
	{"stream", CA_EVENTS_STREAM, false},
	{NULL, 0, false},
};

static const struct config_enum_entry delivery_modes[] = {
	{"primary", CA_DELIVER_PRIMARY, false},
	{"always", CA_DELIVER_ALWAYS, false},
	{"off", CA_DELIVER_OFF, false},
	{NULL, 0, false},
};

static const struct config_enum_entry resync_policies[] = {
	{"auto", CA_RESYNC_AUTO, false},
	{"always", CA_RESYNC_ALWAYS, false},
	{"never", CA_RESYNC_NEVER, false},
	{NULL, 0, false},
};

CA_RANGE(events_stream_length, 1, 100000000, "",
		 "Whoever is further behind than that has to forget all it knows.")
CA_RANGE(redelete_delay, 0, 3600 * 1000, " ms",
		 "Use 0 for never; for longer than an hour keys would pile up in memory.")

static void
define_events(void)
{
	DefineCustomEnumVariable(
		"cache_aside.events", "Are others told which keys are deleted, and how?",
		"publish: on the channel cache_aside:events:<system identifier> of Redis. stream: in the "
		"stream of that name. By the same atomic call that deletes them.",
		&guc_events, CA_EVENTS_OFF, events_modes, PGC_SIGHUP, 0, NULL, NULL, NULL);
	ca_settings_number("cache_aside.events_stream_length",
					   "Number of events that the stream keeps, about.",
					   "From 1 to 100 million. An event has up to 512 keys, and 64 kB of them.",
					   &guc_events_stream_length, 10000, PGC_SIGHUP, 0, check_events_stream_length);
}

static void
define_settings(void)
{
	DefineCustomBoolVariable(
		"cache_aside.redelete",
		"Delete each key again once every connected standby has its commit.",
		"For clients that fill with plain SET from a replica, or slowly: they can put an old value "
		"back. Guarded fills do not need it.",
		&guc_redelete, false, PGC_SIGHUP, 0, NULL, NULL, NULL);
	ca_settings_number(
		"cache_aside.redelete_delay", "Time after which a key is deleted a last time.",
		"From 0 to 1 h. Longer than a client takes from reading a row to storing it. 0: "
		"never.",
		&guc_redelete_delay, 1000, PGC_SIGHUP, GUC_UNIT_MS, check_redelete_delay);
	DefineCustomEnumVariable(
		"cache_aside.delivery", "Which server deletes keys.",
		"primary: the primary; a standby keeps the log it needs to take over. always: this server "
		"also as a standby, in a Redis of its own, after replay. off: nobody.",
		&guc_delivery, CA_DELIVER_PRIMARY, delivery_modes, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable(
		"cache_aside.guard", "Keep the guard that admits guarded fills.",
		"Off saves a little work in Redis; then every guarded fill is refused.", &guc_guard, true,
		PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable(
		"cache_aside.resync_on_promotion", "Delete everything cached after a promotion?",
		"What was cached from commits that the old primary lost is invalidated by nobody. auto: "
		"unless the old primary was shut down cleanly.",
		&guc_resync_on_promotion, CA_RESYNC_AUTO, resync_policies, PGC_SIGHUP, 0, NULL, NULL, NULL);
}

void
ca_delivery_init(void)
{
	define_settings();
	define_events();
}

/*
 * output_settings.c: output functions under fixed settings, so that two sessions write the same key.
 *
 * Input: an output function, once per column of a template. Output: which settings it reads; then,
 * around calls, the settings switched as a function's SET clause would do it. Known functions are
 * compared by address, so that domains and types that borrow a built-in function (citext) are known
 * too. An unknown function may read anything and gets everything pinned.
 *
 * An error between apply and undo is undone by the (sub)transaction's abort.
 */
#include "cache_aside.h"
#include "keys/output_settings.h"

#include "catalog/namespace.h"
#include "miscadmin.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/bytea.h"
#include "utils/float.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"

typedef struct Output
{
	PGFunction function;
	int pins;
} Output;

static const Output outputs[] = {
	{int4out, 0},
	{int8out, 0},
	{textout, 0},
	{uuid_out, 0},
	{varcharout, 0},
	{int2out, 0},
	{bpcharout, 0},
	{nameout, 0},
	{charout, 0},
	{boolout, 0},
	{numeric_out, 0},
	{enum_out, 0},
	{oidout, 0},
	{inet_out, 0},
	{cidr_out, 0},
	{macaddr_out, 0},
	{macaddr8_out, 0},
	{bit_out, 0},
	{varbit_out, 0},
	{json_out, 0},
	{jsonb_out, 0},
	{xidout, 0},
	{xid8out, 0},
	{tidout, 0},
	{pg_lsn_out, 0},

	{date_out, CA_PIN_DATE},
	{time_out, CA_PIN_DATE},
	{timetz_out, CA_PIN_DATE},
	{timestamp_out, CA_PIN_DATE},
	{timestamptz_out, CA_PIN_DATE | CA_PIN_ZONE},
	{interval_out, CA_PIN_INTERVAL},
	{float4out, CA_PIN_FLOAT},
	{float8out, CA_PIN_FLOAT},
	{byteaout, CA_PIN_BYTEA},
	{cash_out, CA_PIN_MONEY},
};

typedef struct Setting
{
	int pin;
	const char *name;
	const char *value;
} Setting;

static const Setting settings[] = {
	{CA_PIN_DATE, "DateStyle", "ISO, MDY"},
	{CA_PIN_ZONE, "TimeZone", "UTC"},
	{CA_PIN_INTERVAL, "IntervalStyle", "postgres"},
	{CA_PIN_FLOAT, "extra_float_digits", "1"},
	{CA_PIN_BYTEA, "bytea_output", "hex"},
	{CA_PIN_MONEY, "lc_monetary", "C"},
	{CA_PIN_OTHER, "xmlbinary", "base64"},
	{CA_PIN_OTHER, "quote_all_identifiers", "off"},
	/* Not named, pg_temp would come first for types and relations: those of whoever writes. */
	{CA_PIN_OTHER, "search_path", "pg_catalog, pg_temp"},
};

int
ca_output_settings_needed(const FmgrInfo *output)
{
	for (int i = 0; i < lengthof(outputs); i++)
	{
		if (outputs[i].function == output->fn_addr)
			return outputs[i].pins;
	}
	return CA_PIN_ALL;
}

/* Which of these settings have another value now? Any extra_float_digits > 0 gives the same text. */
static int
find_differing(int pins)
{
	int differing = pins & CA_PIN_OTHER;

	if ((pins & CA_PIN_DATE) != 0 && DateStyle != USE_ISO_DATES)
		differing |= CA_PIN_DATE;
	if ((pins & CA_PIN_ZONE) != 0 && strcmp(pg_get_timezone_name(session_timezone), "UTC") != 0)
		differing |= CA_PIN_ZONE;
	if ((pins & CA_PIN_INTERVAL) != 0 && IntervalStyle != INTSTYLE_POSTGRES)
		differing |= CA_PIN_INTERVAL;
	if ((pins & CA_PIN_FLOAT) != 0 && extra_float_digits <= 0)
		differing |= CA_PIN_FLOAT;
	if ((pins & CA_PIN_BYTEA) != 0 && bytea_output != BYTEA_OUTPUT_HEX)
		differing |= CA_PIN_BYTEA;
	if ((pins & CA_PIN_MONEY) != 0 &&
		strcmp(GetConfigOption("lc_monetary", false, false), "C") != 0)
		differing |= CA_PIN_MONEY;
	return differing;
}

int
ca_output_settings_apply(int pins)
{
	int differing = find_differing(pins);
	int nest;

	if (differing == 0)
		return -1;
	nest = NewGUCNestLevel();
	for (int i = 0; i < lengthof(settings); i++)
	{
		if ((settings[i].pin & differing) != 0)
			(void) set_config_option(settings[i].name, settings[i].value, PGC_USERSET,
									 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	}
	return nest;
}

void
ca_output_settings_undo(int nest)
{
	AtEOXact_GUC(true, nest);
}

/*
 * pending_view.c: what the open transaction would invalidate if it committed now. SQL: pending()
 */
#include "cache_aside.h"
#include "common/common.h"
#include "keys/keys.h"
#include "transaction/transaction.h"

#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

PG_FUNCTION_INFO_V1(cache_aside_pending);

static void
put_entry(void *arg, const char *entry)
{
	ReturnSetInfo *result = arg;
	Size skip = entry[0] == CA_ENTRY_STICK ? sizeof(uint32) : 0; /* its time to live */
	uint32 len;
	char *str;
	Datum values[2];
	bool nulls[2] = {false, false};

	if (entry[0] == CA_ENTRY_PREFIXES)
		return;
	memcpy(&len, entry + 1, sizeof(len));
	str = pnstrdup(entry + CA_ENTRY_HEADER_SIZE + skip, len - skip);
	values[0] = CStringGetTextDatum(entry[0] == CA_ENTRY_KEY       ? "key"
									: entry[0] == CA_ENTRY_PATTERN ? "pattern"
																   : "stick");
	str = ca_prefix_from_utf8(str);
	values[1] = CStringGetTextDatum(str);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

Datum
cache_aside_pending(PG_FUNCTION_ARGS)
{
	InitMaterializedSRF(fcinfo, 0);
	ca_pending_each(put_entry, fcinfo->resultinfo);
	return (Datum) 0;
}

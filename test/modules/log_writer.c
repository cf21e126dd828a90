/*
 * log_writer.c: writes logical messages into the log that no SQL function can write; for the tests of
 * what the worker believes. write_log_record(data, with_xid): `data` is the whole record, header
 * included; without a transaction id only the id of the record is left out, not that of the session.
 */
#include "postgres.h"

#include "access/htup_details.h" /* brings varatt.h, which 15 does not have */
#include "access/xact.h"
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "fmgr.h"
#include "replication/message.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(write_log_record);

Datum
write_log_record(PG_FUNCTION_ARGS)
{
	bytea *data = PG_GETARG_BYTEA_PP(0);

	if (PG_GETARG_BOOL(1))
		(void) GetCurrentTransactionId();
	XLogBeginInsert();
	XLogRegisterData(VARDATA_ANY(data), VARSIZE_ANY_EXHDR(data));
	PG_RETURN_LSN(XLogInsert(RM_LOGICALMSG_ID, XLOG_LOGICAL_MESSAGE));
}

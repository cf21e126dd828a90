
/* ---- transaction: the commit LSN ---- */

CREATE FUNCTION cache_aside.pending(OUT kind text, OUT key text) RETURNS SETOF record
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_pending';

COMMENT ON FUNCTION cache_aside.pending() IS
'What the open transaction will invalidate when it commits';

-- Keys tell values of rows that the writer may not read.
REVOKE ALL ON FUNCTION cache_aside.pending() FROM PUBLIC;

CREATE FUNCTION cache_aside.commit_lsn() RETURNS pg_lsn
LANGUAGE c VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'cache_aside_commit_lsn';
COMMENT ON FUNCTION cache_aside.commit_lsn() IS
'end of this session''s last commit that wrote, NULL if there was none; the token for route() and wait_for()';

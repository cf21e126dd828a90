/* cache_aside 1.0: what CREATE EXTENSION runs, in the order of src/ */

\echo Use "CREATE EXTENSION cache_aside" to load this file. \quit

/* ---- capture: rules, keys, gaps ---- */

CREATE FUNCTION cache_aside.require_preload() RETURNS void
LANGUAGE c VOLATILE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'cache_aside_require_preload';

COMMENT ON FUNCTION cache_aside.require_preload() IS
'Fails with a hint unless the library was loaded by shared_preload_libraries';

SELECT cache_aside.require_preload();

CREATE FUNCTION cache_aside.invalidate_row() RETURNS trigger
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_invalidate_row';

COMMENT ON FUNCTION cache_aside.invalidate_row() IS
'Trigger function, AFTER ... FOR EACH ROW: the argument is a key template';

CREATE FUNCTION cache_aside.invalidate_table() RETURNS trigger
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_invalidate_table';

COMMENT ON FUNCTION cache_aside.invalidate_table() IS
'Trigger function, AFTER TRUNCATE FOR EACH STATEMENT: deletes every key of the rule';

CREATE FUNCTION cache_aside.invalidate(VARIADIC keys text[]) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_invalidate';

COMMENT ON FUNCTION cache_aside.invalidate(text[]) IS
'Deletes these keys from Redis when the transaction commits';

REVOKE ALL ON FUNCTION cache_aside.invalidate(text[]) FROM PUBLIC;

CREATE FUNCTION cache_aside.invalidate_pattern(pattern text) RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_invalidate_pattern';

COMMENT ON FUNCTION cache_aside.invalidate_pattern(text) IS
'Deletes every key that matches the glob pattern when the transaction commits';

REVOKE ALL ON FUNCTION cache_aside.invalidate_pattern(text) FROM PUBLIC;

CREATE FUNCTION cache_aside.pending(OUT kind text, OUT key text) RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_pending';

COMMENT ON FUNCTION cache_aside.pending() IS
'What the open transaction will invalidate when it commits';

CREATE FUNCTION cache_aside.attach(relation regclass, template text) RETURNS text
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_attach';

COMMENT ON FUNCTION cache_aside.attach(regclass, text) IS
'Adds a rule: each write to the table deletes the keys that the template names';

/* ---- worker: delivery and status ---- */

/* ---- reads: guarded fills ---- */

/* ---- row versions ---- */

/* ---- items ---- */

/* ---- routing ---- */

CREATE FUNCTION cache_aside.classify(query text, OUT read_only boolean, OUT reason text)
RETURNS record LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'cache_aside_classify';
COMMENT ON FUNCTION cache_aside.classify(text) IS
'may this SQL text run on a read replica, and if not, why not; parsed, analysed and rewritten, never executed';

CREATE FUNCTION cache_aside.is_read_only(query text)
RETURNS boolean LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'cache_aside_is_read_only';
COMMENT ON FUNCTION cache_aside.is_read_only(text) IS
'may this SQL text run on a read replica; see classify()';

CREATE FUNCTION cache_aside.commit_lsn() RETURNS pg_lsn
LANGUAGE c VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'cache_aside_commit_lsn';
COMMENT ON FUNCTION cache_aside.commit_lsn() IS
'end of this session''s last commit that wrote, NULL if there was none; the token for route() and wait_for()';


/* ---- delivery ---- */

CREATE FUNCTION cache_aside.adopt() RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_adopt';

COMMENT ON FUNCTION cache_aside.adopt() IS
'Takes Redis for this server, whichever server delivers there. Superusers only; not undone by ROLLBACK';
REVOKE ALL ON FUNCTION cache_aside.adopt() FROM PUBLIC;

-- Everything that the extension brings, with who may use it and how it runs: whoever adds an object
-- or widens a right changes this list too. Rights of the owner are left out; for functions and
-- types, PostgreSQL gives EXECUTE and USAGE to PUBLIC unless they are taken away.
\pset format unaligned
\pset null -
SET search_path = pg_catalog, pg_temp;
SET lc_messages = 'C';

CREATE FUNCTION pg_temp.granted(acl aclitem[], kind "char", owner oid) RETURNS text
LANGUAGE sql RETURN (
	SELECT string_agg(format('%s%s: %s', g.grantee, g.option, g.privileges), '; ' ORDER BY g.grantee)
	FROM (SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END AS grantee,
			CASE WHEN a.is_grantable THEN ' (may grant)' ELSE '' END AS option,
			string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type) AS privileges
		FROM aclexplode(coalesce(acl, acldefault(kind, owner))) a
		WHERE a.grantee <> owner GROUP BY 1, 2) g);

\echo ==== what there is, by kind; all of it in the schema
SELECT i.type, count(*) FROM pg_depend d, pg_extension e,
	LATERAL pg_identify_object(d.classid, d.objid, d.objsubid) i
WHERE e.extname = 'cache_aside' AND d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid
	AND d.deptype = 'e' AND i.type NOT IN ('type', 'composite type')
GROUP BY i.type ORDER BY i.type COLLATE "C";

\echo ==== what is in the schema and does not belong to the extension
SELECT pg_describe_object(o.classid, o.oid, 0) AS object FROM (
	SELECT 'pg_class'::regclass::oid AS classid, oid, relnamespace AS namespace FROM pg_class
		WHERE relkind NOT IN ('i', 'I', 'c')
	UNION ALL SELECT 'pg_proc'::regclass, oid, pronamespace FROM pg_proc
	UNION ALL SELECT 'pg_operator'::regclass, oid, oprnamespace FROM pg_operator) o
WHERE o.namespace = 'cache_aside'::regnamespace AND NOT EXISTS (
	SELECT FROM pg_depend d WHERE d.classid = o.classid AND d.objid = o.oid AND d.deptype = 'e');

\echo ==== what views, functions, constraints, defaults and triggers need from elsewhere
WITH member AS (
	SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
	WHERE e.extname = 'cache_aside' AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
), part AS (
	SELECT classid, objid FROM member
	UNION SELECT d.classid, d.objid FROM pg_depend d JOIN member m ON m.classid = d.refclassid AND m.objid = d.refobjid
	WHERE d.classid IN ('pg_rewrite'::regclass, 'pg_constraint'::regclass, 'pg_attrdef'::regclass, 'pg_trigger'::regclass)
)
SELECT pg_describe_object(p.classid, p.objid, 0) AS part, pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid) AS needs
FROM part p JOIN pg_depend d ON d.classid = p.classid AND d.objid = p.objid,
	LATERAL pg_identify_object(d.refclassid, d.refobjid, d.refobjsubid) o
WHERE coalesce(o.schema, 'cache_aside') NOT IN ('pg_catalog', 'cache_aside', 'pg_toast');

\echo ==== schema
SELECT nspname AS schema, pg_temp.granted(nspacl, 'n', nspowner) AS granted
FROM pg_namespace WHERE nspname = 'cache_aside';

\echo ==== tables and views, indexes, options
SELECT c.relname AS relation, c.relkind AS kind, c.relpersistence AS persistence,
	c.relrowsecurity AS row_security, c.reloptions AS options,
	pg_temp.granted(c.relacl, 'r', c.relowner) AS granted
FROM pg_class c WHERE c.relnamespace = 'cache_aside'::regnamespace
ORDER BY c.relname COLLATE "C";

\echo ==== columns with rights of their own
SELECT a.attrelid::regclass, a.attname, a.attacl FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = 'cache_aside'::regnamespace AND a.attacl IS NOT NULL;

\echo ==== types but rows of relations and arrays
SELECT t.typname AS type, t.typtype AS kind, pg_temp.granted(t.typacl, 'T', t.typowner) AS granted
FROM pg_type t WHERE t.typnamespace = 'cache_aside'::regnamespace AND t.typelem = 0 AND t.typrelid = 0
ORDER BY t.typname COLLATE "C";

\echo ==== triggers of the tables
SELECT t.tgrelid::regclass AS relation, t.tgname AS trigger, t.tgenabled AS enabled,
	t.tgfoid::regprocedure AS function
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
WHERE c.relnamespace = 'cache_aside'::regnamespace AND NOT t.tgisinternal
ORDER BY t.tgrelid::regclass::text COLLATE "C", t.tgname COLLATE "C";

\echo ==== functions: language, whose rights, volatile, parallel, strict, leakproof, SET, who may
SELECT p.oid::regprocedure AS function, l.lanname AS language,
	CASE WHEN p.prosecdef THEN 'owner' ELSE 'caller' END AS rights_of,
	p.provolatile AS volatile, p.proparallel AS parallel, p.proisstrict AS strict,
	p.proleakproof AS leakproof, array_to_string(p.proconfig, '; ') AS "SET",
	pg_temp.granted(p.proacl, 'f', p.proowner) AS granted
FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
WHERE p.pronamespace = 'cache_aside'::regnamespace
ORDER BY p.oid::regprocedure::text COLLATE "C";

\echo ==== settings: who may set them, who may read them
SET ROLE pg_monitor;
SELECT array_agg(name) AS monitor FROM pg_settings \gset
RESET ROLE;
CREATE ROLE cache_aside_nobody;
SET ROLE cache_aside_nobody;
SELECT array_agg(name) AS everybody FROM pg_settings \gset
RESET ROLE;
DROP ROLE cache_aside_nobody;
SELECT name, context, CASE WHEN name = ANY (:'everybody') THEN 'everybody'
	WHEN name = ANY (:'monitor') THEN 'pg_read_all_settings' ELSE 'superuser' END AS may_read,
	array_to_string(pg_settings_get_flags(name), ', ') AS flags
FROM pg_settings WHERE name LIKE 'cache\_aside.%' AND name <> 'cache_aside.debug_point'
ORDER BY name COLLATE "C";


/* ---- rows: row versions, items ---- */

-- Everybody may call these: they take the oid of a trigger, and look into the catalog themselves.
CREATE FUNCTION cache_aside.trigger_arguments(trigger oid) RETURNS text[]
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'cache_aside_trigger_arguments_1_1';

COMMENT ON FUNCTION cache_aside.trigger_arguments(oid) IS
'Arguments of a trigger of this extension, NULL for any other; for the views';

CREATE FUNCTION cache_aside.row_version() RETURNS trigger
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_row_version';

COMMENT ON FUNCTION cache_aside.row_version() IS
'Trigger function, BEFORE INSERT OR UPDATE OR DELETE ... FOR EACH ROW: row_version(column, presents [, counted columns...])';

CREATE FUNCTION cache_aside.enable_versioning(relation regclass, version name DEFAULT 'version',
	columns name[] DEFAULT NULL, start text DEFAULT 'unused', presents text DEFAULT 'next') RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'cache_aside_enable_versioning';

COMMENT ON FUNCTION cache_aside.enable_versioning(regclass, name, name[], text, text) IS
'Gives each row of a table a version that no writer can skip';

CREATE FUNCTION cache_aside.disable_versioning(relation regclass, drop_column boolean DEFAULT false)
RETURNS void
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'cache_aside_disable_versioning';

COMMENT ON FUNCTION cache_aside.disable_versioning(regclass, boolean) IS
'Takes the version trigger off a table and, if asked, drops the column';

CREATE VIEW cache_aside.versioned AS
SELECT t.tgrelid::pg_catalog.regclass AS relation,
	a.args[1]::pg_catalog.name AS version,
	pg_catalog.split_part(a.args[2], ', ', 1) AS presents,
	CASE WHEN a.args[2] OPERATOR(pg_catalog.~~) '%, %' THEN pg_catalog.split_part(a.args[2], ', ', 2)
		ELSE 'one' END AS start,
	CASE WHEN pg_catalog.cardinality(a.args) OPERATOR(pg_catalog.>) 2
		THEN a.args[3:]::pg_catalog.name[] END AS columns,
	t.tgname AS trigger,
	t.tgenabled OPERATOR(pg_catalog.=) ANY (ARRAY['O', 'A']::pg_catalog."char"[]) AS enabled,
	NOT EXISTS (SELECT FROM pg_catalog.pg_trigger later
		WHERE later.tgrelid OPERATOR(pg_catalog.=) t.tgrelid
			AND later.tgname OPERATOR(pg_catalog.>) t.tgname
			AND (later.tgtype::pg_catalog.int4 OPERATOR(pg_catalog.&) 3) OPERATOR(pg_catalog.=) 3
			AND (later.tgtype::pg_catalog.int4 OPERATOR(pg_catalog.&) 20)
				OPERATOR(pg_catalog.<>) 0) AS fires_last,
	ARRAY(SELECT name FROM pg_catalog.unnest(a.args[1:1] OPERATOR(pg_catalog.||) a.args[3:]) AS name
		WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_attribute c
			WHERE c.attrelid OPERATOR(pg_catalog.=) t.tgrelid
				AND c.attname OPERATOR(pg_catalog.=) name
				AND c.attnum OPERATOR(pg_catalog.>) 0 AND NOT c.attisdropped)) AS missing_columns,
	ARRAY(SELECT below.relation::pg_catalog.regclass FROM cache_aside.tables_below(t.tgrelid) below
		WHERE EXISTS (SELECT FROM pg_catalog.pg_class p
			WHERE p.oid OPERATOR(pg_catalog.=) t.tgrelid AND p.relhassubclass)
		AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger child
			WHERE child.tgrelid OPERATOR(pg_catalog.=) below.relation
				AND child.tgfoid OPERATOR(pg_catalog.=) t.tgfoid
				AND child.tgenabled OPERATOR(pg_catalog.=) ANY
					(ARRAY['O', 'A']::pg_catalog."char"[]))
		ORDER BY below.relation) AS bare_children
FROM pg_catalog.pg_trigger t
	CROSS JOIN LATERAL (SELECT cache_aside.trigger_arguments(t.oid) AS args) a
WHERE t.tgfoid OPERATOR(pg_catalog.=) 'cache_aside.row_version()'::pg_catalog.regprocedure
	AND t.tgparentid OPERATOR(pg_catalog.=) 0;

COMMENT ON VIEW cache_aside.versioned IS
'Tables with row versions, how they are kept, and what is wrong with them: a trigger that is off or not the last to fire, columns that are gone, children without one';

GRANT SELECT ON cache_aside.versioned TO PUBLIC;

-- What keeps rows of a versioned table from getting their versions. Internal, for the view gaps.
CREATE VIEW cache_aside.version_gaps AS
WITH kept AS (
	SELECT v.*, c.atttypid, c.attgenerated, c.attnum,
		pg_catalog.format('row_version(%s)', v.version) AS rule,
		pg_catalog.format('SELECT cache_aside.disable_versioning(%L); ', v.relation) AS off,
		pg_catalog.format('version => %L, start => %L, presents => %L', v.version, v.start, v.presents) AS how,
		ARRAY(SELECT name FROM pg_catalog.unnest(v.columns) AS name
			WHERE NOT name::pg_catalog.text OPERATOR(pg_catalog.=) ANY (v.missing_columns)) AS remaining
	FROM cache_aside.versioned v
		LEFT JOIN pg_catalog.pg_attribute c ON c.attrelid OPERATOR(pg_catalog.=) v.relation::pg_catalog.oid
			AND c.attname OPERATOR(pg_catalog.=) v.version AND c.attnum OPERATOR(pg_catalog.>) 0
			AND NOT c.attisdropped
), able AS (
	SELECT k.*, pg_catalog.format('(%L, %s%s);', k.relation, k.how, k.list) AS enable
	FROM (SELECT k.*, CASE WHEN pg_catalog.cardinality(k.remaining) OPERATOR(pg_catalog.>) 0
			THEN pg_catalog.format(', columns => %L', k.remaining) END AS list FROM kept k) k
)
SELECT a.relation, a.rule,
	pg_catalog.format('column %I is gone: rows are written without a version', a.version) AS gap,
	pg_catalog.format('%sSELECT cache_aside.enable_versioning%s -- if it was renamed, with the new name as version',
		a.off, a.enable) AS remedy
FROM able a WHERE a.attnum IS NULL
UNION ALL
SELECT a.relation, a.rule,
	pg_catalog.format('column %I is no plain integer column: rows are written without a version', a.version),
	CASE WHEN a.attgenerated OPERATOR(pg_catalog.=) ''
		THEN pg_catalog.format('ALTER TABLE %1$s ALTER COLUMN %2$I DROP DEFAULT, ALTER COLUMN %2$I TYPE pg_catalog.int4 USING %2$I::pg_catalog.text::pg_catalog.int4;',
			a.relation, a.version)
		ELSE pg_catalog.format('%sALTER TABLE %s DROP COLUMN %I; SELECT cache_aside.enable_versioning%s',
			a.off, a.relation, a.version, a.enable) END
FROM able a WHERE a.attgenerated OPERATOR(pg_catalog.<>) ''
	OR NOT a.atttypid OPERATOR(pg_catalog.=) ANY
		(ARRAY['pg_catalog.int2', 'pg_catalog.int4', 'pg_catalog.int8']::pg_catalog.regtype[]::pg_catalog.oid[])
UNION ALL
SELECT a.relation, a.rule,
	pg_catalog.format('columns that counted are gone (%s): every column counts',
		pg_catalog.array_to_string(a.missing_columns, ', ')),
	pg_catalog.format('%sSELECT cache_aside.enable_versioning%s', a.off, a.enable)
FROM able a
WHERE a.attnum IS NOT NULL AND pg_catalog.cardinality(a.missing_columns) OPERATOR(pg_catalog.>) 0
UNION ALL
SELECT a.relation, a.rule,
	pg_catalog.format('column %I has lost its sequence: new rows start at 1', a.version),
	pg_catalog.format('%sSELECT cache_aside.enable_versioning%s', a.off, a.enable)
FROM able a
WHERE a.start OPERATOR(pg_catalog.<>) 'one' AND a.attnum IS NOT NULL AND NOT EXISTS (
	WITH RECURSIVE above AS (
		SELECT a.relation::pg_catalog.oid AS relid
	UNION
		SELECT i.inhparent FROM above
		JOIN pg_catalog.pg_inherits i ON i.inhrelid OPERATOR(pg_catalog.=) above.relid)
	SELECT FROM above
	JOIN pg_catalog.pg_attribute c ON c.attrelid OPERATOR(pg_catalog.=) above.relid
		AND c.attname OPERATOR(pg_catalog.=) a.version
	JOIN pg_catalog.pg_depend d ON d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid
		AND d.classid OPERATOR(pg_catalog.=) d.refclassid AND d.refobjid OPERATOR(pg_catalog.=) c.attrelid
		AND d.refobjsubid OPERATOR(pg_catalog.=) c.attnum::pg_catalog.int4
		AND d.deptype OPERATOR(pg_catalog.=) ANY ('{a,i}'::pg_catalog."char"[])
	JOIN pg_catalog.pg_class s ON s.oid OPERATOR(pg_catalog.=) d.objid AND s.relkind OPERATOR(pg_catalog.=) 'S')
UNION ALL
SELECT a.relation, a.rule,
	pg_catalog.format('trigger %I is off: rows are written as they come', a.trigger),
	pg_catalog.format('ALTER TABLE %s ENABLE TRIGGER %I;', a.relation, a.trigger)
FROM able a WHERE NOT a.enabled
UNION ALL
SELECT child, a.rule,
	CASE WHEN t.oid IS NULL
		THEN pg_catalog.format('the table inherits from %s and has no version trigger', a.relation)
		ELSE pg_catalog.format('trigger %I is off: rows are written as they come', t.tgname) END,
	CASE WHEN t.oid IS NULL
		THEN pg_catalog.format('SELECT cache_aside.enable_versioning(%L, %s%s);', child, a.how, a.list)
		ELSE pg_catalog.format('ALTER TABLE %s ENABLE TRIGGER %I;', child, t.tgname) END
FROM able a
	CROSS JOIN LATERAL pg_catalog.unnest(a.bare_children) AS child
	LEFT JOIN pg_catalog.pg_trigger t ON t.tgrelid OPERATOR(pg_catalog.=) child::pg_catalog.oid
		AND t.tgfoid OPERATOR(pg_catalog.=) 'cache_aside.row_version()'::pg_catalog.regprocedure::pg_catalog.oid
WHERE t.tgparentid IS NULL OR t.tgparentid OPERATOR(pg_catalog.<>) 0;

COMMENT ON VIEW cache_aside.version_gaps IS
'Version triggers that do not do what they were made for, each with the statement that repairs it; a part of gaps';

GRANT SELECT ON cache_aside.version_gaps TO PUBLIC;

CREATE FUNCTION cache_aside.put_if_absent(relation regclass, item jsonb) RETURNS jsonb
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_put_if_absent';

COMMENT ON FUNCTION cache_aside.put_if_absent(regclass, jsonb) IS
'Inserts a row unless its primary key exists; the stored row, or NULL when it existed';

CREATE FUNCTION cache_aside.get_item(relation regclass, key jsonb) RETURNS jsonb
LANGUAGE c STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'cache_aside_get_item';

COMMENT ON FUNCTION cache_aside.get_item(regclass, jsonb) IS
'The row with this primary key, or NULL';

CREATE FUNCTION cache_aside.update_item(relation regclass, key jsonb, changes jsonb,
	expected_version bigint DEFAULT NULL) RETURNS jsonb
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_update_item';

COMMENT ON FUNCTION cache_aside.update_item(regclass, jsonb, jsonb, bigint) IS
'Changes columns of one row; the new row, NULL when it is absent, error 40001 when its version is not the expected one';

CREATE FUNCTION cache_aside.update_item_if(relation regclass, key jsonb, changes jsonb,
	expected_version bigint) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_update_item_if';

COMMENT ON FUNCTION cache_aside.update_item_if(regclass, jsonb, jsonb, bigint) IS
'Changes columns of one row if it has this version; false when it has not, or is absent';

CREATE FUNCTION cache_aside.delete_item(relation regclass, key jsonb,
	expected_version bigint DEFAULT NULL) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_delete_item';

COMMENT ON FUNCTION cache_aside.delete_item(regclass, jsonb, bigint) IS
'Deletes one row; false when it is absent, error 40001 when its version is not the expected one';

CREATE FUNCTION cache_aside.query_items(relation regclass, match jsonb, range jsonb DEFAULT NULL,
	newest_first boolean DEFAULT true, row_limit integer DEFAULT 20) RETURNS SETOF jsonb
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 20
AS 'MODULE_PATHNAME', 'cache_aside_query_items';

COMMENT ON FUNCTION cache_aside.query_items(regclass, jsonb, jsonb, boolean, integer) IS
'Rows whose columns equal match and whose range column lies in [from, to), in the order of that column';

CREATE FUNCTION cache_aside.query_page(relation regclass, match jsonb, range jsonb DEFAULT NULL,
	newest_first boolean DEFAULT true, row_limit integer DEFAULT 20, after text DEFAULT NULL)
RETURNS TABLE (item jsonb, cursor text)
LANGUAGE c STABLE PARALLEL RESTRICTED ROWS 20
SET extra_float_digits TO 1
AS 'MODULE_PATHNAME', 'cache_aside_query_page';

COMMENT ON FUNCTION cache_aside.query_page(regclass, jsonb, jsonb, boolean, integer, text) IS
'Rows as from query_items, each with a cursor; given the cursor of a row, those beyond it: no row of a page is lost or doubled';

/* cache_aside 1.0: what CREATE EXTENSION runs, in the order of src/ */

\echo Use "CREATE EXTENSION cache_aside" to load this file. \quit

-- The path that CREATE EXTENSION sets has the schema before pg_temp; what the script means is
-- written out instead: every name, type and operator below is qualified, and test/t/security/qualified_names sees to it.
-- So no IN, BETWEEN, LIKE and CASE x WHEN, which take their operator from the path.
SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);

/* ---- capture: rules, keys, gaps ---- */

CREATE FUNCTION cache_aside.check_installation() RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_check_installation';

COMMENT ON FUNCTION cache_aside.check_installation() IS
'Fails with a hint unless the library was preloaded and nobody else could have put anything into the schema; CREATE EXTENSION calls it';

REVOKE ALL ON FUNCTION cache_aside.check_installation() FROM PUBLIC;

SELECT cache_aside.check_installation();

GRANT USAGE ON SCHEMA cache_aside TO PUBLIC;

CREATE FUNCTION cache_aside.invalidate_row() RETURNS trigger
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_invalidate_row';

COMMENT ON FUNCTION cache_aside.invalidate_row() IS
'Trigger function, AFTER INSERT OR UPDATE OR DELETE FOR EACH ROW; argument: key template';

CREATE FUNCTION cache_aside.invalidate_statement() RETURNS trigger
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_invalidate_statement';

COMMENT ON FUNCTION cache_aside.invalidate_statement() IS
'Trigger function, AFTER one event FOR EACH STATEMENT with transition tables; argument: key template, or pattern, query and name of a query rule';

CREATE FUNCTION cache_aside.invalidate_table() RETURNS trigger
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_invalidate_table';

COMMENT ON FUNCTION cache_aside.invalidate_table() IS
'Trigger function, AFTER TRUNCATE FOR EACH STATEMENT: every key of the rule; same arguments as the rule''s other triggers';

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
'Deletes every key that matches the glob pattern from Redis when the transaction commits';

REVOKE ALL ON FUNCTION cache_aside.invalidate_pattern(text) FROM PUBLIC;

CREATE FUNCTION cache_aside.pending(OUT kind text, OUT key text) RETURNS SETOF record
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_pending';

COMMENT ON FUNCTION cache_aside.pending() IS
'What the open transaction will invalidate when it commits';

-- Keys tell values of rows that the writer may not read.
REVOKE ALL ON FUNCTION cache_aside.pending() FROM PUBLIC;

CREATE FUNCTION cache_aside.attach(relation regclass, template text,
    columns name[] DEFAULT NULL, level text DEFAULT 'row') RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'cache_aside_attach';

COMMENT ON FUNCTION cache_aside.attach(regclass, text, name[], text) IS
'Adds a rule: writes to the table delete the keys the template names; returns the rule''s name';

CREATE FUNCTION cache_aside.attach_query(relation regclass, query text, pattern text,
    name text DEFAULT NULL) RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'cache_aside_attach_query';

COMMENT ON FUNCTION cache_aside.attach_query(regclass, text, text, text) IS
'Adds a query rule: each row that the query over "changed" returns is a key; returns its name';

CREATE FUNCTION cache_aside.detach(relation regclass, name text DEFAULT NULL) RETURNS integer
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'cache_aside_detach';

COMMENT ON FUNCTION cache_aside.detach(regclass, text) IS
'Removes a rule, or all rules of the table; returns how many';

CREATE FUNCTION cache_aside.attach_like(relation regclass, old regclass) RETURNS integer
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'cache_aside_attach_like';

COMMENT ON FUNCTION cache_aside.attach_like(regclass, regclass) IS
'Moves rules and row versions from a table to the one that replaces it; returns how many rules';

CREATE FUNCTION cache_aside.keys(relation regclass, "row" jsonb) RETURNS SETOF text
LANGUAGE c STABLE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'cache_aside_keys';

COMMENT ON FUNCTION cache_aside.keys(regclass, jsonb) IS
'The keys that a write of this row would delete, for people writing rules';

-- Everybody may call these: they take the oid of a trigger, and look into the catalog themselves.
CREATE FUNCTION cache_aside.trigger_arguments(trigger oid) RETURNS text[]
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'cache_aside_trigger_arguments';

COMMENT ON FUNCTION cache_aside.trigger_arguments(oid) IS
'Arguments of a trigger of this extension, NULL for any other; for the views';

CREATE FUNCTION cache_aside.rule_pattern(trigger oid) RETURNS text
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'cache_aside_rule_pattern';

COMMENT ON FUNCTION cache_aside.rule_pattern(oid) IS
'Glob pattern that covers every key of a trigger''s rule, without key_prefix; NULL if it is malformed';

CREATE FUNCTION cache_aside.rule_columns(trigger oid) RETURNS name[]
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'cache_aside_rule_columns';

COMMENT ON FUNCTION cache_aside.rule_columns(oid) IS
'Columns that an UPDATE must change for the rule of this trigger to follow it, NULL when every UPDATE counts';

CREATE FUNCTION cache_aside.rule_problem(trigger oid) RETURNS text
LANGUAGE c STABLE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_rule_problem';

COMMENT ON FUNCTION cache_aside.rule_problem(oid) IS
'What makes a trigger''s rule unfit for its table today; NULL if nothing, or for those who may not know: not a member of the owner nor of pg_monitor';

CREATE FUNCTION cache_aside.rule_heir(trigger oid) RETURNS regclass
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'cache_aside_rule_heir';

COMMENT ON FUNCTION cache_aside.rule_heir(oid) IS
'The table that now has the name under which the table of a trigger of this extension got it; NULL if there is none, or it is that table';

CREATE TABLE cache_aside.lost_rule (
	relation text NOT NULL,
	rule text NOT NULL,
	statement text NOT NULL
);

COMMENT ON TABLE cache_aside.lost_rule IS
'Rules and versions of tables that were dropped, for gaps: a table of the same name may need them';

SELECT pg_catalog.pg_extension_config_dump('cache_aside.lost_rule', '');

CREATE TABLE cache_aside.view_rule (
	relation regclass NOT NULL,
	template text NOT NULL
);

COMMENT ON TABLE cache_aside.view_rule IS
'Rules of materialized views, which can have no trigger; written by attach and detach';

SELECT pg_catalog.pg_extension_config_dump('cache_aside.view_rule', '');

CREATE FUNCTION cache_aside.template_pattern(template text) RETURNS text
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'cache_aside_template_pattern';

COMMENT ON FUNCTION cache_aside.template_pattern(text) IS
'Glob pattern that covers every key of a template, without key_prefix; NULL if it is malformed';

-- One row per trigger that belongs to a rule, partitions' copies included.
CREATE VIEW cache_aside.rule_triggers AS
SELECT t.tgrelid::pg_catalog.regclass AS relation,
       CASE WHEN pg_catalog.cardinality(a.arguments) OPERATOR(pg_catalog.>=) 3 THEN a.arguments[3]
            ELSE COALESCE(a.arguments[1], '') END AS rule,
       t.tgname AS trigger,
       f.level,
       a.arguments,
       t.tgtype::pg_catalog.int4 AS type,
       t.tgenabled AS enabled,
       t.tgparentid OPERATOR(pg_catalog.<>) 0::pg_catalog.oid AS inherited,
       t.oid
  FROM pg_catalog.pg_trigger t
  JOIN (VALUES ('cache_aside.invalidate_row()'::pg_catalog.regprocedure, 'row'::pg_catalog.text),
               ('cache_aside.invalidate_statement()'::pg_catalog.regprocedure, 'statement'),
               ('cache_aside.invalidate_table()'::pg_catalog.regprocedure, 'table')) f (oid, level)
    ON f.oid OPERATOR(pg_catalog.=) t.tgfoid
 CROSS JOIN LATERAL (SELECT cache_aside.trigger_arguments(t.oid) AS arguments) a;

COMMENT ON VIEW cache_aside.rule_triggers IS
'Triggers that belong to cache rules, one row each; rules and gaps are made from it';

CREATE VIEW cache_aside.rules AS
SELECT t.relation,
       t.rule AS name,
       CASE WHEN pg_catalog.cardinality(t.arguments) OPERATOR(pg_catalog.<) 2
            THEN COALESCE(t.arguments[1], '') END AS template,
       t.arguments[2] AS query,
       cache_aside.rule_pattern(pg_catalog.min(t.oid)) AS pattern,
       (SELECT pg_catalog.array_agg(c ORDER BY c)
          FROM pg_catalog.unnest(cache_aside.rule_columns(pg_catalog.min(t.oid))) c) AS columns,
       CASE WHEN pg_catalog.bool_or(t.level OPERATOR(pg_catalog.=) 'row') THEN 'row'
            WHEN pg_catalog.bool_or(t.level OPERATOR(pg_catalog.=) 'statement') THEN 'statement'
            ELSE 'table' END AS level,
       CASE WHEN pg_catalog.count(DISTINCT t.enabled) OPERATOR(pg_catalog.>) 1 THEN 'mixed'
            WHEN pg_catalog.min(t.enabled) OPERATOR(pg_catalog.=) 'A' THEN 'always'
            WHEN pg_catalog.min(t.enabled) OPERATOR(pg_catalog.=) 'O' THEN 'origin'
            WHEN pg_catalog.min(t.enabled) OPERATOR(pg_catalog.=) 'R' THEN 'replica'
            ELSE 'disabled' END AS enabled,
       pg_catalog.array_agg(t.trigger ORDER BY t.trigger) AS triggers
  FROM cache_aside.rule_triggers t
 WHERE NOT t.inherited
 GROUP BY t.relation, t.rule, t.arguments
UNION ALL
SELECT v.relation, v.template, v.template, NULL, cache_aside.template_pattern(v.template), NULL, 'refresh', 'always',
       ARRAY[]::pg_catalog.name[]
  FROM cache_aside.view_rule v
  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) v.relation AND c.relkind OPERATOR(pg_catalog.=) 'm';

COMMENT ON VIEW cache_aside.rules IS
'Cache rules of this database, read from the triggers that are them, and those of materialized views';

/* ---- row versions ---- */

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
	ARRAY(WITH RECURSIVE below AS (
			SELECT i.inhrelid AS relid FROM pg_catalog.pg_inherits i
			WHERE i.inhparent OPERATOR(pg_catalog.=) t.tgrelid
		UNION ALL
			SELECT i.inhrelid FROM below
			JOIN pg_catalog.pg_inherits i ON i.inhparent OPERATOR(pg_catalog.=) below.relid)
		SELECT below.relid::pg_catalog.regclass FROM below
		WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_trigger child
			WHERE child.tgrelid OPERATOR(pg_catalog.=) below.relid
				AND child.tgfoid OPERATOR(pg_catalog.=) t.tgfoid
				AND child.tgenabled OPERATOR(pg_catalog.=) ANY
					(ARRAY['O', 'A']::pg_catalog."char"[]))) AS bare_children
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

-- Statements that make a rule, as gaps shows them. Internal.
CREATE FUNCTION cache_aside.rule_statement(relation regclass, arguments text[], columns name[], level text)
RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN pg_catalog.cardinality(arguments) OPERATOR(pg_catalog.>) 1
  THEN pg_catalog.format('SELECT cache_aside.attach_query(%L, %L, %L, %L);', relation, arguments[2], arguments[1],
                         COALESCE(arguments[3], arguments[1]))
  ELSE pg_catalog.format('SELECT cache_aside.attach(%L, %L%s%s);', relation, arguments[1],
         CASE WHEN columns IS NOT NULL THEN pg_catalog.format(', columns => %L', columns) ELSE '' END,
         CASE WHEN level OPERATOR(pg_catalog.=) 'statement' THEN ', level => ''statement''' ELSE '' END)
  END;

COMMENT ON FUNCTION cache_aside.rule_statement(regclass, text[], name[], text) IS
'The statement that attaches a rule; for the view gaps';

CREATE TABLE cache_aside.stray_pattern (
	rule text NOT NULL,
	declared text NOT NULL,
	pattern text NOT NULL,
	owner name NOT NULL
);

COMMENT ON TABLE cache_aside.stray_pattern IS
'Keys that a query rule gave outside its declared pattern, as patterns: a resync deletes them too; written by the trigger functions';

SELECT pg_catalog.pg_extension_config_dump('cache_aside.stray_pattern', '');

CREATE VIEW cache_aside.gaps AS
WITH RECURSIVE below (ancestor, relation, is_partition) AS (
    SELECT i.inhparent, i.inhrelid, c.relispartition
      FROM pg_catalog.pg_inherits i
      JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.inhrelid
     WHERE c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r', 'p', 'f']::pg_catalog."char"[])
       AND c.relpersistence OPERATOR(pg_catalog.<>) 't'
    UNION
    SELECT b.ancestor, i.inhrelid, b.is_partition
      FROM below b
      JOIN pg_catalog.pg_inherits i ON i.inhparent OPERATOR(pg_catalog.=) b.relation
      JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.inhrelid
     WHERE c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r', 'p', 'f']::pg_catalog."char"[])
       AND c.relpersistence OPERATOR(pg_catalog.<>) 't'
), covered AS (
    SELECT t.relation, t.rule, pg_catalog.min(t.arguments) AS arguments,
           pg_catalog.bit_or(t.type) AS type,
           pg_catalog.bool_or(t.level OPERATOR(pg_catalog.=) 'statement') AS statement
      FROM cache_aside.rule_triggers t
     GROUP BY t.relation, t.rule
), uncovered AS (
    SELECT v.relation, v.rule, v.arguments, e.name AS event
      FROM covered v
      JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) v.relation
     CROSS JOIN (VALUES (4, 'INSERT'), (16, 'UPDATE'), (8, 'DELETE'), (32, 'TRUNCATE')) e (bit, name)
     WHERE (v.type OPERATOR(pg_catalog.&) e.bit) OPERATOR(pg_catalog.=) 0
       -- foreign tables have TRUNCATE triggers since PostgreSQL 16
       AND NOT (e.bit OPERATOR(pg_catalog.=) 32 AND c.relkind OPERATOR(pg_catalog.=) 'f'
                AND pg_catalog.current_setting('server_version_num')::pg_catalog.int4
                    OPERATOR(pg_catalog.<) 160000)
       AND NOT EXISTS (SELECT FROM below b
                         JOIN covered a ON a.relation OPERATOR(pg_catalog.=) b.ancestor
                          AND a.rule OPERATOR(pg_catalog.=) v.rule
                        WHERE b.relation OPERATOR(pg_catalog.=) v.relation AND b.is_partition)
)
SELECT t.relation, t.rule,
       CASE WHEN t.enabled OPERATOR(pg_catalog.=) 'D'
            THEN pg_catalog.format('trigger %I is disabled%s', t.trigger, a.approves)
            WHEN t.enabled OPERATOR(pg_catalog.=) 'R'
            THEN pg_catalog.format('trigger %I fires for replicated changes only%s', t.trigger, a.approves)
            WHEN a.approves OPERATOR(pg_catalog.<>) ''
            THEN pg_catalog.format('trigger %I is not approved by the owner: every write but replicated ones deletes '
                                   'the rule''s whole pattern instead of running its query (read it first, it gets '
                                   'the owner''s rights): %s', t.trigger, t.arguments[2])
            ELSE pg_catalog.format('trigger %I does not fire for replicated changes', t.trigger)
            END AS gap,
       pg_catalog.format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I;', t.relation, t.trigger) AS remedy
  FROM cache_aside.rule_triggers t
 CROSS JOIN LATERAL (
    SELECT CASE WHEN t.level OPERATOR(pg_catalog.=) 'statement'
                 AND pg_catalog.cardinality(t.arguments) OPERATOR(pg_catalog.>) 1
           THEN pg_catalog.format('; the remedy approves its query (read it first, it gets the owner''s rights): %s',
                                  t.arguments[2])
           ELSE '' END) a (approves)
 WHERE t.enabled OPERATOR(pg_catalog.<>) 'A'
UNION ALL
SELECT b.relation::pg_catalog.regclass, v.rule,
       'TRUNCATE of the partition fires nothing',
       pg_catalog.format('CREATE TRIGGER %1$I AFTER TRUNCATE ON %2$s FOR EACH STATEMENT EXECUTE FUNCTION '
                         'cache_aside.invalidate_table(%3$s); ALTER TABLE %2$s ENABLE ALWAYS TRIGGER %1$I;',
                         pg_catalog.format('cache_aside_%s_truncate',
                                           pg_catalog.substr(pg_catalog.md5(v.rule), 1, 8)),
                         b.relation::pg_catalog.regclass,
                         (SELECT pg_catalog.string_agg(pg_catalog.quote_literal(x.argument), ', ' ORDER BY x.place)
                            FROM pg_catalog.unnest(v.arguments) WITH ORDINALITY x (argument, place)))
  FROM covered v
  JOIN below b ON b.ancestor OPERATOR(pg_catalog.=) v.relation AND b.is_partition
  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) b.relation
 WHERE NOT EXISTS (SELECT FROM covered o
                    WHERE o.relation OPERATOR(pg_catalog.=) b.relation
                      AND o.rule OPERATOR(pg_catalog.=) v.rule
                      AND (o.type OPERATOR(pg_catalog.&) 32) OPERATOR(pg_catalog.<>) 0)
   AND NOT EXISTS (SELECT FROM below m
                     JOIN covered o ON o.relation OPERATOR(pg_catalog.=) m.ancestor
                      AND o.rule OPERATOR(pg_catalog.=) v.rule
                    WHERE m.relation OPERATOR(pg_catalog.=) v.relation AND m.is_partition)
   AND NOT (c.relkind OPERATOR(pg_catalog.=) 'f'
            AND pg_catalog.current_setting('server_version_num')::pg_catalog.int4
                OPERATOR(pg_catalog.<) 160000)
UNION ALL
SELECT b.relation::pg_catalog.regclass, v.rule,
       pg_catalog.format('the table inherits from %s, whose rule does not see its rows', v.relation),
       CASE WHEN c.relkind OPERATOR(pg_catalog.<>) 'f'
            THEN cache_aside.rule_statement(b.relation::pg_catalog.regclass, v.arguments, r.columns, r.level)
            WHEN pg_catalog.cardinality(v.arguments) OPERATOR(pg_catalog.>) 1
            THEN '-- call cache_aside.invalidate() for writes to the foreign table'
            ELSE cache_aside.rule_statement(b.relation::pg_catalog.regclass, v.arguments, r.columns,
                                            'row'::pg_catalog.text) END
  FROM covered v
  JOIN below b ON b.ancestor OPERATOR(pg_catalog.=) v.relation AND NOT b.is_partition
  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) b.relation
  LEFT JOIN cache_aside.rules r ON r.relation OPERATOR(pg_catalog.=) v.relation
   AND r.name OPERATOR(pg_catalog.=) v.rule
 WHERE NOT EXISTS (SELECT FROM covered o
                    WHERE o.relation OPERATOR(pg_catalog.=) b.relation
                      AND o.rule OPERATOR(pg_catalog.=) v.rule)
UNION ALL
SELECT g.relation, g.rule, p.problem,
       pg_catalog.format('SELECT cache_aside.detach(%L, %L);', g.relation, g.rule)
  FROM (SELECT t.relation, t.rule,
               COALESCE(pg_catalog.min(t.oid) FILTER (WHERE t.enabled OPERATOR(pg_catalog.=) 'A'),
                        pg_catalog.min(t.oid)) AS oid
          FROM cache_aside.rule_triggers t
         WHERE NOT t.inherited
         GROUP BY t.relation, t.rule, t.arguments) g
 CROSS JOIN LATERAL (SELECT cache_aside.rule_problem(g.oid) AS problem) p
 WHERE p.problem IS NOT NULL
UNION ALL
SELECT t.relation, t.rule,
       pg_catalog.format('trigger %I no longer compares columns, one of them was changed (%s): every UPDATE counts',
                         t.trigger, o.compared),
       pg_catalog.format('SELECT cache_aside.detach(%L, %L); %s', t.relation, t.rule,
                         cache_aside.rule_statement(t.relation, t.arguments, CASE WHEN pg_catalog.cardinality(o.columns) OPERATOR(pg_catalog.>) 0
                                            AND pg_catalog.cardinality(o.columns) OPERATOR(pg_catalog.=)
                                                pg_catalog.cardinality(pg_catalog.string_to_array(o.compared, ', '))
                                         THEN o.columns END, t.level))
  FROM cache_aside.rule_triggers t
  JOIN pg_catalog.pg_trigger g ON g.oid OPERATOR(pg_catalog.=) t.oid
 CROSS JOIN LATERAL (SELECT d.compared,
                            ARRAY(SELECT c.attname FROM pg_catalog.pg_attribute c
                                   WHERE c.attrelid OPERATOR(pg_catalog.=) t.relation
                                     AND c.attnum OPERATOR(pg_catalog.>) 0 AND NOT c.attisdropped
                                     AND pg_catalog.strpos(pg_catalog.format(', %s,', d.compared),
                                             pg_catalog.format(' %I,', c.attname)) OPERATOR(pg_catalog.>) 0
                                   ORDER BY c.attnum) AS columns
                       FROM (SELECT pg_catalog.substr(c.comment, 23) AS compared -- behind 'cache_aside: compared '
                               FROM (SELECT pg_catalog.obj_description(t.oid, 'pg_trigger') AS comment) c
                              WHERE c.comment OPERATOR(pg_catalog.~~) 'cache_aside: compared %') d) o
 WHERE NOT t.inherited AND g.tgqual IS NULL AND g.tgattr OPERATOR(pg_catalog.=) ''::pg_catalog.int2vector
UNION ALL
SELECT u.relation, u.rule,
       pg_catalog.format('no trigger fires on %s', pg_catalog.string_agg(u.event, ', ' ORDER BY u.event)),
       pg_catalog.format('SELECT cache_aside.detach(%L, %L); %s', u.relation, u.rule,
                         cache_aside.rule_statement(u.relation, u.arguments, r.columns, r.level))
  FROM uncovered u
  LEFT JOIN cache_aside.rules r ON r.relation OPERATOR(pg_catalog.=) u.relation
   AND r.name OPERATOR(pg_catalog.=) u.rule
 GROUP BY u.relation, u.rule, u.arguments, r.columns, r.level
UNION ALL
SELECT v.relation, v.rule,
       CASE WHEN a.apart THEN 'writes through the table above fire no statement trigger'
            WHEN c.relkind OPERATOR(pg_catalog.=) 'p'
            THEN 'writes that name a partition fire no statement trigger'
            ELSE 'logical replication fires no statement trigger' END,
       CASE WHEN pg_catalog.cardinality(v.arguments) OPERATOR(pg_catalog.>) 1
            THEN '-- call cache_aside.invalidate() for such writes'
            ELSE pg_catalog.format('SELECT cache_aside.detach(%L, %L); %s', v.relation, v.rule,
                     cache_aside.rule_statement(v.relation, v.arguments, NULL::pg_catalog.name[],
                                                'row'::pg_catalog.text)) END
  FROM covered v
  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) v.relation
 CROSS JOIN LATERAL (
    -- a partition has the row triggers of the table above, a child has not
    SELECT EXISTS (SELECT FROM below b WHERE b.relation OPERATOR(pg_catalog.=) v.relation
                          AND NOT EXISTS (SELECT FROM covered o
                                           WHERE o.relation OPERATOR(pg_catalog.=) b.ancestor
                                             AND o.rule OPERATOR(pg_catalog.=) v.rule
                                             AND (b.is_partition OR o.statement)))) a (apart)
 WHERE v.statement
   AND (c.relkind OPERATOR(pg_catalog.=) 'p' OR a.apart
        OR EXISTS (SELECT FROM pg_catalog.pg_subscription_rel s
                    WHERE s.srrelid OPERATOR(pg_catalog.=) v.relation))
UNION ALL
SELECT v.relation, v.rule,
       pg_catalog.format('writes that reach a foreign table below fail: %s',
                         pg_catalog.string_agg(b.relation::pg_catalog.regclass::pg_catalog.text, ', '
                                               ORDER BY b.relation)),
       pg_catalog.format('SELECT cache_aside.detach(%L, %L); %s', v.relation, v.rule,
           CASE WHEN pg_catalog.cardinality(v.arguments) OPERATOR(pg_catalog.>) 1
                THEN '-- and call cache_aside.invalidate() where it is written to'
                ELSE cache_aside.rule_statement(v.relation, v.arguments, NULL::pg_catalog.name[],
                                                'row'::pg_catalog.text) END)
  FROM covered v
  JOIN below b ON b.ancestor OPERATOR(pg_catalog.=) v.relation
  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) b.relation
   AND c.relkind OPERATOR(pg_catalog.=) 'f'
 WHERE v.statement
 GROUP BY v.relation, v.rule, v.arguments
UNION ALL
SELECT h.heir, h.rule,
       pg_catalog.format('the table has taken over the name of %s, which kept the rule', h.relation),
       pg_catalog.format('SELECT cache_aside.attach_like(%L, %L);', h.heir, h.relation)
  FROM (SELECT DISTINCT t.relation, t.rule, cache_aside.rule_heir(t.oid) AS heir
          FROM cache_aside.rule_triggers t WHERE NOT t.inherited) h
 WHERE h.heir IS NOT NULL
   AND NOT EXISTS (SELECT FROM cache_aside.rule_triggers o
                    WHERE o.relation OPERATOR(pg_catalog.=) h.heir AND o.rule OPERATOR(pg_catalog.=) h.rule)
UNION ALL
SELECT h.heir, pg_catalog.format('row_version(%s)', h.version),
       pg_catalog.format('the table has taken over the name of %s, which kept its row versions', h.relation),
       pg_catalog.format('SELECT cache_aside.attach_like(%L, %L);', h.heir, h.relation)
  FROM (SELECT v.relation, v.version, cache_aside.rule_heir(t.oid) AS heir
          FROM cache_aside.versioned v
          JOIN pg_catalog.pg_trigger t ON t.tgrelid OPERATOR(pg_catalog.=) v.relation
           AND t.tgname OPERATOR(pg_catalog.=) v.trigger) h
 WHERE h.heir IS NOT NULL
   AND NOT EXISTS (SELECT FROM cache_aside.versioned o WHERE o.relation OPERATOR(pg_catalog.=) h.heir)
UNION ALL
SELECT DISTINCT c.oid::pg_catalog.regclass, l.rule,
       'the table has the name of one that was dropped, with its rule',
       pg_catalog.format('%s -- or, to do without: SELECT cache_aside.detach(%L, %L);', l.statement, l.relation, l.rule)
  FROM cache_aside.lost_rule l
  JOIN pg_catalog.pg_namespace n ON true
  JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) n.oid
   AND c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r', 'p', 'f', 'm']::pg_catalog."char"[])
   AND pg_catalog.format('%I.%I', n.nspname, c.relname) OPERATOR(pg_catalog.=) l.relation
 WHERE NOT EXISTS (SELECT FROM cache_aside.rule_triggers o
                    WHERE o.relation OPERATOR(pg_catalog.=) c.oid AND o.rule OPERATOR(pg_catalog.=) l.rule)
   AND NOT EXISTS (SELECT FROM cache_aside.view_rule o
                    WHERE o.relation OPERATOR(pg_catalog.=) c.oid AND o.template OPERATOR(pg_catalog.=) l.rule)
   AND NOT (l.rule OPERATOR(pg_catalog.~~) 'row\_version(%)' AND EXISTS (SELECT FROM cache_aside.versioned o
                    WHERE o.relation OPERATOR(pg_catalog.=) c.oid))
UNION ALL
SELECT r.relation, r.name,
       CASE WHEN s.kinds OPERATOR(pg_catalog.>=) 200 -- MOST_ROWS in src/rules/stray.c
            THEN 'the query gave more kinds of keys outside its pattern than are remembered: TRUNCATE and a resync leave some'
            ELSE 'the query gave keys outside its pattern: TRUNCATE leaves them' END
       -- what the query reads is the owner's to know
       OPERATOR(pg_catalog.||) CASE WHEN pg_catalog.pg_has_role(c.relowner, 'USAGE') AND s.example IS NOT NULL
                                    THEN pg_catalog.format(' (such as %s)', s.example) ELSE '' END,
       pg_catalog.format('SELECT cache_aside.detach(%L, %L); SELECT cache_aside.attach_query(%L, %L, %L); '
                         '-- with a pattern that covers every key', r.relation, r.name, r.relation, r.query,
                         r.pattern)
  FROM cache_aside.rules r
  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) r.relation
 CROSS JOIN LATERAL (
       SELECT pg_catalog.bool_or(m.mine) AS strayed, pg_catalog.count(*) FILTER (WHERE m.his) AS kinds,
              pg_catalog.min(o.pattern) FILTER (WHERE m.mine AND m.his) AS example
         FROM cache_aside.stray_pattern o
        CROSS JOIN LATERAL (
              SELECT o.rule OPERATOR(pg_catalog.=) r.name AND o.declared OPERATOR(pg_catalog.=) r.pattern AS mine,
                     o.owner OPERATOR(pg_catalog.=) pg_catalog.pg_get_userbyid(c.relowner) AS his) m) s
 WHERE r.query IS NOT NULL AND s.strayed
UNION ALL
SELECT v.relation, v.rule, v.gap, v.remedy FROM cache_aside.version_gaps v;

COMMENT ON VIEW cache_aside.gaps IS
'Changes that no trigger of a rule sees, each with the statement that closes the gap';

GRANT SELECT ON cache_aside.rule_triggers, cache_aside.rules, cache_aside.gaps TO PUBLIC;

/* ---- worker: delivery and status ---- */

CREATE TABLE cache_aside.registered_pattern (
	pattern text PRIMARY KEY CHECK (pattern OPERATOR(pg_catalog.<>) '')
);

COMMENT ON TABLE cache_aside.registered_pattern IS
'Patterns of keys that only invalidate() produces, so that a resync deletes them too';

SELECT pg_catalog.pg_extension_config_dump('cache_aside.registered_pattern', '');

CREATE FUNCTION cache_aside.check_pattern(pattern text) RETURNS text
LANGUAGE c VOLATILE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'cache_aside_check_pattern';

COMMENT ON FUNCTION cache_aside.check_pattern(text) IS
'The pattern, or an error if it is empty, too long, or can match nothing but reserved keys';

REVOKE ALL ON FUNCTION cache_aside.check_pattern(text) FROM PUBLIC;

CREATE FUNCTION cache_aside.register_pattern(pattern text) RETURNS void
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'INSERT INTO cache_aside.registered_pattern VALUES (cache_aside.check_pattern($1))
    ON CONFLICT DO NOTHING';

COMMENT ON FUNCTION cache_aside.register_pattern(text) IS
'Names keys that only invalidate() produces by a glob pattern: a resync deletes them too';

REVOKE ALL ON FUNCTION cache_aside.register_pattern(text) FROM PUBLIC;

CREATE FUNCTION cache_aside.unregister_pattern(pattern text) RETURNS boolean
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'WITH gone AS (DELETE FROM cache_aside.registered_pattern AS r
                  WHERE r.pattern OPERATOR(pg_catalog.=) $1 RETURNING 1),
          stray AS (DELETE FROM cache_aside.stray_pattern AS s
                  WHERE s.pattern OPERATOR(pg_catalog.=) $1 RETURNING 1)
    SELECT EXISTS (SELECT FROM gone) OR EXISTS (SELECT FROM stray)';

COMMENT ON FUNCTION cache_aside.unregister_pattern(text) IS
'Undoes register_pattern(), and forgets what stray_pattern remembers; false if the pattern was not there';

REVOKE ALL ON FUNCTION cache_aside.unregister_pattern(text) FROM PUBLIC;

CREATE VIEW cache_aside.patterns AS
SELECT r.pattern, c.relpersistence OPERATOR(pg_catalog.=) 'u' AS unlogged
  FROM cache_aside.rules r
  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) r.relation
 WHERE r.pattern IS NOT NULL
UNION
SELECT p.pattern, false FROM cache_aside.registered_pattern p
UNION
SELECT s.pattern, false FROM cache_aside.stray_pattern s;

COMMENT ON VIEW cache_aside.patterns IS
'What a resync of this database deletes, as glob patterns';

CREATE FUNCTION cache_aside.resync() RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_resync';

COMMENT ON FUNCTION cache_aside.resync() IS
'Deletes everything the rules of every database could have cached, when the transaction commits';

REVOKE ALL ON FUNCTION cache_aside.resync() FROM PUBLIC;

CREATE FUNCTION cache_aside.flush(relation regclass) RETURNS void
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_flush';

COMMENT ON FUNCTION cache_aside.flush(regclass) IS
'Deletes everything the rules of one table could have cached, when the transaction commits';

CREATE FUNCTION cache_aside.uninstall() RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_uninstall';

COMMENT ON FUNCTION cache_aside.uninstall() IS
'Stops delivery until the next restart, takes along what is in Redis and drops the replication slot; returns what is left there';

REVOKE ALL ON FUNCTION cache_aside.uninstall() FROM PUBLIC;

CREATE FUNCTION cache_aside.adopt() RETURNS void
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_adopt';

COMMENT ON FUNCTION cache_aside.adopt() IS
'Takes Redis for this server, whichever server delivers there. Superusers only; not undone by ROLLBACK';
REVOKE ALL ON FUNCTION cache_aside.adopt() FROM PUBLIC;

CREATE FUNCTION cache_aside.worker_status(
	OUT role text, OUT pid integer, OUT state text,
	OUT endpoint text, OUT redis_state text, OUT redis_since timestamptz, OUT redis_version text,
	OUT timeline integer, OUT confirmed_lsn pg_lsn, OUT restart_lsn pg_lsn, OUT read_lsn pg_lsn,
	OUT visible_lsn pg_lsn, OUT lag_bytes bigint, OUT lag_ms double precision,
	OUT oldest_undelivered timestamptz, OUT retained_wal bigint,
	OUT commits bigint, OUT keys bigint, OUT patterns bigint, OUT batches bigint,
	OUT retries bigint, OUT reply_errors bigint, OUT skipped bigint, OUT reconnects bigint,
	OUT resyncs bigint, OUT resync_scanned bigint,
	OUT redeleted bigint, OUT redelete_waiting bigint, OUT redelete_dropped bigint,
	OUT foreign_records bigint, OUT unreadable_records bigint, OUT stray_keys bigint,
	OUT log_skips bigint, OUT log_skipped_from pg_lsn, OUT log_skipped_to pg_lsn,
	OUT log_skipped_at timestamptz,
	OUT last_error text, OUT last_error_at timestamptz,
	OUT trouble text, OUT trouble_since timestamptz, OUT first_error text, OUT hint text,
	OUT stats_reset timestamptz, OUT backend_connections bigint)
RETURNS record
LANGUAGE c VOLATILE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'cache_aside_worker_status';

COMMENT ON FUNCTION cache_aside.worker_status() IS
'The row of the view cache_aside.status';

REVOKE ALL ON FUNCTION cache_aside.worker_status() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cache_aside.worker_status() TO pg_monitor;

CREATE VIEW cache_aside.status AS
SELECT * FROM cache_aside.worker_status();

COMMENT ON VIEW cache_aside.status IS
'The worker: its state, Redis, the position of delivery, lag, counters and the last error';
COMMENT ON COLUMN cache_aside.status.confirmed_lsn IS
'Every commit at or below it that had to be delivered was delivered and acknowledged';
COMMENT ON COLUMN cache_aside.status.restart_lsn IS
'Where reading resumes: the first message of the oldest transaction open or not yet delivered';
COMMENT ON COLUMN cache_aside.status.lag_bytes IS
'Flushed (standby: replayed) log that is not confirmed';
COMMENT ON COLUMN cache_aside.status.lag_ms IS
'Age of the oldest commit that is not delivered, in milliseconds; 0 if there is none; null: not known here';
COMMENT ON COLUMN cache_aside.status.redelete_waiting IS
'Keys that will be deleted again (cache_aside.redelete)';
COMMENT ON COLUMN cache_aside.status.redelete_dropped IS
'Keys that were not deleted again because too many waited';
COMMENT ON COLUMN cache_aside.status.foreign_records IS
'Messages in the log under the name cache_aside that any role can write; they were not followed';
COMMENT ON COLUMN cache_aside.status.unreadable_records IS
'Messages of cache_aside in the log that this version cannot read; each asked for a resync';
COMMENT ON COLUMN cache_aside.status.stray_keys IS
'Keys that query rules gave outside their declared patterns; the view gaps names the rules';
COMMENT ON COLUMN cache_aside.status.log_skips IS
'How often log was skipped because the worker died of reading it; a resync made up for it';
COMMENT ON COLUMN cache_aside.status.log_skipped_from IS
'Begin of the log skipped last; null: none ever was';
COMMENT ON COLUMN cache_aside.status.log_skipped_to IS
'End of the log skipped last';
COMMENT ON COLUMN cache_aside.status.log_skipped_at IS
'When log was skipped last; kept over restarts of the server';
COMMENT ON COLUMN cache_aside.status.last_error IS
'The last error; it stays when all is well again';
COMMENT ON COLUMN cache_aside.status.trouble IS
'What is wrong now, by its cause; null: nothing';
COMMENT ON COLUMN cache_aside.status.trouble_since IS
'Since when something has been wrong, whatever the cause was at first';
COMMENT ON COLUMN cache_aside.status.first_error IS
'The error with which the present trouble began; null: there is none';
COMMENT ON COLUMN cache_aside.status.hint IS
'What to do about the present trouble';
COMMENT ON COLUMN cache_aside.status.retained_wal IS
'Bytes of log that the replication slot keeps; null without a slot';

GRANT SELECT ON cache_aside.status TO pg_monitor;

CREATE FUNCTION cache_aside.latency_histogram(OUT below interval, OUT commits bigint)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'cache_aside_latency_histogram';

COMMENT ON FUNCTION cache_aside.latency_histogram() IS
'Commits by the time from their commit to the acknowledgement of Redis; null: all slower ones';

REVOKE ALL ON FUNCTION cache_aside.latency_histogram() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION cache_aside.latency_histogram() TO pg_monitor;

CREATE FUNCTION cache_aside.reset_stats() RETURNS void
LANGUAGE c VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'cache_aside_reset_stats';

COMMENT ON FUNCTION cache_aside.reset_stats() IS
'Sets the counters and the latency histogram of the worker to zero';

REVOKE ALL ON FUNCTION cache_aside.reset_stats() FROM PUBLIC;

CREATE FUNCTION cache_aside.wait_delivered(
	lsn pg_lsn DEFAULT NULL, timeout interval DEFAULT '10 s')
RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_wait_delivered';

COMMENT ON FUNCTION cache_aside.wait_delivered(pg_lsn, interval) IS
'True once everything up to the LSN (null: all that is in the log now) is delivered to Redis';

REVOKE ALL ON FUNCTION cache_aside.wait_delivered(pg_lsn, interval) FROM PUBLIC;

CREATE FUNCTION cache_aside.ping(OUT round_trip interval, OUT error text)
RETURNS record
LANGUAGE c VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'cache_aside_ping';

COMMENT ON FUNCTION cache_aside.ping() IS
'Round trip to Redis on the worker''s connection, or why there is none';

REVOKE ALL ON FUNCTION cache_aside.ping() FROM PUBLIC;

/* ---- reads: guarded fills ---- */

CREATE FUNCTION cache_aside.read_token() RETURNS text
    LANGUAGE c STABLE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'cache_aside_read_token';
COMMENT ON FUNCTION cache_aside.read_token() IS
'proof of how fresh this transaction''s reads are, to pass to a fill; NULL: do not fill (the transaction has written, is very old, or no worker runs)';

CREATE FUNCTION cache_aside.get(key text) RETURNS text
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'cache_aside_get';
COMMENT ON FUNCTION cache_aside.get(text) IS
'cached value, NULL when there is none; Redis that does not answer is a WARNING and NULL';
REVOKE ALL ON FUNCTION cache_aside.get(text) FROM PUBLIC;

CREATE FUNCTION cache_aside.fill(
    key text, value text, ttl interval DEFAULT '5 min', token text DEFAULT cache_aside.read_token(),
    lease text DEFAULT NULL
) RETURNS boolean
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'cache_aside_fill';
COMMENT ON FUNCTION cache_aside.fill(text, text, interval, text, text) IS
'stores a value that this transaction read; false when it may miss an invalidation, or without a token; a lease ends with it';
REVOKE ALL ON FUNCTION cache_aside.fill(text, text, interval, text, text) FROM PUBLIC;

CREATE FUNCTION cache_aside.release(key text, lease text) RETURNS boolean
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'cache_aside_release';
COMMENT ON FUNCTION cache_aside.release(text, text) IS
'gives back a lease that cache_aside_get gave in Redis, when nothing is stored; true if it was held';
REVOKE ALL ON FUNCTION cache_aside.release(text, text) FROM PUBLIC;

CREATE FUNCTION cache_aside.fetch(key text, query text, ttl interval, VARIADIC params text[])
    RETURNS text
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'cache_aside_fetch';
COMMENT ON FUNCTION cache_aside.fetch(text, text, interval, text[]) IS
'cached value, else the query''s, which is stored; params are its $1, $2, ...';
REVOKE ALL ON FUNCTION cache_aside.fetch(text, text, interval, text[]) FROM PUBLIC;

CREATE FUNCTION cache_aside.fetch(key text, query text, ttl interval) RETURNS text
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'cache_aside_fetch';
COMMENT ON FUNCTION cache_aside.fetch(text, text, interval) IS
'cached value, else the query''s, which is stored; for a query without parameters';
REVOKE ALL ON FUNCTION cache_aside.fetch(text, text, interval) FROM PUBLIC;

CREATE FUNCTION cache_aside.warm(query text, ttl interval DEFAULT '5 min') RETURNS bigint
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'cache_aside_warm_query';
COMMENT ON FUNCTION cache_aside.warm(text, interval) IS
'fills the cache from a query that returns key and value; the number of entries stored';
REVOKE ALL ON FUNCTION cache_aside.warm(text, interval) FROM PUBLIC;

CREATE FUNCTION cache_aside.warm(
    relation regclass, template text, ttl interval
) RETURNS bigint
    LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'cache_aside_warm_table';
COMMENT ON FUNCTION cache_aside.warm(regclass, text, interval) IS
'fills the cache from a table, each row as JSON under the key that the template gives; the number of entries stored';
REVOKE ALL ON FUNCTION cache_aside.warm(regclass, text, interval) FROM PUBLIC;

CREATE FUNCTION cache_aside.warm_progress_slots(
    OUT pid integer, OUT datid oid, OUT started timestamptz, OUT rows bigint, OUT stored bigint,
    OUT refused bigint
) RETURNS SETOF record
    LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED
    AS 'MODULE_PATHNAME', 'cache_aside_warm_progress';
COMMENT ON FUNCTION cache_aside.warm_progress_slots() IS 'what the view warm_progress shows';
REVOKE ALL ON FUNCTION cache_aside.warm_progress_slots() FROM PUBLIC;

CREATE VIEW cache_aside.warm_progress AS
    SELECT p.pid, d.datname, p.started, p.rows, p.stored, p.refused
    FROM cache_aside.warm_progress_slots() p
    LEFT JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) p.datid;
COMMENT ON VIEW cache_aside.warm_progress IS 'one row per warm() that is running now';
GRANT EXECUTE ON FUNCTION cache_aside.warm_progress_slots() TO pg_monitor;
GRANT SELECT ON cache_aside.warm_progress TO pg_monitor;

CREATE FUNCTION cache_aside.audit(
    relation regclass, template text, sample double precision DEFAULT 0.01,
    value_query text DEFAULT NULL
) RETURNS TABLE (key text, cached text, expected text, verdict text)
    LANGUAGE c VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'cache_aside_audit';
COMMENT ON FUNCTION cache_aside.audit(regclass, text, double precision, text) IS
'compares cache entries with the rows they stand for: fresh, absent, in flight or stale; value_query makes the expected value of the row $1, default the row as JSON';
REVOKE ALL ON FUNCTION cache_aside.audit(regclass, text, double precision, text) FROM PUBLIC;

CREATE FUNCTION cache_aside.audit_summary(
    relation regclass, template text, sample double precision DEFAULT 0.01,
    value_query text DEFAULT NULL
) RETURNS TABLE (
    checked bigint, fresh bigint, stale bigint, absent bigint, in_flight bigint,
    nines double precision
)
    LANGUAGE sql VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE
    -- no pinned search_path here: value_query is the caller's
    AS $$
    SELECT c.checked, c.fresh, c.stale, c.absent, c.in_flight,
           CASE WHEN c.fresh OPERATOR(pg_catalog.+) c.stale OPERATOR(pg_catalog.=) 0 THEN NULL
                WHEN c.stale OPERATOR(pg_catalog.=) 0 THEN 'infinity'
                ELSE OPERATOR(pg_catalog.-) pg_catalog.log(c.stale::pg_catalog.float8
                     OPERATOR(pg_catalog./) (c.fresh OPERATOR(pg_catalog.+) c.stale)) END
    FROM (SELECT pg_catalog.count(*) AS checked,
                 pg_catalog.count(*) FILTER (WHERE a.verdict OPERATOR(pg_catalog.=) 'fresh') AS fresh,
                 pg_catalog.count(*) FILTER (WHERE a.verdict OPERATOR(pg_catalog.=) 'stale') AS stale,
                 pg_catalog.count(*) FILTER (WHERE a.verdict OPERATOR(pg_catalog.=) 'absent') AS absent,
                 pg_catalog.count(*) FILTER (WHERE a.verdict OPERATOR(pg_catalog.=) 'in flight') AS in_flight
          FROM cache_aside.audit(relation, template, sample, value_query) a) c
$$;
COMMENT ON FUNCTION cache_aside.audit_summary(regclass, text, double precision, text) IS
'audit() in one row; nines: of the entries found, how many nines are fresh, infinity when all are';
REVOKE ALL ON FUNCTION cache_aside.audit_summary(regclass, text, double precision, text) FROM PUBLIC;

CREATE FUNCTION cache_aside.shard(key text, copies integer) RETURNS text
    LANGUAGE c VOLATILE STRICT PARALLEL SAFE
    AS 'MODULE_PATHNAME', 'cache_aside_shard';
COMMENT ON FUNCTION cache_aside.shard(text, integer) IS
'name of one of the copies of a hot key whose rule says {column#copies}';

/* ---- items ---- */

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

CREATE FUNCTION cache_aside.caught_up(lsn pg_lsn) RETURNS boolean
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'cache_aside_caught_up';
COMMENT ON FUNCTION cache_aside.caught_up(pg_lsn) IS
'on a standby: was this LSN replayed; on a primary: was it written';

CREATE PROCEDURE cache_aside.wait_for(lsn pg_lsn, timeout interval DEFAULT '1 s',
									  INOUT result text DEFAULT NULL)
LANGUAGE c
AS 'MODULE_PATHNAME', 'cache_aside_wait_for';
COMMENT ON PROCEDURE cache_aside.wait_for(pg_lsn, interval, text) IS
'on a standby: wait until this LSN was replayed; reached, timeout, not in recovery or other timeline';

CREATE FUNCTION cache_aside.stick(name text, ttl interval DEFAULT '30 s', wait boolean DEFAULT true)
RETURNS void
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_stick';
COMMENT ON FUNCTION cache_aside.stick(text, interval, boolean) IS
'when this transaction commits, leaves its LSN in Redis as cache_aside:stick:<name>; COMMIT waits for it';
REVOKE ALL ON FUNCTION cache_aside.stick(text, interval, boolean) FROM PUBLIC;

CREATE FUNCTION cache_aside.stuck_at(name text) RETURNS pg_lsn
LANGUAGE c VOLATILE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'cache_aside_stuck_at';
COMMENT ON FUNCTION cache_aside.stuck_at(text) IS
'the LSN that stick() left in Redis under this name, NULL if there is certainly none';
REVOKE ALL ON FUNCTION cache_aside.stuck_at(text) FROM PUBLIC;

CREATE FUNCTION cache_aside.check_conninfo(conninfo text) RETURNS boolean
LANGUAGE c VOLATILE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'cache_aside_check_conninfo';
COMMENT ON FUNCTION cache_aside.check_conninfo(text) IS
'true, or an error if libpq rejects the connection string or it holds a password';

CREATE TABLE cache_aside.replica (
	name text CONSTRAINT replica_pkey PRIMARY KEY
		CONSTRAINT replica_name_check
		CHECK (name OPERATOR(pg_catalog.~) '^[!-~]{1,63}$'),
	conninfo text NOT NULL
		CONSTRAINT replica_conninfo_check CHECK (cache_aside.check_conninfo(conninfo))
		CONSTRAINT replica_conninfo_length
		CHECK (pg_catalog.octet_length(conninfo) OPERATOR(pg_catalog.<=) 1000),
	region text
		CONSTRAINT replica_region_check
		CHECK (pg_catalog.octet_length(region) OPERATOR(pg_catalog.<=) 60),
	weight integer NOT NULL DEFAULT 1
		CONSTRAINT replica_weight_check
		CHECK (weight OPERATOR(pg_catalog.>=) 0 AND weight OPERATOR(pg_catalog.<=) 1000000)
);
COMMENT ON TABLE cache_aside.replica IS 'replicas that route() may choose';
COMMENT ON COLUMN cache_aside.replica.name IS
'application_name of the replica''s walreceiver, cache_aside.replica_name or cluster_name on the replica';
COMMENT ON COLUMN cache_aside.replica.conninfo IS
'how applications reach it, as libpq has it, without a password';
COMMENT ON COLUMN cache_aside.replica.region IS 'route() prefers replicas of the caller''s region';
COMMENT ON COLUMN cache_aside.replica.weight IS 'share of the reads; 0: none';
SELECT pg_catalog.pg_extension_config_dump('cache_aside.replica', '');

CREATE FUNCTION cache_aside.replica_changed() RETURNS trigger
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_replica_changed';
COMMENT ON FUNCTION cache_aside.replica_changed() IS
'Trigger function: every session reads the registry anew';
REVOKE ALL ON FUNCTION cache_aside.replica_changed() FROM PUBLIC;

CREATE TRIGGER replica_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE
	ON cache_aside.replica FOR EACH STATEMENT EXECUTE FUNCTION cache_aside.replica_changed();
ALTER TABLE cache_aside.replica ENABLE ALWAYS TRIGGER replica_changed;
COMMENT ON TRIGGER replica_changed ON cache_aside.replica IS
'tells sessions and worker that the registry changed';

CREATE FUNCTION cache_aside.add_replica(name text, conninfo text, region text DEFAULT NULL,
										weight integer DEFAULT 1) RETURNS void
LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'INSERT INTO cache_aside.replica (name, conninfo, region, weight) VALUES ($1, $2, $3, $4)';
COMMENT ON FUNCTION cache_aside.add_replica(text, text, text, integer) IS
'registers a replica for route()';
REVOKE ALL ON FUNCTION cache_aside.add_replica(text, text, text, integer) FROM PUBLIC;

CREATE FUNCTION cache_aside.set_replica(name text, conninfo text DEFAULT NULL,
										region text DEFAULT NULL, weight integer DEFAULT NULL)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'cache_aside_set_replica';
COMMENT ON FUNCTION cache_aside.set_replica(text, text, text, integer) IS
'changes a registered replica; NULL leaves things as they are, region => '''' removes the region';
REVOKE ALL ON FUNCTION cache_aside.set_replica(text, text, text, integer) FROM PUBLIC;

CREATE FUNCTION cache_aside.remove_replica(name text) RETURNS void
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'cache_aside_remove_replica';
COMMENT ON FUNCTION cache_aside.remove_replica(text) IS 'route() does not choose it any more';
REVOKE ALL ON FUNCTION cache_aside.remove_replica(text) FROM PUBLIC;

CREATE FUNCTION cache_aside.route(after pg_lsn DEFAULT NULL, region text DEFAULT NULL,
								  max_lag interval DEFAULT NULL,
								  OUT role text, OUT name text, OUT conninfo text, OUT lsn pg_lsn,
								  OUT reason text)
RETURNS record LANGUAGE c VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'cache_aside_route';
COMMENT ON FUNCTION cache_aside.route(pg_lsn, text, interval) IS
'where a read should go that must see the token `after`: a replica, else the primary';

CREATE FUNCTION cache_aside.replica_states(
	OUT name text, OUT conninfo text, OUT region text, OUT weight integer, OUT state text,
	OUT replayed pg_lsn, OUT lag_bytes bigint, OUT lag interval, OUT last_seen timestamptz,
	OUT eligible boolean, OUT why_not text)
RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'cache_aside_replica_states';
COMMENT ON FUNCTION cache_aside.replica_states() IS 'rows of the view replica_status';
REVOKE ALL ON FUNCTION cache_aside.replica_states() FROM PUBLIC;

CREATE VIEW cache_aside.replica_status AS
SELECT s.name, s.conninfo, s.region, s.weight, s.state, s.replayed, s.lag_bytes, s.lag,
	s.last_seen, s.eligible, s.why_not
FROM cache_aside.replica_states() s;
COMMENT ON VIEW cache_aside.replica_status IS
'each registered replica: how far it replayed, what it lags, and whether route() may choose it';
GRANT EXECUTE ON FUNCTION cache_aside.replica_states() TO pg_monitor;
GRANT SELECT ON cache_aside.replica_status TO pg_monitor;


/* ---- rules: rules, keys, gaps ---- */

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

CREATE FUNCTION cache_aside.attach(relation regclass, template text,
    columns name[] DEFAULT NULL, level text DEFAULT 'row') RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'cache_aside_attach';

COMMENT ON FUNCTION cache_aside.attach(regclass, text, name[], text) IS
'Adds a rule: writes to the table delete the keys the template names; returns the rule''s name';

-- All or none: a template that is refused is an error, which undoes the others.
CREATE FUNCTION cache_aside.attach(relation regclass, templates text[],
    columns name[] DEFAULT NULL, level text DEFAULT 'row') RETURNS text[]
LANGUAGE sql VOLATILE PARALLEL UNSAFE
SET search_path = pg_catalog, pg_temp
RETURN CASE WHEN templates IS NULL -- which attach refuses
       THEN ARRAY[cache_aside.attach(relation, NULL::pg_catalog.text, columns, level)]
       ELSE COALESCE((SELECT pg_catalog.array_agg(cache_aside.attach(relation, t.template, columns, level)
                                                  ORDER BY t.place)
                        FROM pg_catalog.unnest(templates) WITH ORDINALITY t (template, place)), '{}') END;

COMMENT ON FUNCTION cache_aside.attach(regclass, text[], name[], text) IS
'Adds a rule for each of the templates, all or none; returns the rules'' names';

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

CREATE FUNCTION cache_aside.explain_rules(relation regclass, new jsonb, old jsonb,
    OUT rule text, OUT kind text, OUT key text, OUT reason text) RETURNS SETOF record
LANGUAGE c STABLE PARALLEL UNSAFE ROWS 10
SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'cache_aside_explain_rules';

COMMENT ON FUNCTION cache_aside.explain_rules(regclass, jsonb, jsonb) IS
'What explain() says of the rules that the table has';

CREATE FUNCTION cache_aside.rule_pattern(trigger oid) RETURNS text
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'cache_aside_rule_pattern_1_1';

COMMENT ON FUNCTION cache_aside.rule_pattern(oid) IS
'Glob pattern that covers every key of a trigger''s rule, without key_prefix; NULL if it is malformed';

CREATE FUNCTION cache_aside.rule_columns(trigger oid) RETURNS name[]
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'cache_aside_rule_columns';

COMMENT ON FUNCTION cache_aside.rule_columns(oid) IS
'Columns that an UPDATE must change for the rule of this trigger to follow it, NULL when every UPDATE counts';

CREATE FUNCTION cache_aside.rule_problem(trigger oid) RETURNS text
LANGUAGE c STABLE STRICT PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'cache_aside_rule_problem_1_1';

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
	template text NOT NULL,
	former text[] NOT NULL
);

COMMENT ON TABLE cache_aside.view_rule IS
'Rules of materialized views, which can have no trigger, and the names that the view had before; written by attach, detach and ALTER';

SELECT pg_catalog.pg_extension_config_dump('cache_aside.view_rule', '');

CREATE FUNCTION cache_aside.template_pattern(template text) RETURNS text
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'cache_aside_template_pattern';

COMMENT ON FUNCTION cache_aside.template_pattern(text) IS
'Glob pattern that covers every key of a template, without key_prefix; NULL if it is malformed';

CREATE FUNCTION cache_aside.template_problem(relation regclass, template text) RETURNS text
LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'cache_aside_template_problem';

COMMENT ON FUNCTION cache_aside.template_problem(regclass, text) IS
'Why the table cannot have a rule with this template; NULL if it can. For attach_all';

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

-- The template for one table. Read as a template is, so that {{ and }} stay what they are. Internal.
CREATE FUNCTION cache_aside.template_for(relation regclass, template text) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE
RETURN (
  SELECT CASE WHEN pg_catalog.bool_and(p.part IS NOT NULL)
              THEN pg_catalog.string_agg(p.part, '' ORDER BY p.place) END
    FROM (SELECT CASE WHEN m.parts[1] OPERATOR(pg_catalog.=) '{table}' THEN (SELECT pg_catalog.regexp_replace(c.relname, '([{}])', '\1\1', 'g')
                                        FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) relation)
                 WHEN m.parts[1] OPERATOR(pg_catalog.=) '{schema}' THEN (SELECT pg_catalog.regexp_replace(n.nspname, '([{}])', '\1\1', 'g')
                                         FROM pg_catalog.pg_class c
                                         JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
                                        WHERE c.oid OPERATOR(pg_catalog.=) relation)
                 WHEN m.parts[1] OPERATOR(pg_catalog.=) '{pk}' THEN (SELECT pg_catalog.string_agg(pg_catalog.format('{%s}', a.attname), ':' ORDER BY k.place)
                                     FROM pg_catalog.pg_index i
                                    CROSS JOIN LATERAL pg_catalog.unnest(i.indkey) WITH ORDINALITY k (attnum, place)
                                     JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) i.indrelid
                                      AND a.attnum OPERATOR(pg_catalog.=) k.attnum
                                    WHERE i.indrelid OPERATOR(pg_catalog.=) relation AND i.indisprimary
                                      AND k.place OPERATOR(pg_catalog.<=) i.indnkeyatts)
                 ELSE m.parts[1] END, m.place
            FROM pg_catalog.regexp_matches(template, '\{\{|\}\}|\{[^{}]*\}|[^{}]+|.', 'g')
                 WITH ORDINALITY m (parts, place)) p (part, place));

COMMENT ON FUNCTION cache_aside.template_for(regclass, text) IS
'The template with {table}, {schema} and {pk} filled in for one table; NULL without a primary key. For attach_all and uncovered';

-- What is decided is decided before the first rule is made: the sort reads everything.
CREATE FUNCTION cache_aside.attach_all(schema regnamespace, template text DEFAULT '{table}:{pk}',
    dry_run boolean DEFAULT false,
    OUT relation regclass, OUT rule text, OUT action text, OUT reason text) RETURNS SETOF record
LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE ROWS 100
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
WITH tables AS MATERIALIZED (
    SELECT c.oid::pg_catalog.regclass AS relation, c.relname, c.relkind, c.relowner, c.relispartition,
           EXISTS (SELECT FROM pg_catalog.pg_index i
                    WHERE i.indrelid OPERATOR(pg_catalog.=) c.oid AND i.indisprimary) AS keyed,
           cache_aside.template_for(c.oid::pg_catalog.regclass, template) AS rule
      FROM pg_catalog.pg_class c
     WHERE c.relnamespace OPERATOR(pg_catalog.=) schema
       AND c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r', 'p', 'f']::pg_catalog."char"[])
), above AS MATERIALIZED ( -- partitions, and the topmost table whose rule covers them or will
    SELECT DISTINCT ON (t.relation) t.relation, a.relid AS ancestor
      FROM tables t
     CROSS JOIN LATERAL pg_catalog.pg_partition_ancestors(t.relation) WITH ORDINALITY a (relid, height)
     WHERE t.relispartition AND a.relid OPERATOR(pg_catalog.<>) t.relation
       AND (EXISTS (SELECT FROM tables o WHERE o.relation OPERATOR(pg_catalog.=) a.relid AND o.keyed)
            OR EXISTS (SELECT FROM cache_aside.rule_triggers r WHERE r.relation OPERATOR(pg_catalog.=) a.relid))
     ORDER BY t.relation, a.height DESC
), decided AS MATERIALIZED (
    SELECT t.relation, t.rule,
           CASE WHEN t.relation::pg_catalog.oid::pg_catalog.int8 OPERATOR(pg_catalog.<) 16384
                THEN 'it is a system table'
                WHEN t.relkind OPERATOR(pg_catalog.=) 'f'
                THEN 'it is a foreign table, which has no primary key: attach a rule that names its columns'
                WHEN e.extname IS NOT NULL THEN pg_catalog.format('it belongs to extension %I', e.extname)
                WHEN v.ancestor IS NOT NULL THEN pg_catalog.format('it is a partition of %s', v.ancestor)
                WHEN NOT t.keyed THEN 'it has no primary key'
                WHEN NOT pg_catalog.pg_has_role(t.relowner, 'USAGE')
                THEN pg_catalog.format('it belongs to %I', pg_catalog.pg_get_userbyid(t.relowner))
                WHEN EXISTS (SELECT FROM cache_aside.rule_triggers r
                              WHERE r.relation OPERATOR(pg_catalog.=) t.relation
                                AND r.rule OPERATOR(pg_catalog.=) t.rule)
                THEN 'it has this rule'
                ELSE cache_aside.template_problem(t.relation, t.rule) END AS reason
      FROM tables t
      LEFT JOIN above v ON v.relation OPERATOR(pg_catalog.=) t.relation
      LEFT JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
       AND d.objid OPERATOR(pg_catalog.=) t.relation AND d.objsubid OPERATOR(pg_catalog.=) 0
       AND d.deptype OPERATOR(pg_catalog.=) 'e'
      LEFT JOIN pg_catalog.pg_extension e ON e.oid OPERATOR(pg_catalog.=) d.refobjid
     ORDER BY t.relispartition, t.relname
)
SELECT d.relation,
       CASE WHEN d.reason IS NULL AND NOT dry_run THEN cache_aside.attach(d.relation, d.rule) ELSE d.rule END,
       CASE WHEN d.reason IS NOT NULL THEN 'skipped' WHEN dry_run THEN 'would attach' ELSE 'attached' END,
       d.reason
  FROM decided d;
END;

COMMENT ON FUNCTION cache_aside.attach_all(regnamespace, text, boolean) IS
'Adds a rule to every table of a schema that has a primary key; one row a table says what was done, or would be, or why not';

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
WITH below AS (
    SELECT b.ancestor, b.relation, b.is_partition
      FROM cache_aside.tables_below(NULL) b
      JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) b.relation
       AND c.relpersistence OPERATOR(pg_catalog.<>) 't'
), covered AS (
    SELECT t.relation, t.rule, pg_catalog.min(t.arguments) AS arguments,
           pg_catalog.bit_or(t.type) AS type,
           pg_catalog.bool_or(t.level OPERATOR(pg_catalog.=) 'statement') AS statement
      FROM cache_aside.rule_triggers t
     GROUP BY t.relation, t.rule
), above AS ( -- partitions of a table that has the rule
    SELECT DISTINCT b.relation, a.rule
      FROM below b
      JOIN covered a ON a.relation OPERATOR(pg_catalog.=) b.ancestor
     WHERE b.is_partition
), apart AS ( -- rules by statement that a table above has not; a partition may have its row triggers, a child not
    SELECT DISTINCT v.relation, v.rule
      FROM covered v
      JOIN below b ON b.relation OPERATOR(pg_catalog.=) v.relation
      LEFT JOIN covered o ON o.relation OPERATOR(pg_catalog.=) b.ancestor
       AND o.rule OPERATOR(pg_catalog.=) v.rule AND (b.is_partition OR o.statement)
     WHERE v.statement AND o.relation IS NULL
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
       AND NOT EXISTS (SELECT FROM above a WHERE a.relation OPERATOR(pg_catalog.=) v.relation
                          AND a.rule OPERATOR(pg_catalog.=) v.rule)
), moved AS ( -- what stayed with a table when another took over its name
    SELECT h.relation, h.rule, h.heir, 'the table has taken over the name of %s, which kept the rule' AS gap
      FROM (SELECT DISTINCT t.relation, t.rule, cache_aside.rule_heir(t.oid) AS heir
              FROM cache_aside.rule_triggers t WHERE NOT t.inherited) h
     WHERE h.heir IS NOT NULL
       AND NOT EXISTS (SELECT FROM cache_aside.rule_triggers o
                        WHERE o.relation OPERATOR(pg_catalog.=) h.heir AND o.rule OPERATOR(pg_catalog.=) h.rule)
    UNION ALL
    SELECT DISTINCT v.relation, v.template, c.oid::pg_catalog.regclass,
           'the view has taken over the name of %s, which kept the rule'
      FROM cache_aside.view_rule v
     CROSS JOIN LATERAL pg_catalog.unnest(v.former) f (name)
      JOIN pg_catalog.pg_namespace n ON true
      JOIN pg_catalog.pg_class c ON c.relnamespace OPERATOR(pg_catalog.=) n.oid
       AND c.relkind OPERATOR(pg_catalog.=) 'm'
       AND pg_catalog.format('%I.%I', n.nspname, c.relname) OPERATOR(pg_catalog.=) f.name
     WHERE EXISTS (SELECT FROM pg_catalog.pg_class o WHERE o.oid OPERATOR(pg_catalog.=) v.relation)
       AND NOT EXISTS (SELECT FROM cache_aside.view_rule o
                        WHERE o.relation OPERATOR(pg_catalog.=) c.oid AND o.template OPERATOR(pg_catalog.=) v.template)
    UNION ALL
    SELECT h.relation, pg_catalog.format('row_version(%s)', h.version), h.heir,
           'the table has taken over the name of %s, which kept its row versions'
      FROM (SELECT v.relation, v.version, cache_aside.rule_heir(t.oid) AS heir
              FROM cache_aside.versioned v
              JOIN pg_catalog.pg_trigger t ON t.tgrelid OPERATOR(pg_catalog.=) v.relation
               AND t.tgname OPERATOR(pg_catalog.=) v.trigger) h
     WHERE h.heir IS NOT NULL
       AND NOT EXISTS (SELECT FROM cache_aside.versioned o WHERE o.relation OPERATOR(pg_catalog.=) h.heir)
), found AS (
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
   AND NOT EXISTS (SELECT FROM above a WHERE a.relation OPERATOR(pg_catalog.=) v.relation
                      AND a.rule OPERATOR(pg_catalog.=) v.rule)
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
       CASE WHEN a.relation IS NOT NULL THEN 'writes through the table above fire no statement trigger'
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
  LEFT JOIN apart a ON a.relation OPERATOR(pg_catalog.=) v.relation AND a.rule OPERATOR(pg_catalog.=) v.rule
 WHERE v.statement
   AND (c.relkind OPERATOR(pg_catalog.=) 'p' OR a.relation IS NOT NULL
        OR EXISTS (SELECT FROM pg_catalog.pg_subscription_rel s
                    WHERE s.srrelid OPERATOR(pg_catalog.=) v.relation))
   -- which is the next gap, with a remedy that repairs both
   AND NOT EXISTS (SELECT FROM below b
                     JOIN pg_catalog.pg_class f ON f.oid OPERATOR(pg_catalog.=) b.relation
                      AND f.relkind OPERATOR(pg_catalog.=) 'f'
                    WHERE b.ancestor OPERATOR(pg_catalog.=) v.relation)
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
SELECT m.heir, m.rule, pg_catalog.format(m.gap, m.relation),
       pg_catalog.format('SELECT cache_aside.attach_like(%L, %L);', m.heir, m.relation)
  FROM moved m
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
   AND NOT EXISTS (SELECT FROM cache_aside.versioned o
                    WHERE o.relation OPERATOR(pg_catalog.=) c.oid AND l.rule OPERATOR(pg_catalog.~~) 'row\_version(%)')
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
SELECT v.relation, v.rule, v.gap, v.remedy FROM cache_aside.version_gaps v
)
SELECT f.relation, f.rule, f.gap,
       -- who makes such a rule anew where it is takes away what tells that its table had another name
       CASE WHEN m.heir IS NOT NULL AND f.remedy OPERATOR(pg_catalog.~) '(detach|disable_versioning)\(.* SELECT cache_aside\.(attach|enable)'
            THEN pg_catalog.format('SELECT cache_aside.attach_like(%L, %L);', m.heir, m.relation)
            ELSE f.remedy END AS remedy
  FROM found f
  LEFT JOIN moved m ON m.relation OPERATOR(pg_catalog.=) f.relation AND m.rule OPERATOR(pg_catalog.=) f.rule;

COMMENT ON VIEW cache_aside.gaps IS
'Changes that no trigger of a rule sees, each with the statement that closes the gap';

CREATE FUNCTION cache_aside.explain(relation regclass, new jsonb, old jsonb DEFAULT NULL,
    OUT rule text, OUT kind text, OUT key text, OUT reason text) RETURNS SETOF record
LANGUAGE sql STABLE PARALLEL UNSAFE ROWS 10
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
WITH told AS (
SELECT DISTINCT e.rule, e.kind, e.key, e.reason
  FROM cache_aside.explain_rules(explain.relation, explain.new, explain.old) e
UNION ALL
SELECT g.rule, NULL, NULL, g.gap FROM cache_aside.gaps g -- rules that the table ought to have
 WHERE g.relation OPERATOR(pg_catalog.=) explain.relation
   AND NOT (g.rule OPERATOR(pg_catalog.~~) 'row\_version(%)')
   AND NOT EXISTS (SELECT FROM cache_aside.rules r
                    WHERE r.relation OPERATOR(pg_catalog.=) g.relation AND r.name OPERATOR(pg_catalog.=) g.rule)
   AND NOT EXISTS (SELECT FROM cache_aside.rule_triggers t
                    WHERE t.relation OPERATOR(pg_catalog.=) g.relation AND t.rule OPERATOR(pg_catalog.=) g.rule)
)
SELECT t.rule, t.kind, t.key, t.reason
  FROM told t
 ORDER BY t.rule COLLATE pg_catalog."C" NULLS FIRST, t.kind, t.key COLLATE pg_catalog."C", t.reason COLLATE pg_catalog."C";
END;

COMMENT ON FUNCTION cache_aside.explain(regclass, jsonb, jsonb) IS
'Which keys a write of this row would delete, by which rule, and why not; new alone: INSERT, old alone: DELETE, both: UPDATE';

-- Partitions count for the topmost table that has a primary key, where one has: that is where the rule belongs.
CREATE VIEW cache_aside.uncovered AS
WITH written AS (
    SELECT s.relid, s.n_tup_ins, s.n_tup_upd, s.n_tup_del
      FROM pg_catalog.pg_stat_user_tables s
      JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) s.relid
       AND c.relkind OPERATOR(pg_catalog.=) ANY (ARRAY['r', 'p']::pg_catalog."char"[])
       AND c.relpersistence OPERATOR(pg_catalog.<>) 't'
     WHERE (s.n_tup_ins OPERATOR(pg_catalog.+) s.n_tup_upd OPERATOR(pg_catalog.+) s.n_tup_del)
           OPERATOR(pg_catalog.>) 0
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                        WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
                          AND d.objid OPERATOR(pg_catalog.=) s.relid AND d.objsubid OPERATOR(pg_catalog.=) 0
                          AND d.deptype OPERATOR(pg_catalog.=) 'e')
), ruled AS MATERIALIZED (
    SELECT DISTINCT t.relation::pg_catalog.oid AS relid FROM cache_aside.rule_triggers t
), placed AS (
    SELECT w.n_tup_ins, w.n_tup_upd, w.n_tup_del, COALESCE(k.relid, w.relid)::pg_catalog.regclass AS relation
      FROM written w
      LEFT JOIN LATERAL (SELECT a.relid
                           FROM pg_catalog.pg_partition_ancestors(w.relid) WITH ORDINALITY a (relid, height)
                          WHERE EXISTS (SELECT FROM pg_catalog.pg_index i
                                         WHERE i.indrelid OPERATOR(pg_catalog.=) a.relid AND i.indisprimary)
                          ORDER BY a.height DESC LIMIT 1) k ON true
     WHERE NOT EXISTS (SELECT FROM ruled r WHERE r.relid OPERATOR(pg_catalog.=) w.relid)
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_partition_ancestors(w.relid) a (relid)
                         JOIN ruled r ON r.relid OPERATOR(pg_catalog.=) a.relid::pg_catalog.oid)
)
SELECT p.relation,
       pg_catalog.sum(p.n_tup_ins)::pg_catalog.int8 AS inserted,
       pg_catalog.sum(p.n_tup_upd)::pg_catalog.int8 AS updated,
       pg_catalog.sum(p.n_tup_del)::pg_catalog.int8 AS deleted,
       pg_catalog.pg_stat_get_db_stat_reset_time(
           (SELECT d.oid FROM pg_catalog.pg_database d
             WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())) AS since,
       CASE WHEN t.template IS NULL
            THEN '-- it has no primary key: attach a rule that names the columns it is cached by'
            WHEN q.problem IS NOT NULL
            THEN pg_catalog.format('-- attach a rule with another template than %s: %s', t.template, q.problem)
            ELSE pg_catalog.format('SELECT cache_aside.attach(%L, %L);', p.relation, t.template) END AS remedy
  FROM placed p
 CROSS JOIN LATERAL (SELECT cache_aside.template_for(p.relation, '{table}:{pk}')) t (template)
 CROSS JOIN LATERAL (SELECT cache_aside.template_problem(p.relation, t.template)) q (problem)
 GROUP BY p.relation, t.template, q.problem;

COMMENT ON VIEW cache_aside.uncovered IS
'Tables written since the statistics were reset that have no rule, each with a statement that gives it one';

CREATE FUNCTION cache_aside.rule_counts(
    OUT trigger oid, OUT fired bigint, OUT keys bigint, OUT patterns bigint, OUT failures bigint,
    OUT last_fired timestamptz, OUT since timestamptz) RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL SAFE ROWS 100
AS 'MODULE_PATHNAME', 'cache_aside_rule_counts';

COMMENT ON FUNCTION cache_aside.rule_counts() IS
'What the triggers of rules in this database did, for the view rule_stats; NULL: all those for which there was no room';

CREATE VIEW cache_aside.rule_stats AS
SELECT t.relation, t.rule,
       COALESCE(pg_catalog.sum(c.fired), 0)::pg_catalog.int8 AS fired,
       COALESCE(pg_catalog.sum(c.keys), 0)::pg_catalog.int8 AS keys,
       COALESCE(pg_catalog.sum(c.patterns), 0)::pg_catalog.int8 AS patterns,
       COALESCE(pg_catalog.sum(c.failures), 0)::pg_catalog.int8 AS failures,
       pg_catalog.max(c.last_fired) AS last_fired,
       COALESCE(pg_catalog.max(c.since), pg_catalog.max(o.since)) AS since
  FROM cache_aside.rule_counts() o
  JOIN cache_aside.rule_triggers t ON NOT t.inherited
  LEFT JOIN cache_aside.rule_counts() c ON c.trigger OPERATOR(pg_catalog.=) t.oid
 WHERE o.trigger IS NULL
 GROUP BY t.relation, t.rule
UNION ALL
SELECT NULL, NULL, c.fired, c.keys, c.patterns, c.failures, c.last_fired, c.since
  FROM cache_aside.rule_counts() c
 WHERE c.trigger IS NULL AND c.fired OPERATOR(pg_catalog.>) 0;

COMMENT ON VIEW cache_aside.rule_stats IS
'How often each rule fired since the server started or reset_rule_stats(), and what it gave; without a relation: rules for which there was no room';
COMMENT ON COLUMN cache_aside.rule_stats.fired IS
'Rows, or statements of a rule by statement and TRUNCATEs, that its triggers were called for, rolled back or not';
COMMENT ON COLUMN cache_aside.rule_stats.keys IS
'Keys that it named; those that a transaction names twice count twice, and are deleted once';
COMMENT ON COLUMN cache_aside.rule_stats.patterns IS
'How often it gave its whole pattern: for TRUNCATE, or for want of keys';
COMMENT ON COLUMN cache_aside.rule_stats.failures IS
'How often it failed the write, or gave its pattern because it could not make keys; gaps says why';
COMMENT ON COLUMN cache_aside.rule_stats.last_fired IS
'End of the last transaction in which it fired';

CREATE FUNCTION cache_aside.reset_rule_stats(relation regclass DEFAULT NULL) RETURNS void
LANGUAGE c VOLATILE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'cache_aside_reset_rule_stats';

COMMENT ON FUNCTION cache_aside.reset_rule_stats(regclass) IS
'Sets the counters of rule_stats to zero, for one table or for all of the server';

REVOKE ALL ON FUNCTION cache_aside.reset_rule_stats(regclass) FROM PUBLIC;

GRANT SELECT ON cache_aside.rule_triggers, cache_aside.rules, cache_aside.gaps, cache_aside.uncovered,
    cache_aside.rule_stats TO PUBLIC;


-- What 1.1 has with other arguments, or no longer
DROP FUNCTION cache_aside.fill(text, text, interval, text);
DROP FUNCTION cache_aside.stick(text, interval);
DROP FUNCTION cache_aside.require_preload();
DROP FUNCTION cache_aside.trigger_arguments(bytea);
DROP FUNCTION cache_aside.rule_pattern(text[]);
DROP FUNCTION cache_aside.rule_problem(regclass, text[]);

-- Rights on what was dropped, for what has its name now
DO LANGUAGE plpgsql $$
BEGIN
	EXECUTE COALESCE((
		SELECT pg_catalog.string_agg(pg_catalog.format('GRANT %s ON %s %s TO %s%s', u.privilege_type, u.kind,
				p.oid::pg_catalog.regprocedure,
				CASE WHEN u.grantee OPERATOR(pg_catalog.=) 0::pg_catalog.oid THEN 'PUBLIC' ELSE u.grantee::pg_catalog.regrole::pg_catalog.text END,
				CASE WHEN u.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END), ';')
		FROM cache_aside.upgrade_grant u
			JOIN pg_catalog.pg_proc p ON p.proname OPERATOR(pg_catalog.=) u.name
			JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace
				AND n.nspname OPERATOR(pg_catalog.=) 'cache_aside'
		WHERE u.kind OPERATOR(pg_catalog.<>) 'TABLE'
			AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc o WHERE o.oid OPERATOR(pg_catalog.=) u.objid)), '');
END $$;

-- They are not the extension's: a dump is to contain them.
UPDATE pg_catalog.pg_init_privs AS i
   SET initprivs = ARRAY(SELECT item FROM pg_catalog.unnest(i.initprivs) item
                          WHERE NOT EXISTS (SELECT FROM pg_catalog.aclexplode(ARRAY[item]) a
                                              JOIN cache_aside.upgrade_grant u ON u.grantee OPERATOR(pg_catalog.=) a.grantee
                                             WHERE o.name OPERATOR(pg_catalog.=) u.name
                                               AND o.classid OPERATOR(pg_catalog.=) u.classid))
  FROM (SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid AS classid, p.oid AS objid, p.proname AS name
          FROM pg_catalog.pg_proc p
          JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace
         WHERE n.nspname OPERATOR(pg_catalog.=) 'cache_aside'
        UNION ALL
        SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid, c.oid, c.relname
          FROM pg_catalog.pg_class c
          JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
         WHERE n.nspname OPERATOR(pg_catalog.=) 'cache_aside') o
 WHERE i.classoid OPERATOR(pg_catalog.=) o.classid AND i.objoid OPERATOR(pg_catalog.=) o.objid
   AND i.objsubid OPERATOR(pg_catalog.=) 0
   AND EXISTS (SELECT FROM cache_aside.upgrade_grant u
                WHERE o.name OPERATOR(pg_catalog.=) u.name AND o.classid OPERATOR(pg_catalog.=) u.classid);
DELETE FROM pg_catalog.pg_shdepend AS s -- of PostgreSQL 17 and newer: roles that pg_init_privs names
 WHERE s.deptype OPERATOR(pg_catalog.=) 'i'
   AND s.dbid OPERATOR(pg_catalog.=) (SELECT d.oid FROM pg_catalog.pg_database d
                                       WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
   AND EXISTS (SELECT FROM cache_aside.upgrade_grant u
                WHERE u.classid OPERATOR(pg_catalog.=) s.classid AND u.grantee OPERATOR(pg_catalog.=) s.refobjid)
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_init_privs i
                    CROSS JOIN LATERAL pg_catalog.aclexplode(i.initprivs) a
                    WHERE i.classoid OPERATOR(pg_catalog.=) s.classid AND i.objoid OPERATOR(pg_catalog.=) s.objid
                      AND a.grantee OPERATOR(pg_catalog.=) s.refobjid);

DROP TABLE cache_aside.upgrade_grant;

SELECT cache_aside.check_installation();

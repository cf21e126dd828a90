
-- What 1.1 has with other arguments, or no longer
DROP FUNCTION cache_aside.fill(text, text, interval, text);
DROP FUNCTION cache_aside.stick(text, interval);
DROP FUNCTION cache_aside.require_preload();
DROP FUNCTION cache_aside.trigger_arguments(bytea);
DROP FUNCTION cache_aside.rule_pattern(text[]);
DROP FUNCTION cache_aside.rule_problem(regclass, text[]);

-- Rights that REVOKE took from PUBLIC above, and those on what was dropped, for what has its name now
DO LANGUAGE plpgsql $$
BEGIN
	EXECUTE COALESCE((
		SELECT pg_catalog.string_agg(pg_catalog.format('GRANT %s ON %s %s TO %s%s', u.privilege_type, o.kind, o.shown,
				CASE WHEN u.grantee OPERATOR(pg_catalog.=) 0::pg_catalog.oid THEN 'PUBLIC' ELSE u.grantee::pg_catalog.regrole::pg_catalog.text END,
				CASE WHEN u.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END), ';')
		FROM cache_aside.upgrade_grant u
			JOIN cache_aside.upgrade_object o ON o.classid OPERATOR(pg_catalog.=) u.classid AND o.name OPERATOR(pg_catalog.=) u.name
				AND (o.objid OPERATOR(pg_catalog.=) u.objid
					OR NOT EXISTS (SELECT FROM cache_aside.upgrade_object k
						WHERE k.classid OPERATOR(pg_catalog.=) u.classid AND k.objid OPERATOR(pg_catalog.=) u.objid))
		WHERE NOT EXISTS (SELECT FROM pg_catalog.aclexplode(o.acl) a
			WHERE a.grantee OPERATOR(pg_catalog.=) u.grantee AND a.privilege_type OPERATOR(pg_catalog.=) u.privilege_type)), '');
END $$;

-- They are not the extension's: a dump is to contain them.
UPDATE pg_catalog.pg_init_privs AS i
   SET initprivs = ARRAY(SELECT item FROM pg_catalog.unnest(i.initprivs) item
                          WHERE NOT EXISTS (SELECT FROM pg_catalog.aclexplode(ARRAY[item]) a
                                              JOIN cache_aside.upgrade_grant u ON u.grantee OPERATOR(pg_catalog.=) a.grantee
                                             WHERE o.name OPERATOR(pg_catalog.=) u.name
                                               AND o.classid OPERATOR(pg_catalog.=) u.classid))
  FROM cache_aside.upgrade_object o
 WHERE i.classoid OPERATOR(pg_catalog.=) o.classid AND i.objoid OPERATOR(pg_catalog.=) o.objid
   AND i.objsubid OPERATOR(pg_catalog.=) 0
   AND EXISTS (SELECT FROM cache_aside.upgrade_grant u
                WHERE o.name OPERATOR(pg_catalog.=) u.name AND o.classid OPERATOR(pg_catalog.=) u.classid);

-- What was taken away stays away, and is no choice of the extension's either.
CREATE TABLE cache_aside.upgrade_init AS
SELECT i.objoid, i.classoid, i.objsubid, i.privtype, i.initprivs
  FROM pg_catalog.pg_init_privs i
 WHERE i.objsubid OPERATOR(pg_catalog.=) 0
   AND EXISTS (SELECT FROM cache_aside.upgrade_revoke u
                WHERE u.classid OPERATOR(pg_catalog.=) i.classoid AND u.objid OPERATOR(pg_catalog.=) i.objoid);
DO LANGUAGE plpgsql $$
BEGIN
	EXECUTE COALESCE((
		SELECT pg_catalog.string_agg(pg_catalog.format('REVOKE %s ON %s %s FROM %s', u.privilege_type, o.kind, o.shown,
				CASE WHEN u.grantee OPERATOR(pg_catalog.=) 0::pg_catalog.oid THEN 'PUBLIC' ELSE u.grantee::pg_catalog.regrole::pg_catalog.text END), ';')
		FROM cache_aside.upgrade_revoke u
			JOIN cache_aside.upgrade_object o ON o.classid OPERATOR(pg_catalog.=) u.classid AND o.objid OPERATOR(pg_catalog.=) u.objid), '');
END $$;
DELETE FROM pg_catalog.pg_init_privs AS i
 WHERE i.objsubid OPERATOR(pg_catalog.=) 0
   AND EXISTS (SELECT FROM cache_aside.upgrade_revoke u
                WHERE u.classid OPERATOR(pg_catalog.=) i.classoid AND u.objid OPERATOR(pg_catalog.=) i.objoid);
INSERT INTO pg_catalog.pg_init_privs (objoid, classoid, objsubid, privtype, initprivs)
SELECT u.objoid, u.classoid, u.objsubid, u.privtype, u.initprivs FROM cache_aside.upgrade_init u;

-- Of PostgreSQL 17 and newer: roles that pg_init_privs named. After the last GRANT and REVOKE, each of which enters them.
DELETE FROM pg_catalog.pg_shdepend AS s
 WHERE s.deptype OPERATOR(pg_catalog.=) 'i'
   AND s.dbid OPERATOR(pg_catalog.=) (SELECT d.oid FROM pg_catalog.pg_database d
                                       WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())
   AND EXISTS (SELECT FROM cache_aside.upgrade_grant u
                WHERE u.classid OPERATOR(pg_catalog.=) s.classid AND u.grantee OPERATOR(pg_catalog.=) s.refobjid)
   AND NOT EXISTS (SELECT FROM pg_catalog.pg_init_privs i
                    CROSS JOIN LATERAL pg_catalog.aclexplode(i.initprivs) a
                    WHERE i.classoid OPERATOR(pg_catalog.=) s.classid AND i.objoid OPERATOR(pg_catalog.=) s.objid
                      AND a.grantee OPERATOR(pg_catalog.=) s.refobjid);

DROP TABLE cache_aside.upgrade_grant, cache_aside.upgrade_revoke, cache_aside.upgrade_init;
DROP VIEW cache_aside.upgrade_object;

SELECT cache_aside.check_installation();

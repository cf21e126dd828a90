# sql/parts/*.sql, for a database that has version 1.0. One file after the other; every statement begins a line.
/^\/\* cache_aside 1\.1: what CREATE EXTENSION runs/d
/^\\echo /d
/^SELECT cache_aside\.check_installation\(\);/d
/^CREATE TABLE cache_aside\.(registered_pattern|replica) \(/,/^\);/d
s/^CREATE (FUNCTION|PROCEDURE|VIEW|TRIGGER) /CREATE OR REPLACE \1 /

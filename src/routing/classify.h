/*
 * classify.h: between classify.c (statements), analysis.c (parse analysis), volatility.c (expressions) and
 * harmless.c (functions).
 */
#ifndef CA_CLASSIFY_H
#define CA_CLASSIFY_H

#include "cache_aside.h"

#include "catalog/pg_proc.h"
#include "nodes/nodes.h"
#include "nodes/parsenodes.h"

/* ---- analysis.c: what is analysed is copied, and none of its literals is evaluated ---- */
extern Query *ca_analysis_query(const char *source, RawStmt *statement, Oid **types, int *count);
extern Node *ca_analysis_argument(const char *source, Node *argument); /* of EXECUTE */

/* ---- harmless.c: below EXPLAIN (not executed) volatile functions are not called ---- */
extern bool ca_harmless_function(Form_pg_proc proc, bool executed);

/* ---- volatility.c ---- */
/*
 * Why this analysed and rewritten tree may not run on a standby, NULL if it may. With executed
 * false (EXPLAIN) functions are not called: they need only be there.
 */
extern const char *ca_volatility_reason(Node *node, bool executed);

#endif

/*
 * classify.h: between classify.c (statements) and volatility.c (expressions).
 */
#ifndef CA_CLASSIFY_H
#define CA_CLASSIFY_H

#include "nodes/nodes.h"

/*
 * Why this analysed and rewritten tree may not run on a standby, NULL if it may. With executed
 * false (EXPLAIN) functions are not called and do not count.
 */
extern const char *ca_volatility_reason(Node *node, bool executed);

#endif

/* cache_aside 1.0: what CREATE EXTENSION runs, in the order of src/ */

\echo Use "CREATE EXTENSION cache_aside" to load this file. \quit

/* ---- capture: rules, keys, gaps ---- */

/* ---- worker: delivery and status ---- */

/* ---- reads: guarded fills ---- */

/* ---- row versions ---- */

/* ---- items ---- */

/* ---- routing ---- */

/*
 * output_settings.h: session settings that the text of a value depends on, and pinning them.
 */
#ifndef CA_OUTPUT_SETTINGS_H
#define CA_OUTPUT_SETTINGS_H

#include "cache_aside.h"

#include "fmgr.h"

#define CA_PIN_DATE 0x01
#define CA_PIN_ZONE 0x02
#define CA_PIN_INTERVAL 0x04
#define CA_PIN_FLOAT 0x08
#define CA_PIN_BYTEA 0x10
#define CA_PIN_MONEY 0x20
#define CA_PIN_OTHER 0x40 /* search_path, quoting, xml: what only less usual types read */
#define CA_PIN_ALL 0x7f

extern int ca_output_settings_needed(const FmgrInfo *output); /* CA_PIN_* of an output function */
/* Pins what differs; returns the nest level for ca_output_settings_undo, or -1 when nothing differed. */
extern int ca_output_settings_apply(int pins);
extern void ca_output_settings_undo(int nest);

#endif

/*
 * event_text.h: the text of an event. See event_text.c.
 */
#ifndef CA_EVENT_TEXT_H
#define CA_EVENT_TEXT_H

#include "cache_aside.h"
#include "delivery/delivery.h"

/* Of the batch's keys, and of notes as events.c keeps them. */
extern void ca_event_text_write(StringInfo out, const CaBatch *batch, const CaEventMark *mark,
								CaMessage notes, XLogRecPtr lsn);

#endif

/*
 * wire.h: the input as what a Redis sends; see wire.c.
 */
#ifndef CA_WIRE_H
#define CA_WIRE_H

#include "fuzz.h"

/*
 * The next connections read these bytes, at most `chunk` at a time; 0: a line at a time, and only when
 * something was asked, as a Redis does that is none too hostile.
 */
extern void wire_feed(const uint8 *data, Size len, Size chunk);

#endif

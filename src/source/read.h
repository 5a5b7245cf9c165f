/* SPDX-License-Identifier: MIT */
#ifndef FL_SOURCE_READ_H
#define FL_SOURCE_READ_H

#include <faultline/source.h>

/*
 * Ends a read at its layer: the layer above hears of it by the frame it pushed, the one who
 * submitted it by done(). The read belongs to them from here on; touch it no more.
 */
static inline void fl_read_end(struct fl_read *read, int result)
{
	struct fl_read_frame *frame;

	read->result = result;
	if (!read->depth) {
		read->done(read);
		return;
	}
	frame = &read->frames[--read->depth];
	frame->done(read, frame);
}

#endif
